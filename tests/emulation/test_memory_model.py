"""The flash of a board: caches and prefetch against a plain simulation; QEMU and Unicorn alike."""

import ctypes
import random
import time
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from device_models import random_int8, reference_container, small_model

from zeroskip import boards
from zeroskip.boards import Cache, FlashTiming
from zeroskip.emulation import emulate, unicorn_machine
from zeroskip.emulation.profile import compile_trace
from zeroskip.runtime import Model

START, SIZE = 0x08000000, 0x10000


class Counts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in (
        "fetches", "fetch_misses", "fetch_stalls", "loads", "load_misses", "load_stalls",
    )]  # fmt: skip


class Memory:
    """memory_model.c."""

    def __init__(self, *shape: int) -> None:
        self._library = ctypes.CDLL(str(compile_trace(qemu_plugin=False)))
        self._library.memory_new.restype = ctypes.c_void_p
        self._library.memory_fetch.argtypes = [
            ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p,
        ]  # fmt: skip
        self._library.memory_load.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p]
        self._model = self._library.memory_new((ctypes.c_uint32 * 12)(START, SIZE, *shape))
        self.counts = Counts()

    def fetch(self, address: int, size: int) -> None:
        self._library.memory_fetch(self._model, address, size, ctypes.byref(self.counts))

    def load(self, address: int) -> None:
        self._library.memory_load(self._model, address, ctypes.byref(self.counts))


pytestmark = pytest.mark.tool("cc")


@pytest.mark.parametrize(("size", "line", "ways", "read"), [
    (1024, 32, 4, 8), (256, 32, 8, 8), (128, 16, 1, 16), (64, 8, 2, 4),
])  # fmt: skip
def test_a_cache_holds_what_was_used_last(size: int, line: int, ways: int, read: int) -> None:
    memory = Memory(5, read, 0, 0, 0, 0, 0, size, line, ways)
    sets: list[OrderedDict[int, set[int]]] = [OrderedDict() for _ in range(size // line // ways)]
    rng = random.Random(size)
    misses = 0
    for _ in range(3000):
        address = START + int(abs(rng.gauss(0, 2 * size))) % SIZE
        tag, word = address // line, address // read
        held = sets[tag % len(sets)]
        if tag in held:
            held.move_to_end(tag)
        else:
            held[tag] = set()
            if len(held) > ways:
                held.popitem(last=False)
        misses += word not in held[tag]
        held[tag].add(word)
        memory.load(address)
    assert 100 < misses < 2900
    counts = memory.counts
    assert (counts.loads, counts.load_misses, counts.load_stalls) == (3000, misses, 5 * misses)


def test_reads_outside_the_flash_cost_nothing() -> None:
    memory = Memory(5, 8, 0, 0, 0, 0, 0, 0, 0, 0)
    memory.load(0x20000000)
    memory.load(START + SIZE)
    memory.fetch(0x20000000, 64)
    assert memory.counts.loads == memory.counts.fetches == 0


def test_what_is_prefetched_waits_less() -> None:
    """Eight bytes take four cycles to execute, at a cycle per halfword."""
    for prefetch, stalls in ((0, 5 + 5 + 5), (1, 5 + 1 + 1)):
        memory = Memory(5, 8, prefetch, 0, 0, 0, 0, 0, 0, 0)
        memory.fetch(START, 24)
        assert (memory.counts.fetches, memory.counts.fetch_stalls) == (3, stalls)


def test_a_loop_that_fits_the_cache_waits_once() -> None:
    memory = Memory(5, 8, 1, 0, 1024, 32, 4, 0, 0, 0)
    for _ in range(100):
        memory.fetch(START + 64, 512)
    assert memory.counts.fetch_misses == 64
    memory.load(START + 64)  # no data cache, and not unified
    assert memory.counts.load_misses == 1


def test_a_unified_cache_holds_data_too() -> None:
    memory = Memory(5, 8, 0, 1, 1024, 32, 4, 0, 0, 0)
    memory.fetch(START, 32)
    memory.load(START + 8)
    assert memory.counts.load_misses == 0


@pytest.mark.tool("qemu-system-arm", "unicorn")
@pytest.mark.tool("arm-none-eabi-gcc")
def test_qemu_and_unicorn_wait_alike() -> None:
    blob, inputs, _ = small_model(0)
    board = boards.load("nucleo-l4r5zi")
    waits: list[object] = []
    for emulator in ("qemu", "unicorn"):
        result = emulate(blob, board, [inputs], emulator=emulator)  # type: ignore[arg-type]
        waits.append([op.wait_cycles for op in result.ops])
        stalls = {f.name: f.wait_cycles for f in result.functions}
        assert sum(n or 0 for n in stalls.values()) == result.total_wait_cycles
        waits.append(sorted(stalls.items()))
    assert waits[:2] == waits[2:]
    assert all(op.wait_cycles for op in result.ops)


@pytest.mark.tool("arm-none-eabi-gcc")
def test_latency_has_the_waits_in_it(tmp_path: Path) -> None:
    blob, inputs, _ = small_model(0)
    board = boards.load("nucleo-l4r5zi")
    assert board.flash_timing is not None
    slow = FlashTiming(9, 4, False, None, Cache(64, 16, 2), False, "made up")
    kinds = {"none": None, "as it is": board.flash_timing, "slow": slow,
             "fast": replace(slow, wait_states=0)}  # fmt: skip
    results = {k: emulate(blob, replace(board, flash_timing=f), [inputs]) for k, f in kinds.items()}
    cycles = {r.cycles for r in results.values()}
    assert len(cycles) == 1  # at zero wait states
    waits = {k: r.wait_cycles for k, r in results.items()}
    assert waits["none"] is None and waits["fast"] == 0
    assert waits["as it is"] is not None and waits["slow"] is not None
    assert 0 < waits["as it is"] < waits["slow"]
    slowest = results["slow"]
    assert slowest.latency_ms is not None and slowest.cycles is not None
    in_all = slowest.cycles + waits["slow"]
    np.testing.assert_allclose(slowest.latency_ms, in_all / board.clock.hz * 1e3)
    assert sum(f.cycles or 0 for f in slowest.functions) == pytest.approx(
        slowest.total_cycles, rel=0.02
    )


@pytest.mark.tool("qemu-system-arm", "arm-none-eabi-gcc")
def test_a_large_network_is_emulated_in_seconds(data_root: Path) -> None:
    """ResNet-8 with the flash: 2.4 s on two cores of an EPYC, compilation of the firmware in it."""
    blob = reference_container(data_root, "ic")
    inputs = random_int8(Model(blob).inputs[0].shape, 1)
    start = time.perf_counter()
    result = emulate(blob, boards.load("nucleo-l4r5zi"), [inputs], emulator="qemu")
    assert time.perf_counter() - start < 30
    assert result.matches_host and result.wait_cycles


@pytest.mark.tool("unicorn", "arm-none-eabi-gcc")
def test_without_a_compiler_for_the_host_no_waits_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blob, inputs, _ = small_model(0)
    board = boards.load("nucleo-l4r5zi")
    counted = emulate(blob, board, [inputs], emulator="unicorn")
    monkeypatch.setattr(unicorn_machine, "host_compiler", lambda: None)
    plain = emulate(blob, board, [inputs], emulator="unicorn")
    assert plain.wait_cycles is None and plain.cycles_with_waits is None
    assert counted.cycles_with_waits == (counted.cycles or 0) + (counted.wait_cycles or 0)
    assert plain.cycles == counted.cycles
