"""What the charts of a report show, as data for page.js: rows by series, with bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from zeroskip.report.runs import Layer, Run

MAX_ROWS: Final = 40
_ZEROS_STYLE: Final = 6  # a colour and symbol that few runs have

Chart = dict[str, Any]
Bounds = tuple[float, float]
Value = float | None


def latency(runs: Sequence[Run], labels: Sequence[str]) -> Chart | None:
    """Milliseconds per layer and run; None where no run has any."""
    return _per_layer("latency", "ms", runs, labels, Run.layer_ms, lambda run: None)


def energy(runs: Sequence[Run], labels: Sequence[str]) -> Chart | None:
    """Microjoules per layer and run, with their bounds; None where no run has any."""
    named = [
        label
        if run.energy is None
        else f"{label}, {run.clock_hz / 1e6:g} MHz, {printable(run.energy.conditions)}"
        for run, label in zip(runs, labels, strict=True)
    ]
    return _per_layer(
        "energy", "\N{MICRO SIGN}J", runs, named, Run.layer_microjoules, _energy_factors
    )


def work(runs: Sequence[Run], labels: Sequence[str]) -> Chart | None:
    """Percent of weights that are zero and of multiply-accumulates left out, for the layers with
    weights; None if there are none."""
    layers = runs[0].layers
    chosen = sorted(
        (i for i, layer in enumerate(layers) if layer.weights), key=lambda i: -layers[i].macs
    )[:MAX_ROWS]
    if not chosen:
        return None
    chosen.sort()
    series = ["weights that are zero"]
    values = [[_percent(layers[i].sparsity) for i in chosen]]
    styles = [_ZEROS_STYLE]
    different = not same_work(runs)
    for number, (run, label) in enumerate(zip(runs, labels, strict=True)):
        skipped = [_percent(run.layers[i].skipped) for i in chosen]
        if any(v is not None for v in skipped) and (different or len(series) == 1):
            series.append(f"MACs skipped, {label}" if different else "MACs skipped")
            values.append(skipped)
            styles.append(number)
    rows = [_title(i, layers[i].name) for i in chosen]
    return _chart(
        "zeros and skipped work", "%", rows, series, values, domain=[0, 100], styles=styles
    )


def codecs(run: Run) -> Chart:
    """Bytes of the container per codec."""
    found = codec_bytes(run)
    return _chart(
        "bytes of the container",
        "bytes",
        [name for name, _ in found],
        ["bytes"],
        [[float(count) for _, count in found]],
        named=False,
    )


def codec_bytes(run: Run) -> list[tuple[str, int]]:
    """Bytes by codec, most first; then ops without weights, and what belongs to no op."""
    by_codec: dict[str, int] = {}
    plain = 0
    for layer in run.layers:
        if layer.codec is None:
            plain += layer.bytes
        else:
            by_codec[layer.codec] = by_codec.get(layer.codec, 0) + layer.bytes
    found = sorted(by_codec.items(), key=lambda item: (-item[1], item[0]))
    rest = run.model.bytes - plain - sum(by_codec.values())
    if plain:
        found.append(("ops without weights", plain))
    return [*found, ("header, tensors and names", rest)] if rest > 0 else found


def same_work(runs: Sequence[Run]) -> bool:
    """Whether some run knows the multiply-accumulates executed, and all that do agree."""
    counts = {tuple(layer.macs_executed for layer in run.layers) for run in runs}
    known = [each for each in counts if any(v is not None for v in each)]
    return len(known) == 1


def _per_layer(
    what: str,
    unit: str,
    runs: Sequence[Run],
    labels: Sequence[str],
    value_of: Callable[[Run, Layer], Value],
    factors_of: Callable[[Run], Bounds | None],
) -> Chart | None:
    series, values, bounds, styles = [], [], [], []
    for number, (run, label) in enumerate(zip(runs, labels, strict=True)):
        found = [value_of(run, layer) for layer in run.layers]
        if all(v is None for v in found):
            continue
        factors = factors_of(run)
        series.append(label)
        styles.append(number)
        values.append(found)
        bounds.append(
            [None if v is None or factors is None else [v * f for f in factors] for v in found]
        )
    if not series:
        return None
    names = [_title(i, layer.name) for i, layer in enumerate(runs[0].layers)]
    rows, (values, bounds) = _largest(names, values, bounds)
    known = any(b is not None for row in bounds for b in row)
    return _chart(
        f"{what} per layer", unit, rows, series, values, bounds if known else None, styles=styles
    )


def _largest(
    names: list[str], values: list[list[Value]], bounds: list[list[Any]]
) -> tuple[list[str], tuple[list[list[Value]], list[list[Any]]]]:
    """At most MAX_ROWS rows: the last is the sum of those that are left out, without bounds."""
    if len(names) <= MAX_ROWS:
        return names, (values, bounds)
    top = [max(row[i] or 0.0 for row in values) for i in range(len(names))]
    kept = sorted(sorted(range(len(names)), key=lambda i: -top[i])[: MAX_ROWS - 1])
    others = set(range(len(names))) - set(kept)
    return (
        [*(names[i] for i in kept), f"{len(others)} others"],
        (
            [[*(row[i] for i in kept), sum(row[i] or 0.0 for i in others)] for row in values],
            [[*(row[i] for i in kept), None] for row in bounds],
        ),
    )


def _chart(
    title: str,
    unit: str,
    rows: list[str],
    series: list[str],
    values: list[list[Value]],
    bounds: list[list[Any]] | None = None,
    domain: list[float] | None = None,
    named: bool = True,
    styles: list[int] | None = None,
) -> Chart:
    """The object of a chart, with a sentence for those who cannot see it. `styles` numbers colours
    and symbols: a run has the same in all charts of its model."""
    said = []
    for name, found in zip(series, values, strict=True):
        known = [(v, i) for i, v in enumerate(found) if v is not None]
        if known:
            most, at = max(known, key=lambda pair: (pair[0], -pair[1]))
            said.append(f"{name}: most in {rows[at]}, {most:.3g} {unit}")
    return {
        "title": title,
        "unit": unit,
        "rows": rows,
        "series": series,
        "styles": styles or list(range(len(series))),
        "named": named,
        "values": [[_rounded(v) for v in found] for found in values],
        "bounds": bounds
        and [[None if b is None else [_rounded(v) for v in b] for b in found] for found in bounds],
        "domain": domain,
        "summary": f"Chart, {title} in {unit}. {'; '.join(said)}. The table has all values.",
    }


def _energy_factors(run: Run) -> Bounds | None:
    """Lowest and highest energy over the typical one."""
    if run.energy is None:
        return None
    uj = run.energy.microjoules
    if uj.low is None or uj.high is None or not uj.typical:
        return None
    return uj.low / uj.typical, uj.high / uj.typical


def _title(index: int, name: str) -> str:
    return f"{index} {printable(name)}"


def printable(text: str) -> str:
    """Text without characters that would show as something else, such as a change of direction."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _percent(share: float | None) -> Value:
    return None if share is None else 100 * share


def _rounded(value: Value) -> Value:
    return None if value is None else float(f"{value:.5g}")
