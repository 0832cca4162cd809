"""Results as text and as Markdown: a line per method and sparsity, means over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from zeroskip.experiments.cells import CONTROL
from zeroskip.experiments.store import Row


@dataclass(frozen=True)
class Statistic:
    """Mean and sample standard deviation (0 for one value) over `count` seeds."""

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Statistic:
        return cls(mean(values), stdev(values) if len(values) > 1 else 0.0, len(values))

    def percent(self) -> str:
        spread = f" ± {100 * self.deviation:.2f}" if self.count > 1 else ""
        return f"{100 * self.mean:.2f}{spread}"


@dataclass(frozen=True)
class Line:
    """The cells of one model, method, ablation and sparsity."""

    model: str
    method: str
    ablation: str
    sparsity: float
    rows: tuple[Row, ...]

    @property
    def label(self) -> str:
        return self.method if self.ablation == "none" else f"{self.method}, {self.ablation}"

    def statistic(self, column: str) -> Statistic | None:
        """Over the seeds that have such a value; None if none has."""
        values = [row[column] for row in self.rows if row[column] is not None]
        return Statistic.of(values) if values else None


def lines(rows: Sequence[Row]) -> list[Line]:
    """Cells that were trained (their conversion may have failed), by model, sparsity and falling
    accuracy."""
    groups: dict[tuple[str, str, str, float], list[Row]] = {}
    for row in rows:
        if row["top1"] is not None:
            place = (row["model"], row["method"], row["ablation"], row["sparsity"])
            groups.setdefault(place, []).append(row)
    found = [Line(*place, tuple(cells)) for place, cells in groups.items()]

    def order(line: Line) -> tuple[Any, ...]:
        top1 = line.statistic("top1")
        return line.model, line.sparsity, -(top1.mean if top1 else 0.0), line.label

    return sorted(found, key=order)


HEAD = (
    "method", "zeros %", "top-1 %", "top-5 %", "before fine-tuning %", "compression", "speed-up",
    "bytes", "latency ms", "collapsed", "seeds",
)  # fmt: skip


def cells(line: Line) -> list[str]:
    """The columns of HEAD."""

    def percent(column: str) -> str:
        found = line.statistic(column)
        return found.percent() if found else "-"

    def plain(column: str, form: str) -> str:
        found = line.statistic(column)
        return format(found.mean, form) if found else "-"

    collapsed = sum(1 for row in line.rows if row["collapsed"])
    return [
        line.label,
        f"{100 * line.sparsity:g}" if line.method != CONTROL else "0",
        percent("top1"),
        percent("top5"),
        percent("top1_pruned"),
        plain("compression", ".1f"),
        plain("speedup", ".1f"),
        plain("bytes", ",.0f"),
        plain("latency_ms", ".2f"),
        f"{collapsed} of {len(line.rows)}" if collapsed else "",
        str(len(line.rows)),
    ]


def used(found: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Head and rows, without the columns that say nothing anywhere."""
    body = [cells(line) for line in found]
    keep = [i for i in range(len(HEAD)) if any(row[i] not in ("", "-") for row in body)]
    return [HEAD[i] for i in keep], [[row[i] for i in keep] for row in body]


def markdown(rows: Sequence[Row]) -> str:
    """A table per model."""
    found = lines(rows)
    parts = []
    for model in dict.fromkeys(line.model for line in found):
        head, body = used([line for line in found if line.model == model])
        table = [head, ["---"] * len(head), *body]
        parts.append(f"{model}:\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in table) + "\n")
    return "\n".join(parts)
