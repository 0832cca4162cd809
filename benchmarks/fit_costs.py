"""Fit the planner's costs (converters/costs.toml) to layers run on emulated cores.

    python benchmarks/fit_costs.py [--write]

Random layers of every kind, in every codec, run in one image per core; a layer's cycles are split
by function, and each part is fitted to its counts (converters/costs.py) by non-negative least
squares of the relative error. Predictions are then compared with other layers, of other seeds,
sizes and sparsities. With --write the costs and benchmarks/costs.md are replaced. To be run
whenever kernels or codecs of the runtime change.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zeroskip import boards
from zeroskip.converters import codecs, costs
from zeroskip.converters.ir import Conv2D, FullyConnected
from zeroskip.emulation.layers import (
    BOARDS,
    Layer,
    Run,
    activations,
    board_of,
    other_ops,
    run_all,
    sparse_int8,
)

Array = npt.NDArray[Any]

ROOT: Final = Path(__file__).resolve().parent.parent
COSTS: Final = ROOT / "converters" / "costs.toml"
TABLE: Final = ROOT / "benchmarks" / "costs.md"
TRAINING: Final = 250  # a container has at most 255 inputs
HELD_OUT: Final = 130
KINDS: Final = (
    "conv", "dense", "pointwise", "depthwise", "fully connected by rows",
    "fully connected by columns", "dense fully connected",
)  # fmt: skip
DSP_CORES: Final = {"cortex-m4"}
POSITION_FUNCTIONS: Final = {
    "ans": ("zs_ans_mask_take", "start_row", "advance", "column_class"),
    "gap": ("zs_gap_take", "zs_gap_start"),
}
VALUE_FUNCTIONS: Final = {
    "ans": ("zs_ans_take", "take_one", "from_deltas", "next_short"),
    "huffman": ("zs_huffman_take", "zs_huffman_start", "zs_huffman_fill"),
}


def random_layer(rng: np.random.Generator, kind: str, name: str) -> Layer:
    """A layer of a kind with random shape, sparsity, codebook and codecs."""

    def pick(*options: Any) -> Any:
        return options[int(rng.integers(len(options)))]

    seed = int(rng.integers(1 << 31))
    sparsity = float(pick(0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98))
    distinct = int(pick(2, 8, 16, 32, 64, 200))
    columns = kind == "fully connected by columns"
    if kind == "dense":
        sparsity = min(sparsity, 0.5)
    fused = columns and pick(True, False, False)  # a kernel of its own
    while True:
        positions, values = pick(*codecs.POSITIONS), pick(*codecs.VALUES)
        if fused:
            positions, values = "gap4", pick("raw", "packed")
        if kind == "dense fully connected":
            positions, values = "dense", "raw"
            sparsity = min(sparsity, 0.5)
        if (positions == "dense" and sparsity > 0.6) or (kind == "dense" and positions != "dense"):
            continue
        if not (columns and "ans" in (positions, values)):
            break
    attributes: Conv2D | FullyConnected = FullyConnected()
    if "fully" in kind:
        inputs, outputs = int(rng.integers(30, 600)), int(rng.integers(8, 128))
        x = activations((inputs,), float(pick(1.0, 0.8, 0.5, 0.3)), seed)
        shape: tuple[int, ...] = (outputs, inputs)
    else:
        pixels = int(rng.integers(4, 24)), int(rng.integers(4, 24))
        channels, outputs = int(rng.integers(2, 40)), int(rng.integers(2, 40))
        kernel = {"pointwise": (1, 1)}.get(kind, pick((3, 3), (3, 3), (5, 5), (1, 3)))
        stride = (1, 1) if kind == "pointwise" else pick((1, 1), (1, 1), (2, 2))
        pad = 0 if kind in ("pointwise", "dense") else pick(0, 1)
        padding = (pad, pad, pad, pad) if min(pixels) >= kernel[0] else (2, 2, 2, 2)
        if kind == "pointwise":
            channels = int(rng.integers(8, 160))
        x = activations((channels, *pixels), float(pick(1.0, 0.8, 0.5)), seed)
        groups = 1
        if kind == "depthwise":
            groups, outputs, sparsity = channels, channels, min(sparsity, 0.5)
        attributes = Conv2D(stride, (1, 1), padding, groups)
        shape = (outputs, channels // groups, *kernel)
    weights = sparse_int8(shape, sparsity, distinct, seed)
    layer = Layer(name, weights, positions, values, x, attributes, columns)
    encoded = layer.encoded()
    if encoded is None or encoded.count < 16:
        return random_layer(rng, kind, name)
    return layer


def random_layers(seed: int, count: int) -> list[Layer]:
    rng = np.random.default_rng(seed)
    return [random_layer(rng, KINDS[i % len(KINDS)], f"layer{i}") for i in range(count)]


def groups_of(run: Run, dsp: bool) -> tuple[costs.Group, costs.Group, costs.Group]:
    layer = run.layer
    matrix = layer.weights.reshape(len(layer.weights), -1)
    stored = matrix.T if layer.by_columns else matrix
    active = float((layer.x != 0).mean())
    return costs.layer_groups(run.graph, run.op, run.encoded, stored, active, dsp)


def parts_of(run: Run) -> tuple[int, int, int]:
    """Cycles in the position codec, in the value codec, in everything else."""
    e = run.encoded
    positions = POSITION_FUNCTIONS.get(e.positions, (f"zs_{e.positions}_take",))
    values = VALUE_FUNCTIONS.get(e.values, (f"zs_{e.values}_take",))
    first = sum(run.by_function.get(name, 0) for name in positions)
    second = sum(run.by_function.get(name, 0) for name in values)
    return first, second, run.cycles - first - second


def fit(runs: Sequence[Run], dsp: bool) -> dict[str, dict[str, float]]:
    """Costs of every table that the runs have counts for."""
    samples: dict[str, list[tuple[costs.Counts, float]]] = {}
    for run in runs:
        for (name, counts), cycles in zip(groups_of(run, dsp), parts_of(run), strict=True):
            samples.setdefault(name, []).append((counts, float(cycles)))
    return {name: fit_one(rows) for name, rows in sorted(samples.items())}


def fit_one(rows: Sequence[tuple[costs.Counts, float]]) -> dict[str, float]:
    """Non-negative costs of least relative squared error: active set, by dropping the negative."""
    keys = sorted({key for counts, _ in rows for key in counts})
    target = np.array([cycles for _, cycles in rows])
    matrix = np.array([[counts.get(key, 0.0) for key in keys] for counts, _ in rows])
    weight = 1 / np.maximum(target, 200.0)
    scale = np.maximum(np.abs(matrix).max(axis=0), 1e-9)
    kept = [i for i in range(len(keys)) if np.abs(matrix[:, i]).max() > 0]
    while True:
        a = (matrix[:, kept] / scale[kept]) * weight[:, None]
        found = np.linalg.lstsq(a, target * weight, rcond=1e-8)[0] / scale[kept]
        if found.size == 0 or found.min() >= 0:
            break
        kept.pop(int(np.argmin(found * scale[kept])))
    solved = dict(zip((keys[i] for i in kept), found, strict=True))
    return {key: float(f"{solved.get(key, 0.0):.4g}") for key in keys}


def errors(fitted: costs.Costs, runs: Sequence[Run]) -> list[tuple[str, float]]:
    """(kind, relative error) of each predicted layer."""
    groups = [groups_of(run, fitted.dsp) for run in runs]
    return [
        (g[2][0], fitted.cycles(*g) / run.cycles - 1) for g, run in zip(groups, runs, strict=True)
    ]


def markdown(results: dict[str, list[tuple[str, float]]]) -> str:
    lines = [HEAD.rstrip("\n")]
    for core, found in results.items():
        for kind in ("all", *sorted({kind for kind, _ in found})):
            e = np.abs([error for k, error in found if kind in ("all", k)])
            lines.append(
                f"| {core} | {kind} | {e.size} | {100 * np.median(e):.1f} % | "
                f"{100 * np.percentile(e, 90):.1f} % | {100 * e.max():.1f} % |"
            )
    return "\n".join(lines) + "\n"


def toml(fitted: costs.Costs, median: float) -> str:
    lines = [f"[{fitted.core}]", f'source = "{fitted.source}"', f"dsp = {str(fitted.dsp).lower()}"]
    lines += [f"median_error = {median:.3f}", ""]
    for name, table in fitted.groups.items():
        lines.append(f'[{fitted.core}."{name}"]')
        lines += [f'"{key}" = {cost:g}' for key, cost in table.items()]
        lines.append("")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fit the planner's costs to emulated runs.")
    parser.add_argument("--write", action="store_true", help=f"write {COSTS.name}, {TABLE.name}")
    args = parser.parse_args(argv)
    results: dict[str, list[tuple[str, float]]] = {}
    document = "# Written by `make costs`; cycles per count, see converters/costs.py.\n\n"
    for core in BOARDS:
        timing = boards.load_core(core).timing
        assert timing is not None
        dsp = core in DSP_CORES
        board = board_of(core)
        groups = fit(run_all(random_layers(1, TRAINING), board), dsp)
        groups["other"] = other_ops(board)
        source = f"benchmarks/fit_costs.py, gcc -O2, {timing.name}"
        fitted = costs.Costs(core, core, dsp, source, 0.0, groups)
        results[core] = errors(fitted, run_all(random_layers(2, HELD_OUT), board))
        median = float(np.median([abs(error) for _, error in results[core]]))
        document += toml(fitted, median)
    text = markdown(results)
    print(text, end="")
    if args.write:
        COSTS.write_text(document.rstrip("\n") + "\n", encoding="utf-8")
        TABLE.write_text(text, encoding="utf-8")
    return 0


HEAD: Final = """\
# Predicted cycles against emulated ones

Printed by `make costs`. Errors of converters/costs.py on layers that its costs were not fitted to:
random int8 layers of other seeds, in all codecs, with the input's true share of zeros given.
Emulated cycles are themselves **estimated** (boards/cores).

| core | kind | layers | median | 90 % within | worst |
|---|---|---:|---:|---:|---:|
"""


if __name__ == "__main__":
    sys.exit(main())
