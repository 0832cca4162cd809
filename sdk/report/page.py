"""Runs as one HTML page without outside references: tables, charts, how each figure was obtained.

The page is Jinja's, with everything escaped. Charts are drawn in the browser, by page.js with
Observable Plot (plot.js, made by tools/vendor_plot.sh); tables beside them say the same to readers
without scripts. A policy in the page lets a browser run those two scripts and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Final

from zeroskip.errors import InputError, MissingToolError
from zeroskip.report import charts
from zeroskip.report.charts import Chart, printable
from zeroskip.report.compare import by_model, comparisons, distinct, labels
from zeroskip.report.runs import Run

MAX_BYTES: Final = 2_000_000
MAX_NAME: Final = 40
_TABLE_RUNS: Final = 4


@dataclass(frozen=True)
class ModelView:
    """One container: its runs, their labels, and the numbers of its charts."""

    key: str
    name: str
    runs: list[Run]
    labels: list[str]
    charts: dict[str, int]
    codecs: list[tuple[str, int]]
    same_work: bool  # in every run that knows it, and one does

    @property
    def layers_key(self) -> str:
        return f"{self.key}-layers"

    @property
    def parts(self) -> list[range]:
        """Indices of runs, as many together as a table on paper holds."""
        count = len(self.runs)
        return [range(i, min(i + _TABLE_RUNS, count)) for i in range(0, count, _TABLE_RUNS)]

    @property
    def worked(self) -> Run | None:
        """A run that knows the multiply-accumulates executed."""
        for run in self.runs:
            if any(layer.macs_executed is not None for layer in run.layers):
                return run
        return None

    def label(self, run: Run) -> str:
        return self.labels[self.runs.index(run)]

    def detail(self, run: Run) -> str:
        """What of a label is neither the board nor whether it is measured."""
        rest = self.label(run).removeprefix(printable(run.board))
        return rest.removeprefix(f", {run.provenance}").removeprefix(", ")


@dataclass
class Notes:
    """Footnotes, numbered in the order of their first mention."""

    texts: list[str] = field(default_factory=list)

    def number(self, text: str) -> int:
        """Raises ValueError for an empty text: a figure without provenance."""
        if not text.strip():
            raise ValueError("a figure without provenance")
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def to_html(runs: Sequence[Run]) -> bytes:
    """The page. Same runs, same bytes.

    Raises InputError without runs, as `by_model` does, or if the page would pass MAX_BYTES;
    MissingToolError without Jinja.
    """
    try:
        import jinja2
    except ImportError:
        raise MissingToolError(
            "the HTML report needs Jinja; run: pip install 'zeroskip[report]'"
        ) from None
    if not runs:
        raise InputError("no runs to report on")
    runs = distinct(runs)
    drawn: list[Chart] = []
    models = _models(runs, drawn)
    notes = Notes()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("zeroskip.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": figure, "percent": percent, "printable": printable, "short": short,
    }  # fmt: skip
    scripts = [_text("plot.js"), _text("page.js")]
    page = environment.get_template("page.html").render(
        models=models,
        boards=list(dict.fromkeys(run.board for run in runs)),
        titles={run.board: run.board_title for run in runs},
        runs=runs,
        charts=drawn,
        comparisons=comparisons(runs),
        notes=notes,
        style=_text("page.css"),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
        licences=_text("plot.licences.txt"),
    )
    content = page.encode()
    if len(content) > MAX_BYTES:
        raise InputError(
            f"the page would have {len(content):,} bytes, over {MAX_BYTES:,}: report on fewer "
            "runs at a time, or write --csv"
        )
    return content


def figure(value: float | None) -> str:
    """A number for people: three significant digits, all of those before the point; "" if None."""
    if value is None:
        return ""
    if isinstance(value, int) or abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percent(share: float | None) -> str:
    """A share, 0 to 1, in percent; "" if None."""
    return "" if share is None else f"{100 * share:.1f}"


def short(name: str) -> str:
    """A name with its middle left out if it is long, as page.js does."""
    if len(name) <= MAX_NAME:
        return name
    tail = MAX_NAME // 3
    return f"{name[: MAX_NAME - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{name[-tail:]}"


def _models(runs: Sequence[Run], drawn: list[Chart]) -> list[ModelView]:
    groups = by_model(runs)
    names = [group[0].model.name for group in groups.values()]
    views = []
    for number, (sha256, group) in enumerate(groups.items()):
        name = names[number]
        if names.count(name) > 1:
            name = f"{name} ({sha256[:8]})"
        named = [printable(label) for label in labels(group)]
        found = {
            "latency": charts.latency(group, named),
            "energy": charts.energy(group, named),
            "work": charts.work(group, named),
            "codecs": charts.codecs(group[0]),
        }
        numbers = {}
        for kind, chart in found.items():
            if chart is not None:
                numbers[kind] = len(drawn)
                drawn.append(chart)
        views.append(
            ModelView(
                f"model-{number}",
                printable(name),
                group,
                named,
                numbers,
                charts.codec_bytes(group[0]),
                charts.same_work(group),
            )
        )
    return views


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Of a script element's content, as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
