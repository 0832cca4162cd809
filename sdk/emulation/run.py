"""Running a container on an emulated board."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy.typing as npt

from zeroskip import elf, firmware
from zeroskip.boards import Board
from zeroskip.emulation import protocol, qemu, unicorn_machine
from zeroskip.emulation.cycles import count_instructions, model_of
from zeroskip.emulation.profile import Profile, Region, by_function, marks_of
from zeroskip.emulation.protocol import Fault
from zeroskip.errors import EmulationError, InputError, MissingToolError
from zeroskip.firmware import Compiler, Firmware, Optimize
from zeroskip.runtime import Model
from zeroskip.tools import find_program, has_package, host_compiler

Array = npt.NDArray[Any]
Emulator = Literal["qemu", "unicorn"]

DEFAULT_TIMEOUT_S: Final = 600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpCounts:
    """One op, summed over the batch. `cycles`, at zero wait states, is None for cores without a
    timing table; `wait_cycles`, for the flash, None if that is not modelled.

    The call of the hook function that marks an op is counted with it: about ten instructions.
    """

    index: int
    instructions: int
    cycles: int | None
    wait_cycles: int | None
    macs_executed: int


@dataclass(frozen=True)
class FunctionCounts:
    """One function's own instructions, summed over the batch, without what it calls. `cycles` and
    `wait_cycles` as in `OpCounts`."""

    name: str
    instructions: int
    cycles: int | None
    wait_cycles: int | None


@dataclass(frozen=True)
class EmulationResult:
    """What an emulated run gave and took.

    `outputs` holds one array (N, *shape) per output of the model, in its own dtype. Totals are
    sums over the `samples` = N inferences, from the call of zs_run() to its return without the
    hooks' own code. `functions` has the most expensive first. `stack_bytes` is the most the whole
    firmware used. `matches_host` says whether every output is bit for bit what the host runtime
    gives.
    """

    board: Board
    emulator: Emulator
    firmware: Firmware
    outputs: tuple[Array, ...]
    samples: int
    total_instructions: int
    total_cycles: int | None
    total_wait_cycles: int | None
    ops: tuple[OpCounts, ...]
    functions: tuple[FunctionCounts, ...]
    stack_bytes: int
    matches_host: bool

    @property
    def instructions(self) -> int:
        """Instructions per inference, rounded to the nearest."""
        return _mean(self.total_instructions, self.samples)

    @property
    def cycles(self) -> int | None:
        """Cycles per inference at zero wait states, rounded; None if the core has no timing
        table."""
        return None if self.total_cycles is None else _mean(self.total_cycles, self.samples)

    @property
    def wait_cycles(self) -> int | None:
        """Cycles per inference that the core waits for its flash at the board's highest clock,
        rounded; None if the board does not describe its flash, or a host without a C compiler
        counted."""
        if self.total_wait_cycles is None:
            return None
        return _mean(self.total_wait_cycles, self.samples)

    @property
    def cycles_with_waits(self) -> int | None:
        """`cycles` and `wait_cycles` together, at the board's highest clock; None if one is."""
        if self.cycles is None or self.wait_cycles is None:
            return None
        return self.cycles + self.wait_cycles

    @property
    def latency_ms(self) -> float | None:
        """Milliseconds per inference at the board's highest clock; with the waits for the flash
        where they are modelled."""
        if self.cycles is None:
            return None
        return (self.cycles + (self.wait_cycles or 0)) / self.board.clock.hz * 1e3


def choose_emulator(wanted: Emulator | None = None, board: Board | None = None) -> Emulator:
    """The emulator to use: the wanted one, or QEMU before Unicorn.

    QEMU needs a C compiler, for the plugin that counts. Raises MissingToolError, and InputError
    if Unicorn is wanted for a board whose core it lacks.
    """
    emulable = board is None or board.core.unicorn_cpu is not None
    if wanted == "unicorn" and board is not None and not emulable:
        raise InputError(f"Unicorn has no {board.core.name}, the core of {board.name}: use QEMU")
    qemu_there = find_program(qemu.PROGRAM) is not None
    available: dict[Emulator, bool] = {
        "qemu": qemu_there and host_compiler() is not None,
        "unicorn": emulable and has_package("unicorn"),
    }
    if wanted is None:
        for name, there in available.items():
            if there:
                return name
    elif wanted not in available:
        raise InputError(f"emulator '{wanted}' is not one of qemu, unicorn")
    elif available[wanted]:
        return wanted
    elif wanted == "qemu" and qemu_there:
        raise MissingToolError("counting under QEMU needs a C compiler (apt install gcc)")
    other = " or unicorn (pip install 'zeroskip[emulate]')" if emulable else ""
    raise MissingToolError(
        f"no emulator{f' {wanted}' if wanted else ''}: install qemu-system-arm "
        f"(apt install qemu-system-arm){other}"
    )


def emulate(
    container: bytes,
    board: Board,
    inputs: Sequence[npt.ArrayLike],
    *,
    emulator: Emulator | None = None,
    compiler: Compiler | None = None,
    optimize: Optimize = "2",
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> EmulationResult:
    """Build firmware for `board`, run it on `inputs` without hardware, count what it executes.

    `inputs` holds one array (N, *shape) per input of the model, as `Model.run` takes them. The
    image is linked for `board.emulation` and is the same for both emulators, which count the
    same instructions.

    Raises FormatError and InputError as `Model` does, FitError, MissingToolError, ToolError,
    and EmulationError if the firmware faults, hangs longer than `timeout_s` seconds, or breaks
    its protocol. Outputs that differ from the host's are not an error: see `matches_host`.
    """
    model = Model(container)
    prepared = model.prepare(*inputs)
    samples = prepared[0].shape[0]
    if samples == 0:
        raise InputError("the batch is empty: emulation needs at least one input")
    chosen = choose_emulator(emulator, board)
    with tempfile.TemporaryDirectory(prefix="zeroskip-") as scratch:
        folder = Path(scratch)
        built = firmware.build(
            container, board, output=folder / "firmware.elf", compiler=compiler,
            image="emulated", optimize=optimize,
        )  # fmt: skip
        image = elf.parse(built.path.read_bytes())
        (folder / protocol.INPUT_FILE).write_bytes(protocol.encode_inputs(prepared))
        _log.info("running %d inferences under %s", samples, chosen)
        profile = execute(built, image, folder, chosen, timeout_s)
        report = read_report(folder, image)
    counter = _Counter(image, board)
    counts = {region: counter.count(counted) for region, counted in profile.items()}
    ops = _op_counts(counts, report.ops, model.op_count, samples)
    expected = model.run(*prepared)
    matches = all(
        a.tobytes() == b.tobytes()
        for a, b in zip(
            report.outputs, expected if isinstance(expected, list) else [expected], strict=True
        )
    )
    return EmulationResult(
        board=board,
        emulator=chosen,
        firmware=built,
        outputs=report.outputs,
        samples=samples,
        total_instructions=sum(c.instructions for c in counts.values()),
        total_cycles=_sum(c.cycles for c in counts.values()),
        total_wait_cycles=_sum(c.wait_cycles for c in counts.values()),
        ops=ops,
        functions=_function_counts(
            profile, image, counter, _sum(c.wait_cycles for c in counts.values())
        ),
        stack_bytes=report.stack_bytes,
        matches_host=matches,
    )


def execute(
    built: Firmware, image: elf.Elf, folder: Path, emulator: Emulator, timeout_s: float
) -> Profile:
    """Run emulated firmware in `folder`; the execution counts. Raises EmulationError."""
    marks = marks_of(image)
    if emulator == "qemu":
        return qemu.run(built.path, built.board, folder, marks, timeout_s)
    ended = unicorn_machine.run(built.path, built.board, folder, marks, timeout_s)
    if isinstance(ended, Fault):
        raise fault_error(ended, image)
    return ended


def read_report(folder: Path, image: elf.Elf) -> protocol.Report:
    """What the firmware reported. Raises EmulationError on a fault, and as decode_results."""
    path = folder / protocol.RESULT_FILE
    if not path.exists():
        raise EmulationError("the firmware ended before it could report anything")
    report = protocol.decode_results(path.read_bytes())
    if isinstance(report, Fault):
        raise fault_error(report, image)
    return report


def fault_error(fault: Fault, image: elf.Elf) -> EmulationError:
    """A fault as an error that names the function."""
    reason = fault.reason or (f"CFSR {fault.cause:#010x}" if fault.cause else "HardFault")
    if fault.pc == protocol.LOST:
        return EmulationError(
            f"HardFault: stack overflow ({reason}); raise stack.size in board.toml"
        )
    return EmulationError(
        f"HardFault at {fault.pc:#010x} in {image.function_at(fault.pc)}, "
        f"called from {image.function_at(fault.lr & ~1)} ({reason})"
    )


@dataclass(frozen=True)
class _Counts:
    instructions: int
    cycles: int | None
    wait_cycles: int | None


class _Counter:
    """What regions of one program cost on a board."""

    def __init__(self, image: elf.Elf, board: Board) -> None:
        self._image = image
        timing = board.core.timing
        self._model = None if timing is None else model_of(image, timing)
        flash = board.flash_timing
        self._no_waits = None if flash is None or flash.wait_states else 0

    def count(self, region: Region) -> _Counts:
        waits = self._no_waits if region.waits is None else region.waits.cycles
        if self._model is None:
            return _Counts(count_instructions(self._image, region), None, waits)
        return _Counts(self._model.instructions(region), self._model.cycles(region), waits)


def _op_counts(
    counts: Mapping[int, _Counts], executed: Sequence[tuple[int, int]], op_count: int, samples: int
) -> tuple[OpCounts, ...]:
    """Counts per op. The marks number ops by their order, which the records must confirm."""
    if [index for index, _ in executed] != list(range(op_count)) * samples:
        raise EmulationError("the firmware did not run the ops in order")
    macs = [0] * op_count
    for index, count in executed:
        macs[index] += count
    regions = [counts[k + 1] for k in range(op_count)]
    return tuple(
        OpCounts(k, region.instructions, region.cycles, region.wait_cycles, macs[k])
        for k, region in enumerate(regions)
    )


def _function_counts(
    profile: Profile, image: elf.Elf, counter: _Counter, waits: int | None
) -> tuple[FunctionCounts, ...]:
    """The most expensive first. `waits` is how long all of them waited."""
    found = []
    for name, region in by_function(profile.values(), image).items():
        counts = counter.count(region)
        stalls = None if waits is None else region.stalls.total()
        found.append(FunctionCounts(name, counts.instructions, counts.cycles, stalls))
    return tuple(sorted(found, key=lambda f: (-_cost(f), f.name)))


def _cost(f: FunctionCounts) -> int:
    return (f.cycles or f.instructions) + (f.wait_cycles or 0)


def _sum(values: Iterable[int | None]) -> int | None:
    """The sum, or None if a value is missing."""
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _mean(total: int, count: int) -> int:
    return (2 * total + count) // (2 * count)
