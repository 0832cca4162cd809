"""Whether convolutions should skip zero activations a word at a time, on an emulated Cortex-M4.

    python benchmarks/word_skipping.py [FOLDER] [--write]

Prototypes of the two kernels for neighbouring pixels test the words of a pair of taps and branch
over what those are multiplied with. They are not in the runtime: they are edits of its sources,
made here, run on emulated layers and compared with the host bit for bit. FOLDER holds
models/mlperf_tiny_{ic,kws,vww}_int8.tflite, and data/ with CIFAR-10 and the keyword inputs; the
default is $ZEROSKIP_DATA. The tables are printed; with --write they replace
benchmarks/word_skipping.md.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import numpy.typing as npt

from zeroskip import boards, conversion, datasets, firmware
from zeroskip.boards import Timing
from zeroskip.converters.ir import Conv2D, Graph, Op
from zeroskip.converters.passes.calibrate import activations as activations_of
from zeroskip.emulation.layers import Layer, activations, board_of, run_all, sparse_int8, timing_of

Array = npt.NDArray[Any]

ROOT: Final = Path(__file__).resolve().parent.parent
TABLE: Final = Path(__file__).with_name("word_skipping.md")
CORE: Final = "cortex-m4"
MODELS: Final = ("ic", "kws", "vww")
SAMPLES: Final = 16  # inputs that shares are counted over
RUNS: Final = 2  # of them, that layers are emulated with
SPARSITIES: Final = (0.0, 0.8, 0.9, 0.95)
ACTIVE: Final = (1.0, 0.5, 0.35, 0.2, 0.1)
TILE: Final = 4  # pixels, whose activations are a word
HEADER: Final = "src/zs_conv_tile_dsp.h"
PLAIN: Final = Conv2D((1, 1), (1, 1), (0, 0, 0, 0))


@dataclass(frozen=True)
class Kernel:
    """A loop over pairs of taps of zs_conv_tile_dsp.h: its registers, where the test goes, and the
    instructions of a pair, `bytes` long. `loads` follow each other before the test; the others are
    skipped with it."""

    name: str
    words: tuple[str, str]  # registers of the words
    free: str  # a register
    last_load: str
    last: str
    bytes: int
    loads: int
    alu: int
    multiplies: int
    lone_loads: int

    @property
    def test(self) -> tuple[str, ...]:
        """Behind a ReLU zeros are -128, which EOR with the immediate 0x80808080 makes 0. The
        emulated layers have a zero point of 0, and an EOR that takes as long."""
        a, b = self.words
        zeros = f"orrs.w {self.free}, {a}, {b}"
        return (f"eor.w {a}, {a}, #0", f"eor.w {b}, {b}, #0", zeros, "beq.w 9f")

    def cycles(self, t: Timing) -> tuple[int, int, int]:
        """Of a pair: as it is; with the test, multiplied; with the test, skipped."""
        load = t.load + (self.loads - 1) * (t.load + t.load_store_after_load)
        rest = self.alu * t.alu + self.multiplies * t.multiply_accumulate + self.lone_loads * t.load
        test = (len(self.test) - 1) * t.alu
        return (
            load + rest,
            load + test + t.branch_not_taken + rest,
            load + test + t.branch_taken,
        )

    def break_even(self, t: Timing) -> float:
        """The share of pairs of zero words from which on the test is worth its cycles."""
        as_it_is, multiplied, skipped = self.cycles(t)
        return (multiplied - as_it_is) / (multiplied - skipped)


KERNELS: Final = (
    Kernel("lists of taps", ("r8", "r9"), "r10", "ldr.w r9, [r1, r9]", "smlad r7, r11, r9, r7",
           60, 5, 6, 4, 0),
    Kernel("dense weights, two filters", ("r10", "r11"), "r12", "ldr.w r11, [r1, r11]",
           "smlad r5, lr, r11, r5", 84, 5, 6, 8, 2),
)  # fmt: skip


def prototype(text: str) -> str:
    """zs_conv_tile_dsp.h with the test in both kernels. Raises ValueError if it does not fit."""
    for kernel in KERNELS:
        text = _append(text, kernel.last_load, kernel.test, r"\\")
        text = _append(text, kernel.last, ("9:",), "")
        longer = kernel.bytes + 4 * len(kernel.test)
        entry = f"ENTRY(pairs, 4, {kernel.bytes})"
        if text.count(entry) != 1:
            raise ValueError(f"{HEADER}: no {entry}")
        text = text.replace(entry, f"ENTRY(pairs, 4, {longer})")
    return text


def _append(text: str, instruction: str, more: Sequence[str], end: str) -> str:
    """`more` after an instruction that is there once on a line that ends so."""
    pattern = rf'("{re.escape(instruction)}\\n\\t") *({end})\n'
    added = " ".join(rf'"{line}\n\t"' for line in more)
    text, count = re.subn(pattern, lambda found: f"{found[1]} {added} {found[2]}\n", text)
    if count != 1:
        raise ValueError(f"{HEADER}: '{instruction}' is there {count} times")
    return text


def emulated(layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """Cycles of each layer as the runtime is, and with the prototypes."""
    board = board_of(CORE)
    before = run_all(layers, board)
    original: Callable[[Sequence[str]], dict[str, bytes]] = firmware._source_files

    def edited(port: Sequence[str]) -> dict[str, bytes]:
        files = original(port)
        files[HEADER] = prototype(files[HEADER].decode()).encode()
        return files

    with mock.patch.object(firmware, "_source_files", edited):
        after = run_all(layers, board)
    return [(a.cycles, b.cycles) for a, b in zip(before, after, strict=True)]


def zero_pairs(zero: Array, weights: Array) -> tuple[float, float]:
    """Shares of words that are zero, of all that the taps of dense weights load, and of pairs of
    words that are, of those that the taps of `weights` load.

    `zero` (N, C, H, W) says which activations are; `weights` (O, C, KH, KW) with stride 1 and no
    padding. Weights without zeros are taken as dense.
    """
    _, channels, kernel_h, kernel_w = weights.shape
    height, width = zero.shape[2] - kernel_h + 1, zero.shape[3] - kernel_w + 1
    starts = np.unique(np.minimum(np.arange(0, width, TILE), width - TILE))
    words = np.stack([zero[..., i : zero.shape[3] - TILE + 1 + i] for i in range(TILE)]).all(axis=0)
    taps = [
        words[:, c, y : y + height][..., starts + x].ravel()
        for c in range(channels)
        for y in range(kernel_h)
        for x in range(kernel_w)
    ]
    loaded = np.array(taps, dtype=np.float64)
    both = loaded @ loaded.T / loaded.shape[1]
    share = pairs = 0.0
    for row in weights.reshape(len(weights), -1):
        kept = np.arange(row.size) if weights.all() else np.flatnonzero(row)
        kept = np.append(kept, kept[-1:]) if len(kept) % 2 else kept
        share += both[kept[::2], kept[1::2]].sum()
        pairs += len(kept) // 2
    return float(loaded.mean()), float(share / max(pairs, 1))


@dataclass(frozen=True)
class Map:
    """The input of a convolution of a model: `zero` (N, C, H, W), padded; `x` as int8 with zeros
    for the zero point and the other values halved; its weights."""

    name: str
    zero: Array
    x: Array
    weights: Array

    def pruned(self, sparsity: float) -> Array:
        """Weights of least magnitude are zero; without sparsity none is."""
        flat = np.where(self.weights == 0, 1, self.weights).flatten()
        order = np.argsort(np.abs(flat.astype(np.int16)), kind="stable")
        flat[order[: round(sparsity * flat.size)]] = 0
        pruned: Array = flat.reshape(self.weights.shape)
        return pruned

    def layer(self, sparsity: float, sample: int) -> Layer:
        positions = "gap4" if sparsity else "dense"
        weights = self.pruned(sparsity)
        return Layer(self.name, weights, positions, "raw", self.x[sample], PLAIN)


def real_maps(root: Path, model: str) -> Iterator[Map]:
    """Of the convolutions that the two kernels run: stride 1, not depthwise."""
    graph = conversion.load_graph(root / "models" / f"mlperf_tiny_{model}_int8.tflite")
    values = next(iter(activations_of(graph, [inputs_of(root / "data", model, graph)])))
    for op in graph.ops:
        a = op.attributes
        if isinstance(a, Conv2D) and a.stride == (1, 1) and a.groups == 1:
            found = _map(graph, op, values)
            if found.zero.shape[3] - found.weights.shape[3] + 1 >= TILE:
                yield found


def _map(graph: Graph, op: Op, values: Mapping[str, Array]) -> Map:
    a = op.attributes
    assert isinstance(a, Conv2D)
    weights = graph.tensors[op.inputs[1]].data
    assert weights is not None
    x = values[op.inputs[0]][:SAMPLES]
    above = x.astype(np.int16) - graph.tensors[op.inputs[0]].zero_point
    halved = np.where(above == 0, 0, np.maximum(above // 2, 1)).astype(np.int8)
    top, bottom, left, right = a.padding
    halved = np.pad(halved, ((0, 0), (0, 0), (top, bottom), (left, right)))
    if weights.shape[2:] == (1, 1):  # one row, as the runtime takes it
        halved = halved.reshape(*halved.shape[:2], 1, -1)
    name = f"{weights.shape[2]}x{weights.shape[3]}, {weights.shape[1]} to {weights.shape[0]}, "
    return Map(name + f"{x.shape[2]}x{x.shape[3]}", halved == 0, halved, weights)


def inputs_of(folder: Path, model: str, graph: Graph) -> Array:
    """int8 (N, H, W, C) as the model takes them; for vww enlarged CIFAR-10 images stand in."""
    if model == "kws":
        return datasets.kws01(folder).test.values[:SAMPLES]
    images = datasets.cifar10(folder).test.values[:SAMPLES]
    times = graph.tensors[graph.inputs[0]].shape[0] // images.shape[2]
    images = images.repeat(times, axis=2).repeat(times, axis=3)
    return np.moveaxis((images.astype(np.int16) - 128).astype(np.int8), 1, -1)


def made_maps() -> Iterator[tuple[str, float, Array]]:
    """Random inputs (32, 18, 18) by pattern and share of what is not zero."""
    rng = np.random.default_rng(5)
    shape = (32, 18, 18)
    full = activations(shape, 1.0, 2)
    for pattern, block in (
        ("single activations", (1, 1, 1)),
        ("blocks of 4x4", (1, 4, 4)),
        ("blocks of 8x8", (1, 8, 8)),
        ("channels", (1, 18, 18)),
    ):
        for active in ACTIVE:
            counts = [-(-n // b) for n, b in zip(shape, block, strict=True)]
            blocks = int(np.prod(counts))
            live = rng.permutation(blocks) < round(active * blocks)
            mask = np.kron(live.reshape(counts), np.ones(block, bool))[:, :18, :18]
            yield pattern, active, np.where(mask, full, 0).astype(np.int8)


def shares_table(root: Path) -> list[str]:
    rows = []
    for model in MODELS:
        for found in real_maps(root, model):
            word, dense = zero_pairs(found.zero, found.pruned(0.0))
            _, sparse = zero_pairs(found.zero, found.pruned(0.9))
            cells = (found.zero.mean(), word, dense, sparse)
            percents = " | ".join(f"{100 * c:.0f} %" for c in cells)
            rows.append(f"| {model} | {found.name} | {percents} |")
    return rows


def real_table(root: Path) -> tuple[list[str], str]:
    """The rows, and what they come to."""
    layers, shares, names = [], [], []
    for model in ("ic", "kws"):
        for found in real_maps(root, model):
            for sparsity in SPARSITIES:
                for sample in range(RUNS):
                    layer = found.layer(sparsity, sample)
                    layers.append(layer)
                    names.append(f"| {model} | {found.name} | {100 * sparsity:.0f} % ")
                    shares.append(zero_pairs(found.zero[[sample]], layer.weights)[1])
    cycles = emulated(layers)
    rows = []
    changes: dict[bool, list[float]] = {True: [], False: []}  # by whether weights are dense
    for i in range(0, len(layers), RUNS):
        before, after = np.sum(cycles[i : i + RUNS], axis=0) / RUNS
        changes[layers[i].positions == "dense"].append(100 * (after / before - 1))
        rows.append(_row(names[i], float(np.mean(shares[i : i + RUNS])), before, after))
    parts = []
    for dense, weights in ((False, "pruned"), (True, "dense")):
        found = changes[dense]
        slower = f"{sum(c > 0 for c in found)} of {len(found)}"
        span = f"{min(found):+.1f} to {max(found):+.1f} %"
        parts.append(f"- {weights} weights: {slower} layers get slower, cycles change by {span}")
    return rows, "\n".join(parts)


def made_table() -> list[str]:
    layers, shares, names = [], [], []
    for pattern, active, x in made_maps():
        for sparsity in SPARSITIES:
            weights = sparse_int8((32, 32, 3, 3), sparsity, 200, 1)
            positions = "gap4" if sparsity else "dense"
            layers.append(Layer(pattern, weights, positions, "raw", x, PLAIN))
            names.append(f"| {pattern} | {100 * active:.0f} % | {100 * sparsity:.0f} % ")
            shares.append(zero_pairs(x[None] == 0, weights)[1])
    return [
        _row(name, share, *cycles)
        for name, share, cycles in zip(names, shares, emulated(layers), strict=True)
    ]


def _row(name: str, share: float, before: float, after: float) -> str:
    return (
        f"{name}| {100 * share:.0f} % | {before:,.0f} | {after:,.0f} "
        f"| {100 * (after / before - 1):+.1f} % |"
    )


def costs_table(timing: Timing) -> list[str]:
    rows = []
    for kernel in KERNELS:
        cells = " | ".join(str(c) for c in kernel.cycles(timing))
        rows.append(f"| {kernel.name} | {cells} | {100 * kernel.break_even(timing):.0f} % |")
    return rows


def markdown(root: Path) -> str:
    test = "\n".join(KERNELS[0].test).replace("#0", "#0x80808080").replace("9f", "next pair")
    real, verdict = real_table(root)
    return TEXT.format(
        verdict=verdict,
        test=test,
        costs="\n".join(costs_table(timing_of(boards.load("mps2-an386")))),
        shares="\n".join(shares_table(root)),
        real="\n".join(real),
        made="\n".join(made_table()),
        samples=SAMPLES,
        runs=RUNS,
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Zero activations skipped a word at a time.")
    parser.add_argument("folder", nargs="?", type=Path, help="default: $ZEROSKIP_DATA")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    args = parser.parse_args(argv)
    folder = args.folder or Path(os.environ.get("ZEROSKIP_DATA", ROOT.parent / "shared"))
    text = markdown(folder)
    print(text, end="")
    if args.write:
        TABLE.write_text(text, encoding="utf-8")
    return 0


TEXT: Final = """\
# Skipping zero activations a word at a time

Printed by `make bench-words`. The convolution kernels of the DSP extension load a word, four
neighbouring activations of one tap, for two taps at a time. Should they test whether all eight are
zero, and branch over the multiply-accumulates? On the activations of ic and kws it does not pay:

{verdict}

The runtime does not do it; it skips whole channels and rows ([DESIGN.md](../DESIGN.md)).

## What a test costs

Arithmetic, with the costs of [cortex-m4.toml](../boards/cores/cortex-m4.toml): cycles of a pair of
taps for a tile of four pixels. Behind the five loads come

```
{test}
```

EOR, because zeros are stored as the zero point, which behind a ReLU is -128. Loads are what
skipping cannot save. The last column is the share of pairs of words that have to be zero; the
emulated prototypes below break even where this arithmetic says.

| kernel | as it is | tested, multiplied | tested, skipped | break-even |
|---|---:|---:|---:|---:|
{costs}

## How many words are zero

Counted in the inputs of convolutions of stride 1, edges padded, over {samples} samples: test images
of CIFAR-10 for ic, the keyword task's test inputs for kws. For vww there were no images to be had:
CIFAR-10 images, enlarged three times by repetition, stand in, which are smoother than photographs.
*Words* are those that the taps load; *pairs* are those of neighbouring taps with dense weights, and
of taps that follow each other in the list of a filter, with the 90 % of weights of least magnitude
left out (not retrained).

| model | convolution | zeros | words | pairs, dense | pairs, 90 % |
|---|---|---:|---:|---:|---:|
{shares}

## Cycles on real activations

**Estimated**, with a prototype: both kernels with the test, gcc -O2, emulated, outputs compared
with the host bit for bit, mean of {runs} of those samples. Activations keep their zeros and have a
zero point of 0; the EOR takes as long. Weights are the models', those of least magnitude zero.
Without zeros they are stored densely, which runs two filters at a time, else as 4-bit gaps.

| model | convolution | zero weights | zero pairs | as it is | skipping | change |
|---|---|---:|---:|---:|---:|---:|
{real}

## Cycles on made activations

The same prototype, 3x3, 32 to 32, 16x16, padded beforehand, random weights. *Active* is the share
of activations that are not zero, singly or by blocks or channels. Channels that are zero throughout
are dropped already where that pays, so that the test finds nothing there.

| zeros | active | zero weights | zero pairs | as it is | skipping | change |
|---|---:|---:|---:|---:|---:|---:|
{made}
"""


if __name__ == "__main__":
    sys.exit(main())
