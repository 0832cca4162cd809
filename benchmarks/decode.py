"""Cycles that decoding takes, for every codec, on emulated cores.

    python benchmarks/decode.py [--write]

Firmware with one layer per codec runs on the emulated board, and the cycles of each codec's own
functions are divided by the symbols they gave: per stored element for values, per non-zero weight
for positions. A 1 x 1 convolution decodes a row of 256 to 512 columns at a time, a fully connected
layer 16 elements. The table is printed; with --write it replaces benchmarks/decode.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fit_costs import parts_of

from zeroskip.converters import codecs
from zeroskip.converters.ir import Conv2D, FullyConnected
from zeroskip.emulation.layers import (
    Layer,
    Run,
    activations,
    board_of,
    run_all,
    sparse_int8,
)

TABLE: Final = Path(__file__).with_name("decode.md")
CORES: Final = ("cortex-m4", "cortex-m0plus")
COLUMNS: Final = 512
ROWS: Final = 64
CENTROIDS: Final = (16, 32, 64, 254)
POSITION_SPARSITIES: Final = (0.5, 0.9)

# Rows, by this script's method: of the decoder before tables (commit ffe3ce3), and of one with a
# table of 7 bits, looked up three at a time (commit 1a8f684).
HUFFMAN_BEFORE: Final = {
    "cortex-m4": {16: (42.2, 13.5), 32: (49.5, 14.4), 64: (56.6, 15.6), 254: (70.6, 28.4)},
    "cortex-m0plus": {16: (71.7, 27.7), 32: (80.0, 29.3), 64: (88.2, 31.5), 254: (104.2, 55.9)},
}


def pair(weights: codecs.Array, positions: str, values: str, name: str) -> list[Layer]:
    """The same matrix as a 1 x 1 convolution and as a fully connected layer."""
    image, vector = activations((COLUMNS, 4, 4), 1.0, 0), activations((COLUMNS,), 1.0, 0)
    return [
        Layer(f"row {name}", weights[..., None, None], positions, values, image, Conv2D(
            (1, 1), (1, 1), (0, 0, 0, 0))),
        Layer(f"chunks {name}", weights, positions, values, vector, FullyConnected()),
    ]  # fmt: skip


def layers() -> list[Layer]:
    found = []
    for sparsity in POSITION_SPARSITIES:
        weights = sparse_int8((ROWS, COLUMNS), sparsity, 16, 1)
        for positions in codecs.POSITIONS:
            found += pair(weights, positions, "raw", f"{positions} {sparsity:g}")
    for centroids in CENTROIDS:
        weights = sparse_int8((ROWS, COLUMNS), 0.5, centroids, 1)
        for values in codecs.VALUES:
            found += pair(weights, "bitmask", values, f"{values} {centroids}")
    return found


def per_symbol(run: Run, part: int) -> float:
    """Cycles of positions (part 0) or values (1) per stored symbol."""
    return parts_of(run)[part] / run.encoded.count


def table(core: str) -> list[str]:
    runs = {run.layer.name: run for run in run_all(layers(), board_of(core))}

    def row(name: str, title: str, part: int, extra: str) -> str:
        figures = [per_symbol(runs[f"{kind} {name}"], part) for kind in ("row", "chunks")]
        return f"| {core} | {title} | {figures[0]:.1f} | {figures[1]:.1f} | {extra} |"

    lines = [
        row(f"{p} {s:g}", f"positions {p}, {100 * s:.0f} % zeros", 0, "")
        for p in codecs.POSITIONS
        for s in POSITION_SPARSITIES
    ]
    for values in codecs.VALUES:
        for k in CENTROIDS:
            before = ""
            if values == "huffman":
                before = ", then ".join(f"{f:.1f}" for f in HUFFMAN_BEFORE[core][k])
            bits = 8 * len(runs[f"row {values} {k}"].encoded.coded.stream)
            bits_each = bits / runs[f"row {values} {k}"].encoded.count
            title = f"values {values}, {k} centroids, {bits_each:.1f} bits"
            lines.append(row(f"{values} {k}", title, 1, before))
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Cycles per decoded symbol.")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    args = parser.parse_args(argv)
    text = HEAD + "\n".join(line for core in CORES for line in table(core)) + "\n"
    print(text, end="")
    if args.write:
        TABLE.write_text(text, encoding="utf-8")
    return 0


HEAD: Final = """\
# Cycles per decoded symbol

Printed by `make bench-decode`, **estimated**: cycles of each codec's own functions in emulated
firmware, gcc -O2, zero wait states, per stored weight. Row: a row at a time, as convolutions
decode. Chunks: 16 weights at a time, as fully connected layers do. Before: rows of Huffman codes
before short codes were looked up in a table (commit ffe3ce3), then with a table of 7 bits (commit
1a8f684). 0.0: kernels for dense weights take them without positions.

| core | codec | row | chunks | before |
|---|---|---:|---:|---:|
"""


if __name__ == "__main__":
    sys.exit(main())
