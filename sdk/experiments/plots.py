"""Trade-off curves: accuracy against compression, theoretical speed-up, bytes and latency."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from zeroskip.errors import MissingToolError
from zeroskip.experiments.cells import CONTROL
from zeroskip.experiments.store import Row
from zeroskip.experiments.tables import Line, lines
from zeroskip.tools import has_package, write_whole

# column -> (label of the axis, file name)
AXES: Final = {
    "compression": ("compression: parameters / non-zero parameters", "compression"),
    "speedup": ("theoretical speed-up: multiply-adds / those with a weight", "speedup"),
    "bytes": ("container, bytes (measured)", "bytes"),
    "latency_ms": ("latency, ms (estimated)", "latency"),
}
_MARKERS: Final = "osD^vP*X<>hd"


def check() -> None:
    """Raises MissingToolError without matplotlib."""
    if not has_package("matplotlib"):
        raise MissingToolError(
            "matplotlib is not installed; run: pip install 'zeroskip[experiment]'"
        )


def write(rows: Sequence[Row], folder: Path) -> list[Path]:
    """An SVG and a PNG per model and axis for which there are values. Raises MissingToolError,
    OSError."""
    check()
    folder.mkdir(parents=True, exist_ok=True)
    found = lines(rows)
    written = []
    for model in dict.fromkeys(line.model for line in found):
        chosen = [line for line in found if line.model == model]
        for axis, (label, name) in AXES.items():
            if any(line.method != CONTROL and line.statistic(axis) for line in chosen):
                stem = re.sub(r"[^\w.-]+", "-", f"{name}-{model.rpartition(':')[2]}")
                written += _plot(chosen, axis, label, model, folder / stem)
    return written


def _plot(found: Sequence[Line], axis: str, label: str, model: str, stem: Path) -> list[Path]:
    # The object interface: no global state, no display.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    control = next((line for line in found if line.method == CONTROL), None)
    if control is not None and (top1 := control.statistic("top1")):
        axes.axhline(100 * top1.mean, color="0.35", linestyle="--", label=CONTROL)
        for edge in (top1.mean - top1.deviation, top1.mean + top1.deviation):
            axes.axhline(100 * edge, color="0.8", linewidth=0.8, zorder=0)
    rows = [line for line in found if line.method != CONTROL]
    for i, row in enumerate(dict.fromkeys(line.label for line in rows)):
        points = []
        for line in rows:
            x, y = line.statistic(axis), line.statistic("top1")
            if line.label == row and x and y:
                points.append((x.mean, 100 * y.mean, x.deviation, 100 * y.deviation))
        if points:
            xs, ys, xerr, yerr = zip(*sorted(points), strict=True)
            axes.errorbar(
                xs, ys, yerr, xerr, label=row, capsize=2, linewidth=1.1, markersize=4.5,
                marker=_MARKERS[i % len(_MARKERS)], color=f"C{i % 10}",
                linestyle=("-", "--", ":")[i // 10 % 3],
            )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)
    axes.set_ylabel("top-1 accuracy, % (mean ± standard deviation over seeds)")
    axes.set_title(model)
    axes.grid(color="0.9")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png")]
    for path in paths:
        content = io.BytesIO()
        kind = path.suffix[1:]
        with rc_context({"svg.hashsalt": "zeroskip"}):  # equal results give equal files
            figure.savefig(
                content, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None
            )
        write_whole(path, content.getvalue())
    return paths
