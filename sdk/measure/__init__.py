"""Measuring on a board: latency, accuracy, energy. `zeroskip measure`.

The board runs what `zeroskip build` or `zeroskip flash` made; it is talked to over its serial port.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zeroskip.boards import Board
from zeroskip.errors import InputError, MeasureError
from zeroskip.measure.power import EnergyRun, Instrument, energy_of
from zeroskip.measure.protocol import Device, Info, OpCycles
from zeroskip.runtime import Model

Array = npt.NDArray[Any]

ITERATIONS: Final = 10
# What a run of MLPerf Tiny lasts at least, when energy is measured.
ENERGY_RUN_S: Final = 10.0
EMULATED: Final = "cmsdk"  # the serial port of boards that only exist emulated
_TIMEOUT_S: Final = 600.0
_TIME_TOLERANCE: Final = 0.05  # between the board's oscillator and the instrument's
_EDGE_MS: Final = 1.0


@dataclass(frozen=True)
class Latency:
    """Of one inference: the medians over `runs` of `iterations` inferences each.

    `cycles` are those in the runtime; `microseconds` are `cycles` at the board's clock;
    `harness_microseconds` is what the MLPerf Tiny harness tells, in which the copy of the input
    and its own loop are. `ops` are of one more inference.
    """

    runs: int
    iterations: int
    cycles: float
    microseconds: float
    harness_microseconds: float
    lowest_cycles: float
    highest_cycles: float
    ops: tuple[OpCycles, ...]


@dataclass(frozen=True)
class Accuracy:
    """`correct` of `samples` by the largest number of the first output; `exact` of them with all
    outputs bit for bit those of the host."""

    samples: int
    correct: int
    exact: int


@dataclass(frozen=True)
class Measurement:
    """What a board did. `kind` is "measured", or "emulated" for a board whose counter tells no
    time; `provenance` says how every figure was obtained."""

    kind: str
    info: Info
    latency: Latency
    matches_host: bool
    accuracy: Accuracy | None
    energy: EnergyRun | None
    provenance: str

    def to_json(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return asdict(self)


def measure(
    device: Device,
    board: Board,
    container: bytes,
    inputs: Sequence[npt.ArrayLike],
    *,
    runs: int = 5,
    iterations: int | None = None,
    warmups: int = 1,
    labels: Array | None = None,
    instrument: Instrument | None = None,
    progress: Callable[[int, int], None] = lambda done, all_: None,
) -> Measurement:
    """Measure a container that a board runs.

    `inputs` are (N, *shape) as `Model.run` takes them. Latency and energy are those of the first
    sample; outputs of all samples are compared with the host's, and with `labels` (N,) the accuracy
    is counted. With an `instrument` energy is integrated between the edges of the trigger pin.
    `iterations` is by default ITERATIONS, and for energy as many as last ENERGY_RUN_S.

    Raises MeasureError if the board runs other firmware or does not answer, InputError.
    """
    if runs < 1 or (iterations is not None and iterations < 1) or warmups < 0:
        raise InputError("runs and iterations must be above 0, warmups not below")
    model = Model(container)
    prepared = model.prepare(*inputs)
    if labels is not None and len(labels) != len(prepared[0]):
        raise InputError(f"{len(labels)} labels for {len(prepared[0])} samples")
    if not len(prepared[0]):
        raise InputError("no samples: at least one is measured")
    device.synchronise()
    info = device.info()
    _check(info, board, container)
    device.energy_mode(False)  # an earlier session may have ended in it
    if not info.keeps_input:
        iterations, warmups = 1, 0
    latency, energy = None, None
    correct = exact = 0
    samples = len(prepared[0])
    for n in range(samples):
        one = [x[n : n + 1] for x in prepared]
        data = b"".join(x.tobytes() for x in one)
        device.load(data)
        if n == 0:
            latency = _latency(device, info, data, runs, iterations or ITERATIONS, warmups)
            if instrument is not None:
                count = iterations or _lasting(ENERGY_RUN_S, latency)
                energy = _energy(device, info, instrument, data, runs, count)
                if board.console.driver != EMULATED:
                    _check_time(energy, latency)
            device.load(data)
        answer = device.infer(1, 0, _TIMEOUT_S)
        exact += device.outputs(_sizes(model)) == _expected(model, one)
        if labels is not None:
            correct += int(np.argmax(answer.results)) == int(labels[n])
        progress(n + 1, samples)
    assert latency is not None
    return Measurement(
        kind="emulated" if board.console.driver == EMULATED else "measured",
        info=device.info(),
        latency=latency,
        matches_host=exact == samples,
        accuracy=None if labels is None else Accuracy(samples, correct, exact),
        energy=energy,
        provenance=_provenance(board, info, latency),
    )


def _check(info: Info, board: Board, container: bytes) -> None:
    if info.board != board.name:
        raise MeasureError(f"the firmware is for {info.board}, not for {board.name}")
    crc = int.from_bytes(container[-4:], "little")
    if (info.model_crc, info.model_bytes) != (crc, len(container)):
        raise MeasureError("the board runs another model: write this one with `zeroskip flash`")


def _latency(
    device: Device, info: Info, data: bytes, runs: int, iterations: int, warmups: int
) -> Latency:
    cycles, microseconds = [], []
    for run in range(runs):
        if run and not info.keeps_input:
            device.load(data)
        done = device.infer(iterations, warmups, _TIMEOUT_S)
        cycles.append(done.cycles / iterations)
        if done.microseconds is None:
            raise MeasureError("the board did not tell when the inferences began and ended")
        microseconds.append(done.microseconds / iterations)
    if not info.keeps_input:
        device.load(data)
    ops = device.ops(_TIMEOUT_S)
    return Latency(
        runs=runs,
        iterations=iterations,
        cycles=statistics.median(cycles),
        microseconds=statistics.median(cycles) / info.clock_hz * 1e6,
        harness_microseconds=statistics.median(microseconds),
        lowest_cycles=min(cycles),
        highest_cycles=max(cycles),
        ops=tuple(ops),
    )


def _lasting(seconds: float, latency: Latency) -> int:
    """The inferences that take so long, at least ITERATIONS."""
    return max(ITERATIONS, math.ceil(seconds * 1e6 / max(latency.harness_microseconds, 1.0)))


def _energy(
    device: Device, info: Info, instrument: Instrument, data: bytes, runs: int, iterations: int
) -> EnergyRun:
    device.energy_mode(True)
    try:
        found = []
        for _ in range(runs):
            if not info.keeps_input:
                device.load(data)
            instrument.start()
            device.infer(iterations, 0, _TIMEOUT_S)
            found.append(energy_of(instrument.stop(), iterations))
    except MeasureError:
        with suppress(MeasureError):  # the first error is the one to tell
            device.energy_mode(False)
        raise
    device.energy_mode(False)
    return EnergyRun.median(found, instrument, iterations)


def _check_time(energy: EnergyRun, latency: Latency) -> None:
    """Raise MeasureError unless edges are as far apart as the board says that they are: samples
    were lost, or the edges are others."""
    seen, told = energy.seconds * 1e3, latency.harness_microseconds / 1e3
    if abs(seen - told) > _TIME_TOLERANCE * told + _EDGE_MS / energy.iterations:
        raise MeasureError(
            f"between the edges an inference takes {seen:.3f} ms, by the board's clock {told:.3f}: "
            "is the trigger pin connected, are samples lost?"
        )


def _sizes(model: Model) -> list[int]:
    return [int(np.prod(p.shape)) * p.dtype.itemsize for p in model.outputs]


def _expected(model: Model, one: Sequence[Array]) -> list[bytes]:
    outputs = model.run(*one)
    return [np.asarray(y).tobytes() for y in (outputs if isinstance(outputs, list) else [outputs])]


def _provenance(board: Board, info: Info, latency: Latency) -> str:
    if board.console.driver == EMULATED:
        return f"{board.name} is emulated: its counter tells the emulator's time, not a latency"
    counter = "the cycle counter" if board.core.cycle_counter == "dwt" else "SysTick"
    return (
        f"measured on {board.name} at {info.clock_hz / 1e6:g} MHz by {counter}, the median of "
        f"{latency.runs} runs of {latency.iterations} inferences"
    )
