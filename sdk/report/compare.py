"""Which runs belong together: models, labels, and estimates beside measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zeroskip.errors import InputError
from zeroskip.report.runs import EnergyFigure, Run


@dataclass(frozen=True)
class Comparison:
    """One figure of a board, estimated and measured, of a whole inference or of a layer.

    `error` is estimated / measured - 1, None for a measurement of 0. `note` says what differs
    between the two beside the error.
    """

    model: str
    board: str
    layer: str | None
    figure: str
    unit: str
    estimated: float
    measured: float
    note: str
    estimate: Run
    measurement: Run

    @property
    def waits(self) -> bool:
        """Whether the estimate has the waits for the flash in its cycles."""
        same_clock = self.estimate.clock_hz == self.measurement.clock_hz
        return self.figure == "cycles" and same_clock and self.estimate.wait_cycles is not None

    @property
    def error(self) -> float | None:
        return self.estimated / self.measured - 1 if self.measured else None


def distinct(runs: Sequence[Run]) -> list[Run]:
    """The runs without repetitions of equal records, in their order."""
    found: list[Run] = []
    for run in runs:
        if run not in found:
            found.append(run)
    return found


def by_model(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by the SHA-256 of the container, in the order of first appearance.

    Raises InputError if runs of one container disagree on its layers: one of them is no record.
    """
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.model.sha256, []).append(run)
    for group in found.values():
        for run in group[1:]:
            if _shape(run) != _shape(group[0]):
                raise InputError(
                    f"runs of {run.model.name!r} on {run.board!r} and {group[0].board!r} have the "
                    "same container and other layers"
                )
    return found


def _shape(run: Run) -> list[tuple[object, ...]]:
    """What the container alone decides."""
    return [
        (a.name, a.op, a.codec, a.bytes, a.weights, a.zeros, a.macs, a.macs_nonzero_weight)
        for a in run.layers
    ]


def labels(runs: Sequence[Run]) -> list[str]:
    """A name for each run of one model: the board, and as much as tells equal ones apart."""
    named = [run.board for run in runs]
    for more in (_provenance, _clock, _compiler):
        named = [
            f"{name}{more(run)}" if named.count(name) > 1 else name
            for run, name in zip(runs, named, strict=True)
        ]
    return [
        f"{name} ({named[: i + 1].count(name)})" if named.count(name) > 1 else name
        for i, name in enumerate(named)
    ]


def _energy_note(e: EnergyFigure, m: EnergyFigure) -> str:
    if e.volts != m.volts:
        return f"measured at {m.volts:g} V, estimated for {e.volts:g} V"
    low, high = e.microjoules.low, e.microjoules.high
    if low is None or high is None:
        return ""
    return f"{'within' if low <= m.microjoules.typical <= high else 'OUTSIDE'} the bounds"


def _provenance(run: Run) -> str:
    return f", {run.provenance}"


def _clock(run: Run) -> str:
    return f", {run.clock_hz / 1e6:g} MHz"


def _compiler(run: Run) -> str:
    return f", {run.compiler} -O{run.optimize}" if run.compiler and run.optimize else ""


def comparisons(runs: Sequence[Run]) -> list[Comparison]:
    """Each measured run beside each estimate of the same container on the same board.

    Where the clocks differ, only cycles compare, those of the estimate at zero wait states. Raises
    InputError as `by_model` does.
    """
    found = []
    for group in by_model(runs).values():
        for m in group:
            for e in group:
                kinds = (e.provenance, m.provenance)
                if e.board == m.board and kinds == ("estimated", "measured"):
                    found += _compare(e, m)
    return found


def _compare(e: Run, m: Run) -> list[Comparison]:
    same_clock = e.clock_hz == m.clock_hz
    note = ""
    if not same_clock:
        note = (
            f"measured at {m.clock_hz / 1e6:g} MHz, estimated for {e.clock_hz / 1e6:g} MHz: "
            "cycles at zero wait states"
        )

    def row(
        layer: str | None, figure: str, unit: str, a: float | None, b: float | None
    ) -> list[Comparison]:
        if a is None or b is None:
            return []
        return [Comparison(e.model.name, e.board, layer, figure, unit, a, b, note, e, m)]

    waits = (e.wait_cycles or 0) if same_clock else 0
    rows = row(None, "cycles", "cycles", None if e.cycles is None else e.cycles + waits, m.cycles)
    if same_clock:
        rows += row(None, "latency_ms", "ms", e.latency_ms, m.latency_ms)
        if e.energy is not None and m.energy is not None:
            note = _energy_note(e.energy, m.energy)
            rows += row(
                None, "energy", "\N{MICRO SIGN}J", e.energy.microjoules.typical,
                m.energy.microjoules.typical,
            )  # fmt: skip
            note = ""
    for a, b in zip(e.layers, m.layers, strict=True):
        rows += row(
            a.name, "cycles", "cycles", a.all_cycles if same_clock else a.cycles, b.all_cycles
        )
    return rows
