"""Models on emulated boards: the bits of the host, and counts that both emulators agree on."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from device_models import random_int8, reference_container, small_model

from zeroskip import boards, elf, firmware
from zeroskip.converters import reference
from zeroskip.emulation import EmulationResult, Emulator, emulate, protocol, unicorn_machine
from zeroskip.emulation import run as emulation
from zeroskip.emulation.profile import marks_of
from zeroskip.errors import EmulationError, FitError, FormatError, InputError, MissingToolError
from zeroskip.firmware import Compiler
from zeroskip.runtime import Model

needs_gcc = pytest.mark.tool("arm-none-eabi-gcc")
needs_zig = pytest.mark.tool("ziglang")
needs_qemu = pytest.mark.tool("qemu-system-arm", "cc")
needs_unicorn = pytest.mark.tool("unicorn", "capstone")
QEMU = pytest.param("qemu", marks=[needs_qemu, pytest.mark.tool("capstone")])
UNICORN = pytest.param("unicorn", marks=needs_unicorn)
EMULATORS = [QEMU, UNICORN]
IN_UNICORN = [name for name in boards.names() if boards.load(name).core.unicorn_cpu]
BOARDS = [
    pytest.param(name, *emulator.values, marks=emulator.marks)
    for name in boards.names()
    for emulator in EMULATORS
    if emulator is QEMU or name in IN_UNICORN
]
CORES = [
    pytest.param(name, *emulator.values, marks=emulator.marks)
    for name in {boards.load(name).core.name: name for name in boards.names()}.values()
    for emulator in EMULATORS
    if emulator is QEMU or name in IN_UNICORN
]
COMPILERS = [pytest.param("gcc", marks=needs_gcc), pytest.param("zig", marks=needs_zig)]


def counts(result: EmulationResult) -> tuple[object, ...]:
    return result.ops, result.total_instructions, result.total_cycles, result.stack_bytes


def check_bits(
    number: int, dtype: str, board: boards.Board, emulator: Emulator, compiler: Compiler
) -> None:
    blob, inputs, graph = small_model(number, dtype)
    result = emulate(blob, board, [inputs], emulator=emulator, compiler=compiler)
    expected = reference.run(graph, [inputs])[0]
    assert result.outputs[0].dtype == expected.dtype
    assert result.outputs[0].tobytes() == expected.tobytes()
    assert result.matches_host and result.samples == 3
    assert (result.cycles is None) == (board.core.timing is None)
    assert [op.macs_executed for op in result.ops] == Model(blob).run_counted(inputs)[1]
    assert 0 < result.stack_bytes < board.stack.size


# Most tests take the same model: firmware is compiled for each set of ops, core and compiler.


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(("name", "emulator"), BOARDS)
def test_every_board_gives_the_bits_of_the_oracle(
    name: str, emulator: Emulator, compiler: Compiler
) -> None:
    check_bits(0, "int8", boards.load(name), emulator, compiler)


@needs_gcc
@pytest.mark.parametrize(("name", "emulator"), CORES)
def test_every_core_gives_the_bits_of_the_oracle_in_float32(name: str, emulator: Emulator) -> None:
    check_bits(0, "float32", boards.load(name), emulator, "gcc")


@needs_gcc
@pytest.mark.parametrize("number", range(1, 9))
def test_other_models_give_the_bits_of_the_oracle(number: int) -> None:
    name = boards.names()[number % len(boards.names())]
    dtype = ("int8", "float32")[number % 2]
    check_bits(number, dtype, boards.load(name), emulation.choose_emulator(), "gcc")


@needs_qemu
@needs_unicorn
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", IN_UNICORN)
def test_both_emulators_count_the_same(name: str, compiler: Compiler) -> None:
    blob, inputs, _ = small_model(0)
    board = boards.load(name)
    results = [
        emulate(blob, board, [inputs], emulator=e, compiler=compiler) for e in get_args(Emulator)
    ]
    assert counts(results[0]) == counts(results[1])
    assert results[0].total_instructions > sum(op.instructions for op in results[0].ops) > 0


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("emulator", EMULATORS)
def test_kws_on_mps2_an386(emulator: Emulator, compiler: Compiler, data_root: Path) -> None:
    blob = reference_container(data_root, "kws")
    inputs = random_int8(Model(blob).inputs[0].shape, 2)
    result = emulate(
        blob, boards.load("mps2-an386"), [inputs], emulator=emulator, compiler=compiler
    )
    assert result.matches_host
    assert result.cycles is not None and result.cycles > result.instructions > 1_000_000


@needs_gcc
@needs_qemu
@pytest.mark.parametrize("name", ["mps2-an505", "mps3-an547"])
def test_ic_on_newer_cores(name: str, data_root: Path) -> None:
    blob = reference_container(data_root, "ic")
    inputs = random_int8(Model(blob).inputs[0].shape, 1)
    result = emulate(blob, boards.load(name), [inputs], emulator="qemu", compiler="gcc")
    assert result.matches_host and result.instructions > 1_000_000
    # Two cores that issue at most one instruction a cycle, but for a few.
    assert result.cycles is not None and 0.9 < result.cycles / result.instructions < 2.0


@needs_gcc
@pytest.mark.parametrize("emulator", EMULATORS)
def test_counts_of_a_batch_are_the_sum_of_its_parts(emulator: Emulator) -> None:
    blob, inputs, _ = small_model(0)
    board = boards.load("microbit")

    def total(x: np.ndarray) -> tuple[int, int | None, list[int]]:
        r = emulate(blob, board, [x], emulator=emulator, compiler="gcc")
        return r.total_instructions, r.total_cycles, [op.instructions for op in r.ops]

    whole, parts = total(inputs), [total(inputs[i : i + 1]) for i in range(3)]
    assert whole[0] == sum(p[0] for p in parts)
    assert whole[1] == sum(p[1] or 0 for p in parts)
    assert whole[2] == [sum(column) for column in zip(*(p[2] for p in parts), strict=True)]


@needs_gcc
@needs_unicorn
@pytest.mark.tool("cc")
def test_counting_in_python_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    blob, inputs, _ = small_model(0)
    board = boards.load("mps2-an385")
    native = emulate(blob, board, [inputs], emulator="unicorn", compiler="gcc")
    monkeypatch.setattr(unicorn_machine, "host_compiler", lambda: None)
    assert counts(emulate(blob, board, [inputs], emulator="unicorn", compiler="gcc")) == counts(
        native
    )


@needs_gcc
def test_runs_are_deterministic() -> None:
    blob, inputs, _ = small_model(0)
    board = boards.load("raspberry-pi-pico")
    first, second = (emulate(blob, board, [inputs], compiler="gcc") for _ in range(2))
    assert counts(first) == counts(second)


def test_latency_is_cycles_at_the_boards_clock() -> None:
    blob, inputs, _ = small_model(0)
    result = emulate(blob, boards.load("nucleo-f446re"), [inputs[:1]])
    assert result.cycles is not None and result.wait_cycles is not None
    assert result.latency_ms == pytest.approx((result.cycles + result.wait_cycles) / 180e3)


def test_bad_input() -> None:
    blob, inputs, _ = small_model(0)
    board = boards.load("mps2-an386")
    with pytest.raises(InputError, match="shape"):
        emulate(blob, board, [inputs[:, :-1] if inputs.ndim == 2 else inputs[..., None]])
    with pytest.raises(InputError, match="inputs"):
        emulate(blob, board, [inputs, inputs])
    with pytest.raises(InputError, match="batch is empty"):
        emulate(blob, board, [inputs[:0]])
    with pytest.raises(InputError, match="emulator 'bochs'"):
        emulate(blob, board, [inputs], emulator="bochs")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Unicorn has no cortex-m55"):
        emulate(blob, boards.load("mps3-an547"), [inputs], emulator="unicorn")
    with pytest.raises(FormatError):
        emulate(blob[:-1], board, [inputs])
    tiny = dataclasses.replace(board, ram=dataclasses.replace(board.ram, size=4104))
    with pytest.raises(FitError, match="RAM needs"):
        emulate(blob, tiny, [inputs])


def test_missing_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulation, "has_package", lambda name: False)
    monkeypatch.setattr(emulation, "host_compiler", lambda: None)
    monkeypatch.setattr(emulation, "find_program", lambda name: "/usr/bin/" + name)
    with pytest.raises(MissingToolError, match="under QEMU needs a C compiler"):
        emulation.choose_emulator("qemu")
    monkeypatch.setattr(emulation, "find_program", lambda name: None)
    for wanted in (None, *get_args(Emulator)):
        with pytest.raises(MissingToolError, match="install qemu-system-arm"):
            emulation.choose_emulator(wanted)


# What firmware does wrong, made with another main program in place of main_emulated.c.

PROGRAM = b"""
#include "port.h"
#include "semihost.h"
void port_on_fault(uint32_t pc, uint32_t lr, uint32_t cause)
{
    const uint32_t record[5] = { 6, 12, pc, lr, cause };
    int file = semihost_open("result.bin", SEMIHOST_WRITE);
    semihost_write(file, record, sizeof record);
    semihost_exit(3);
}
__attribute__((noinline)) void port_op_end(void);
__attribute__((noinline)) void port_op_end(void) { __asm__ volatile("nop"); }
void port_systick(void);
void port_systick(void) { }
__attribute__((noinline)) int recurse(int depth);
__attribute__((noinline)) int recurse(int depth)
{
    volatile int here[64];
    here[0] = depth;
    return depth == 0 ? 0 : recurse(depth - 1) + here[0];
}
void culprit(uint32_t misdeed);
__attribute__((noinline)) void culprit(uint32_t misdeed)
{
    switch (misdeed) {
    case 0: for (;;) { }
    case 1: *(volatile int *)0x90000000u = 1; break;
    case 2: (void)*(volatile int *)0x90000000u; break;
    case 3: __asm__ volatile("udf #0"); break;
    case 4: recurse(100); break;
    case 5: (void)*(volatile int *)((uintptr_t)port_arena_start + 1); break;
    default: semihost_exit(2);
    }
}
int main(void)
{
    uint32_t misdeed = 0;
    semihost_read(semihost_open("input.bin", SEMIHOST_READ), &misdeed, sizeof misdeed);
    port_mark_run();
    port_op_begin(0, 0);
    port_op_end();
    port_mark_between();
    port_mark_stop();
    culprit(misdeed);
    semihost_exit(0);
}
"""
HANG, WRITE, READ, UNDEFINED, RECURSE, UNALIGNED, EXIT = range(7)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


RunProgram = Callable[[int, str, Emulator, float], None]


@pytest.fixture
def run_program(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunProgram:
    """Build the program for a board, have it do a misdeed, read its report."""
    original = firmware._resource

    def resource(*path: str) -> bytes:
        return PROGRAM if path[-1] == "main_emulated.c" else original(*path)

    def run(misdeed: int, name: str, emulator: Emulator, timeout_s: float) -> None:
        monkeypatch.setattr(firmware, "_resource", resource)
        monkeypatch.setenv("ZEROSKIP_CACHE", str(cache))
        built = firmware.build(
            small_model(0)[0],
            boards.load(name),
            output=tmp_path / "f.elf",
            compiler="gcc",
            image="emulated",
        )
        image = elf.parse(built.path.read_bytes())
        (tmp_path / "input.bin").write_bytes(misdeed.to_bytes(4, "little"))
        emulation.execute(built, image, tmp_path, emulator, timeout_s)
        emulation.read_report(tmp_path, image)

    return run


@needs_gcc
@pytest.mark.parametrize("emulator", EMULATORS)
@pytest.mark.parametrize(
    ("name", "misdeed"),
    [
        ("mps2-an386", WRITE),
        ("mps2-an386", UNDEFINED),
        ("mps2-an386", RECURSE),
        ("mps2-an505", READ),
        ("mps2-an505", RECURSE),
        ("microbit", WRITE),
        ("microbit", RECURSE),
    ],
)
def test_a_fault_is_reported(
    name: str, misdeed: int, emulator: Emulator, run_program: RunProgram
) -> None:
    with pytest.raises(EmulationError, match=r"HardFault") as caught:
        run_program(misdeed, name, emulator, 20)
    where = ("recurse", "stack overflow") if misdeed == RECURSE else ("culprit",)
    assert any(w in str(caught.value) for w in where), caught.value


@needs_gcc
@needs_qemu
@pytest.mark.parametrize("name", ["raspberry-pi-pico", "microbit"])
def test_an_unaligned_access_faults_as_on_armv6m(name: str, run_program: RunProgram) -> None:
    with pytest.raises(EmulationError, match=r"HardFault at .* in culprit"):
        run_program(UNALIGNED, name, "qemu", 20)


@needs_gcc
@pytest.mark.parametrize("emulator", EMULATORS)
def test_a_hang_ends(emulator: Emulator, run_program: RunProgram) -> None:
    with pytest.raises(EmulationError, match=r"did not end.*longer than 2 s"):
        run_program(HANG, "mps2-an386", emulator, 2)


@needs_gcc
@pytest.mark.parametrize("emulator", EMULATORS)
def test_an_early_exit_is_no_result(emulator: Emulator, run_program: RunProgram) -> None:
    with pytest.raises(EmulationError, match="before it could report anything"):
        run_program(EXIT, "mps2-an386", emulator, 20)


@needs_gcc
@pytest.mark.parametrize("emulator", EMULATORS)
def test_the_device_refuses_what_is_damaged(emulator: Emulator, tmp_path: Path) -> None:
    blob, inputs, _ = small_model(0)
    board = boards.load("mps2-an386")
    built = firmware.build(blob, board, output=tmp_path / "f.elf", compiler="gcc", image="emulated")
    damaged = blob[:-1] + bytes([blob[-1] ^ 1])
    built.path.write_bytes(built.path.read_bytes().replace(blob, damaged))
    image = elf.parse(built.path.read_bytes())
    (tmp_path / protocol.INPUT_FILE).write_bytes(protocol.encode_inputs([inputs]))
    emulation.execute(built, image, tmp_path, emulator, 20)
    with pytest.raises(FormatError, match=r"the device refused the container: not a \.zsk"):
        emulation.read_report(tmp_path, image)


@needs_gcc
@pytest.mark.parametrize("emulator", EMULATORS)
def test_the_device_refuses_inputs_of_another_size(emulator: Emulator, tmp_path: Path) -> None:
    blob, inputs, _ = small_model(0)
    board = boards.load("mps2-an386")
    built = firmware.build(blob, board, output=tmp_path / "f.elf", compiler="gcc", image="emulated")
    image = elf.parse(built.path.read_bytes())
    for arrays, text in (
        ([inputs.reshape(1, -1)], "input 0 has"),
        (list(itertools.repeat(inputs, 2)), "model has 1 inputs, got 2"),
    ):
        (tmp_path / protocol.INPUT_FILE).write_bytes(protocol.encode_inputs(arrays))
        for leftover in ("trace.so", protocol.RESULT_FILE):
            (tmp_path / leftover).unlink(missing_ok=True)
        emulation.execute(built, image, tmp_path, emulator, 20)
        with pytest.raises(InputError, match=text):
            emulation.read_report(tmp_path, image)


@needs_gcc
def test_other_bits_than_the_hosts_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    blob, inputs, _ = small_model(0)
    original = protocol.decode_results

    def flipped(content: bytes) -> protocol.Report | protocol.Fault:
        report = original(content)
        assert isinstance(report, protocol.Report)
        report.outputs[0].view(np.uint8).flat[0] ^= 1
        return report

    monkeypatch.setattr(protocol, "decode_results", flipped)
    assert not emulate(blob, boards.load("mps2-an386"), [inputs], compiler="gcc").matches_host


@needs_gcc
def test_ops_out_of_order_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    blob, inputs, _ = small_model(0)
    original = protocol.decode_results

    def reordered(content: bytes) -> protocol.Report | protocol.Fault:
        report = original(content)
        assert isinstance(report, protocol.Report)
        return dataclasses.replace(report, ops=report.ops[::-1])

    monkeypatch.setattr(protocol, "decode_results", reordered)
    with pytest.raises(EmulationError, match="did not run the ops in order"):
        emulate(blob, boards.load("mps2-an386"), [inputs], compiler="gcc")


@needs_gcc
def test_marks_are_distinct_functions(tmp_path: Path) -> None:
    built = firmware.build(
        small_model(0)[0],
        boards.load("mps2-an386"),
        output=tmp_path / "f.elf",
        compiler="gcc",
        image="emulated",
    )
    marks = marks_of(elf.parse(built.path.read_bytes()))
    assert len(set(dataclasses.astuple(marks))) == 5
