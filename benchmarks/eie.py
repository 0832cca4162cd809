"""The simulated EIE against Table IV of its paper.

    python benchmarks/eie.py [--write]

Nine layers of the sizes and densities of Table III, random masks. The work of a layer is what the
table calls FLOP%: the density of the weights that meet a non-zero activation. Where that is printed
with two digits it is used (it is not the product of the other two columns: weights
of often active inputs survive pruning more often); of those printed with one digit the rounding is
too coarse, and the density of all weights stands in. With --write benchmarks/eie.md is replaced.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from zeroskip.accelerators.eie import Timing, encode, simulate
from zeroskip.boards import accelerators

ROOT: Final = Path(__file__).resolve().parent.parent
TABLE: Final = ROOT / "benchmarks" / "eie.md"
SEED: Final = 0


@dataclass(frozen=True)
class Layer:
    """A row of Table III, densities in percent, and its times of Table IV in microseconds."""

    name: str
    inputs: int
    outputs: int
    weights: float
    activations: float
    flop: float
    theoretical: float
    actual: float

    @property
    def density(self) -> float:
        """Of the weights in the columns of non-zero activations."""
        return self.flop / self.activations if self.flop >= 10 else self.weights / 100


LAYERS: Final = (
    Layer("Alex-6", 9216, 4096, 9, 35.1, 3, 28.1, 30.3),
    Layer("Alex-7", 4096, 4096, 9, 35.3, 3, 11.7, 12.2),
    Layer("Alex-8", 4096, 1000, 25, 37.5, 10, 8.9, 9.9),
    Layer("VGG-6", 25088, 4096, 4, 18.3, 1, 28.1, 34.4),
    Layer("VGG-7", 4096, 4096, 4, 37.5, 2, 7.9, 8.7),
    Layer("VGG-8", 4096, 1000, 23, 41.1, 9, 7.3, 8.4),
    Layer("NT-We", 4096, 600, 10, 100, 10, 5.2, 8.0),
    Layer("NT-Wd", 600, 8791, 11, 100, 11, 13.0, 13.9),
    Layer("NT-LSTM", 1201, 2400, 10, 100, 11, 6.5, 7.5),
)


def run(layer: Layer, *, queue_depth: int | None = None) -> Timing:
    """The layer with a random mask, its active columns only."""
    accelerator = accelerators.find("eie-64pe")
    assert accelerator is not None
    if queue_depth is not None:
        accelerator = replace(accelerator, queue_depth=queue_depth)
    rng = np.random.default_rng(SEED)
    columns = round(layer.inputs * layer.activations / 100)
    mask = rng.random((layer.outputs, columns), dtype=np.float32) < layer.density
    return simulate(encode(mask, accelerator.elements).entries, accelerator)


def error_percent(found: float, published: float) -> float:
    return 100 * (found / published - 1)


def table() -> str:
    lines = [
        "# The simulated EIE against Table IV of its paper", "",
        "Made by `make bench-eie`. Microseconds of one layer on 64 processing elements at 800 MHz:",
        "published (Han et al., ISCA 2016, arXiv 1602.01528v2, Table IV) and simulated with random",
        "masks of the densities of Table III. Theoretical is work over peak throughput, actual has",
        "the waits of the queues. `balance` is one minus the share of idle cycles, with queues of",
        "8 and of 1 activations. Real masks are not random: VGG-6 has more work than its density",
        "tells, and the paper's actual times more imbalance.", "",
        "| layer | theoretical | simulated | error | actual | simulated | error | balance | at 1 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for layer in LAYERS:
        timing, shallow = run(layer), run(layer, queue_depth=1)
        cells = [layer.name]
        for published, found in (
            (layer.theoretical, timing.theoretical_us),
            (layer.actual, timing.actual_us),
        ):
            cells += [
                f"{published:.1f}",
                f"{found:.2f}",
                f"{error_percent(found, published):+.1f} %",
            ]
        cells += [f"{timing.load_balance:.2f}", f"{shallow.load_balance:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"replace {TABLE.name}")
    text = table()
    print(text)
    if parser.parse_args().write:
        TABLE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
