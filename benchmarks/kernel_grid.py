"""Cycles of single layers against the sparsity of their weights, on emulated cores.

    python benchmarks/kernel_grid.py [--write]

The grid of `zeroskip bench` on a board of each core. The tables are printed; with --write they
replace benchmarks/kernel_grid.md, and the plot of it benchmarks/kernel_grid.svg.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from zeroskip import bench
from zeroskip.bench import Result
from zeroskip.cli.bench import row
from zeroskip.emulation.layers import BOARDS, board_of

TABLE: Final = Path(__file__).with_name("kernel_grid.md")
PLOT: Final = Path(__file__).with_name("kernel_grid.svg")


def markdown(found: dict[str, list[Result]]) -> str:
    lines = [HEAD.rstrip("\n")]
    lines += [
        "",
        "| layer | active | " + " | ".join(found) + " |",
        "|---|---:|" + "---:|" * len(found),
    ]
    first = next(iter(found.values()))
    for layer, active in dict.fromkeys((r.layer, r.active) for r in first):
        cells = []
        for results in found.values():
            at = bench.break_even(results, layer, active)
            cells.append("never" if at is None else f"{100 * at:.0f} %")
        lines.append(f"| {layer} | {100 * active:g} % | " + " | ".join(cells) + " |")
    for core, results in found.items():
        lines += ["", f"## {core}", "", COLUMNS.rstrip("\n")]
        lines += ["| " + " | ".join(row(r)) + " |" for r in results]
    return "\n".join(lines) + "\n"


def plot(found: dict[str, list[Result]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "zeroskip"
    from matplotlib import pyplot

    layers = list(dict.fromkeys(r.layer for r in next(iter(found.values()))))
    figure, axes = pyplot.subplots(
        len(found), len(layers), figsize=(3.4 * len(layers), 2.8 * len(found)), squeeze=False
    )
    for y, (core, results) in enumerate(found.items()):
        for x, layer in enumerate(layers):
            axis = axes[y][x]
            for dense in (True, False):
                points = [r for r in results if r.layer == layer and r.dense == dense]
                points = [r for r in points if r.active == 1.0]
                axis.plot(
                    [100 * r.sparsity for r in points],
                    [r.cycles / 1e6 for r in points],
                    marker="o",
                    markersize=3,
                    linestyle="--" if dense else "-",
                    label="zeros stored" if dense else "zeros left out",
                )
            axis.set_title(f"{layer}\n{core}", fontsize=8)
            axis.set_ylim(bottom=0)
            axis.tick_params(labelsize=7)
            if x == 0:
                axis.set_ylabel("million cycles (estimated)", fontsize=8)
            if y == len(found) - 1:
                axis.set_xlabel("zero weights, %", fontsize=8)
    axes[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("".join(f"{line.rstrip()}\n" for line in lines), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Cycles of single layers by sparsity.")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}, {PLOT.name}")
    args = parser.parse_args(argv)
    found = {core: bench.run(board_of(core)) for core in BOARDS}
    text = markdown(found)
    print(text, end="")
    if args.write:
        TABLE.write_text(text, encoding="utf-8")
        plot(found, PLOT)
    return 0


HEAD: Final = """\
# Kernels by sparsity

Printed by `make bench-kernels`; `zeroskip bench --board BOARD` gives the same for any board. Cycles
are **estimated** (additive models of the cores, zero wait states, gcc -O2). Weights are random, of
200 values; inputs are padded beforehand, as the converter does. *Active* is the share of inputs
that are not zero: single ones for fully connected layers, whole channels for convolutions. Each
layer runs twice, with its zeros stored and with them left out, in the codec that
[the cost model](costs.md) predicts to be the fastest.

![cycles against sparsity](kernel_grid.svg)

Zero weights from which on leaving them out is faster, interpolated:
"""

COLUMNS: Final = """\
| layer | zeros | active | codec | bytes | cycles | per MAC | per executed MAC |
|---|---:|---:|---|---:|---:|---:|---:|
"""


if __name__ == "__main__":
    sys.exit(main())
