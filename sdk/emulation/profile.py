"""Execution counts of one run: what trace.c writes, or counts kept in Python instead."""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final

from zeroskip import elf
from zeroskip.boards import Board
from zeroskip.errors import EmulationError, MissingToolError
from zeroskip.tools import cache_folder, cached, host_compiler, run_tool

BETWEEN: Final = 0  # the region between two ops; op k is region 1 + k
FLASH_KNOWN_ERROR: Final = (
    "the latencies of three networks on an STM32L4R5 came out 0 to 8 % off "
    "(benchmarks/timing_validation.md), other flashes were not compared"
)
_SOURCES: Final = (
    "memory_model.h", "memory_model.c", "trace.h", "trace.c", "qemu_plugin.c",
)  # fmt: skip
_COMPILE_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True)
class Marks:
    """Addresses of the port's functions that switch the region (runtime_c/port/port.h)."""

    run: int
    op: int
    op_end: int
    between: int
    stop: int


@dataclass(frozen=True)
class Waits:
    """What a region read of the flash, and the cycles it waited (memory_model.h)."""

    fetches: int
    fetch_misses: int
    fetch_stalls: int
    loads: int
    load_misses: int
    load_stalls: int

    @property
    def cycles(self) -> int:
        return self.fetch_stalls + self.load_stalls


@dataclass
class Region:
    """Counts of one region. Addresses have no Thumb bit.

    `blocks` counts (address, bytes); `edges` counts (address, bytes, address of the block that
    followed); `mispredicted` counts by block the branches that a two-bit counter would not have
    foreseen; `stalls` sums by block the cycles that it waited for the flash. `waits` is None if the
    flash was not modelled.
    """

    blocks: Counter[tuple[int, int]] = field(default_factory=Counter)
    edges: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    mispredicted: Counter[tuple[int, int]] = field(default_factory=Counter)
    stalls: Counter[tuple[int, int]] = field(default_factory=Counter)
    waits: Waits | None = None


Profile = dict[int, Region]


def memory_shape(board: Board) -> tuple[int, ...] | None:
    """The numbers of struct memory_shape (memory_model.h) for an image linked for emulation, or
    None for a board whose flash keeps up or is not described."""
    timing = board.flash_timing
    if timing is None or timing.wait_states == 0:
        return None
    caches: list[int] = []
    for cache in (timing.instruction_cache, timing.data_cache):
        caches += (0, 0, 0) if cache is None else (cache.size, cache.line_bytes, cache.ways)
    return (
        board.emulation.flash_start, board.flash.size, timing.wait_states, timing.read_bytes,
        int(timing.prefetch), int(timing.unified), *caches,
    )  # fmt: skip


def by_function(regions: Iterable[Region], image: elf.Elf) -> dict[str, Region]:
    """The counts of each function's own instructions, those of several regions together; `waits`
    are not split, `stalls` are."""
    found: dict[str, Region] = {}
    for region in regions:
        for counted in ("blocks", "edges", "mispredicted", "stalls"):
            for place, count in getattr(region, counted).items():
                part = found.setdefault(image.function_at(place[0]), Region())
                getattr(part, counted)[place] += count
    return found


def marks_of(image: elf.Elf) -> Marks:
    """The marks of emulated firmware."""
    return Marks(
        run=image.symbol("port_mark_run"),
        op=image.symbol("port_op_begin"),
        op_end=image.symbol("port_op_end"),
        between=image.symbol("port_mark_between"),
        stop=image.symbol("port_mark_stop"),
    )


def read_profile(path: Path) -> Profile:
    """Parse what trace_write() wrote. Raises EmulationError if it is not complete."""
    profile: Profile = {}
    try:
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise EmulationError(f"the emulator wrote no execution counts: {error}") from error
    lines = text.splitlines()
    if not lines or lines[-1] != "END":
        raise EmulationError("the execution counts are incomplete: the counter ran out of memory")
    for line in lines[:-1]:
        kind, *texts = line.split()
        numbers = [int(text) for text in texts]
        if kind == "M":
            profile.setdefault(numbers[0], Region()).waits = Waits(*numbers[1:])
            continue
        *place, region, count = numbers
        counts = profile.setdefault(region, Region())
        if kind == "E":
            counts.edges[place[0], place[1], place[2]] += count
        else:
            counted = {"B": counts.blocks, "P": counts.mispredicted, "W": counts.stalls}[kind]
            counted[place[0], place[1]] += count
    return profile


class PythonTrace:
    """trace.c in Python, for Unicorn on a host without a C compiler: about 400 times slower, and
    without the flash."""

    def __init__(self, marks: Marks) -> None:
        self.profile: Profile = {}
        self._actions: dict[int, Callable[[], None]] = {
            marks.run: self._run,
            marks.op: self._op,
            marks.op_end: self._pause,
            marks.stop: self._pause,
            marks.between: self._between,
        }
        self._region: Region | None = None
        self._previous: tuple[int, int] | None = None
        self._next_op = 0
        self._taken: Counter[tuple[int, int]] = Counter()

    def enter(self, address: int, size: int) -> None:
        """The block of `size` bytes at `address` is about to execute."""
        block = (address, size)
        if self._region is not None and self._previous is not None:
            self._region.edges[*self._previous, address] += 1
            self._predict(self._region, self._previous, address)
        if action := self._actions.get(address):
            action()
        if self._region is None:
            self._previous = None
            return
        self._region.blocks[block] += 1
        self._previous = block

    def _predict(self, region: Region, block: tuple[int, int], target: int) -> None:
        taken = target != block[0] + block[1]
        before = self._taken[block]
        if taken != (before >= 2):
            region.mispredicted[block] += 1
        self._taken[block] = min(before + 1, 3) if taken else max(before - 1, 0)

    def _run(self) -> None:
        self._next_op = 0
        self._between()

    def _op(self) -> None:
        self._next_op += 1
        self._region = self.profile.setdefault(self._next_op, Region())

    def _pause(self) -> None:
        self._region = None

    def _between(self) -> None:
        self._region = self.profile.setdefault(BETWEEN, Region())


def compile_trace(*, qemu_plugin: bool) -> Path:
    """The shared library of trace.c, with the QEMU plugin or without; compiled on first use.

    Raises MissingToolError without a C compiler, ToolError if it fails.
    """
    compiler = host_compiler()
    if compiler is None:
        raise MissingToolError("counting instructions in QEMU needs a C compiler (apt install gcc)")
    root = resources.files(__package__)
    sources = {name: root.joinpath(name).read_bytes() for name in _SOURCES}
    state = hashlib.sha256(f"{platform.platform()} {compiler}".encode())
    for name in _SOURCES:
        state.update(sources[name])
    kind = "plugin" if qemu_plugin else "hook"
    units = ["trace.c", "memory_model.c", *(["qemu_plugin.c"] if qemu_plugin else [])]

    def make(target: Path) -> None:
        target.mkdir()
        for name, content in sources.items():
            (target / name).write_bytes(content)
        run_tool(
            [
                compiler, "-std=c99", "-D_POSIX_C_SOURCE=200809L", "-O2", "-fPIC", "-shared",
                *(["-undefined", "dynamic_lookup"] if platform.system() == "Darwin" else []),
                *units, "-o", "trace.so",
            ],
            timeout_s=_COMPILE_TIMEOUT_S,
            cwd=target,
        )  # fmt: skip

    folder = cached(cache_folder("trace"), f"{kind}-{state.hexdigest()[:24]}", make)
    return folder / "trace.so"
