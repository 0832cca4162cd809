"""Power instruments behind one interface, and energy between the edges of the trigger pin.

The firmware drives its trigger pin low for 20 microseconds before and after the inferences
that are timed, as the MLPerf Tiny energy mode does for one (th_timestamp).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from zeroskip.errors import MeasureError

FloatArray = npt.NDArray[np.float64]

# The harness ignores edges this close to the last: contacts and level shifters ring.
DEBOUNCE_S: Final = 50e-6


@dataclass(frozen=True)
class Trace:
    """Samples of a supply: `seconds` ascending, `amperes` and `volts` of the same length;
    `falling` are the times of the trigger's falling edges, ascending."""

    seconds: FloatArray
    amperes: FloatArray
    volts: FloatArray
    falling: FloatArray


class Instrument(Protocol):
    """A source that supplies the board and measures what it draws."""

    name: str
    volts: float

    def start(self) -> None:
        """Begin a trace."""

    def stop(self) -> Trace:
        """End it. Raises MeasureError."""

    def close(self) -> None:
        """Give the instrument back; a board that it supplies is without power."""


@dataclass(frozen=True)
class Window:
    """What was drawn between two edges, for one inference."""

    microjoules: float
    milliwatts: float
    seconds: float


@dataclass(frozen=True)
class EnergyRun:
    """Of one inference: the medians over `runs` of `iterations` inferences each, and what they
    were measured with. `seconds` is what an inference takes between the edges."""

    microjoules: float
    milliwatts: float
    seconds: float
    lowest_microjoules: float
    highest_microjoules: float
    runs: int
    iterations: int
    instrument: str
    volts: float

    @staticmethod
    def median(windows: Sequence[Window], instrument: Instrument, iterations: int) -> EnergyRun:
        energies = [w.microjoules for w in windows]
        return EnergyRun(
            microjoules=statistics.median(energies),
            milliwatts=statistics.median(w.milliwatts for w in windows),
            seconds=statistics.median(w.seconds for w in windows),
            lowest_microjoules=min(energies),
            highest_microjoules=max(energies),
            runs=len(windows),
            iterations=iterations,
            instrument=instrument.name,
            volts=instrument.volts,
        )


def energy_of(trace: Trace, inferences: int) -> Window:
    """Integrate power (trapezoids) between the first two edges of a trace. Raises MeasureError
    unless there are exactly two, within the samples."""
    edges = debounced(trace.falling)
    if len(edges) != 2:
        raise MeasureError(
            f"{len(edges)} edges of the trigger pin where 2 should be: is it connected?"
        )
    begin, end = float(edges[0]), float(edges[1])
    if not len(trace.seconds) or begin < trace.seconds[0] or end > trace.seconds[-1]:
        raise MeasureError("the instrument's samples do not cover the inferences")
    power = trace.amperes * trace.volts
    inside = (trace.seconds > begin) & (trace.seconds < end)
    times = np.concatenate(([begin], trace.seconds[inside], [end]))
    watts = np.interp(times, trace.seconds, power)
    joules = float(np.sum((watts[1:] + watts[:-1]) / 2 * np.diff(times)))
    return Window(
        microjoules=joules * 1e6 / inferences,
        milliwatts=joules / (end - begin) * 1e3,
        seconds=(end - begin) / inferences,
    )


def debounced(falling: FloatArray) -> FloatArray:
    """Edges without those within DEBOUNCE_S of the one before."""
    kept: list[float] = []
    for at in falling:
        if not kept or at - kept[-1] > DEBOUNCE_S:
            kept.append(float(at))
    return np.array(kept)


def falling_edges(levels: npt.NDArray[Any], seconds: FloatArray) -> FloatArray:
    """The times at which sampled levels (0 or 1) go from 1 to 0."""
    high = levels.astype(bool)
    edges: FloatArray = seconds[1:][high[:-1] & ~high[1:]]
    return edges


INSTRUMENTS: Final = ("ppk2", "joulescope", "lpm01a")


def open_instrument(kind: str, volts: float, port: str | None = None) -> Instrument:
    """The instrument of that kind, supplying `volts`. Raises MeasureError, MissingToolError."""
    if kind == "ppk2":
        from zeroskip.measure.power.ppk2 import Ppk2

        return Ppk2.open(volts, port)
    if kind == "joulescope":
        from zeroskip.measure.power.joulescope import Joulescope

        return Joulescope.open(volts)
    if kind == "lpm01a":
        from zeroskip.measure.power.lpm01a import Lpm01a

        return Lpm01a.open(volts, port)
    raise MeasureError(f"no instrument '{kind}': instruments are {', '.join(INSTRUMENTS)}")
