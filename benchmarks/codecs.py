"""Bytes and seconds of the weight codecs on synthetic LeNet-300-100 and VGG-16 layers.

    python benchmarks/codecs.py              print the tables
    python benchmarks/codecs.py --write      write them to benchmarks/codecs.md, too
    python benchmarks/codecs.py --only lenet

Shapes and densities are those of Deep Compression (Han, Mao and Dally, ICLR 2016), tables 2 and
5. Weights are normal and pruned by magnitude, so masks are random: what is measured is how near
codecs come to the bound of independent symbols, n * H(density) + elements * H(values).
"""

from __future__ import annotations

import argparse
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zeroskip.converters import codecs
from zeroskip.converters.codecs import Candidate, EncodedMatrix

TABLE: Final = Path(__file__).with_suffix(".md")
SEED: Final = 0
LLOYD_ROUNDS: Final = 20
BINS: Final = 1 << 14

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """A layer: the shape of its matrix, the density, and bits of an index before and after
    Huffman coding, as published."""

    name: str
    rows: int
    cols: int
    density: float
    bits: int
    entropy: float


LENET: Final = (
    Layer("ip1", 300, 784, 0.08, 6, 4.4),
    Layer("ip2", 100, 300, 0.09, 6, 4.4),
    Layer("ip3", 10, 100, 0.26, 6, 4.3),
)
VGG: Final = (
    Layer("conv1_1", 64, 27, 0.58, 8, 6.8),
    Layer("conv1_2", 64, 576, 0.22, 8, 6.5),
    Layer("conv2_1", 128, 576, 0.34, 8, 5.6),
    Layer("conv2_2", 128, 1152, 0.36, 8, 5.9),
    Layer("conv3_1", 256, 1152, 0.53, 8, 4.8),
    Layer("conv3_2", 256, 2304, 0.24, 8, 4.6),
    Layer("conv3_3", 256, 2304, 0.42, 8, 4.6),
    Layer("conv4_1", 512, 2304, 0.32, 8, 4.6),
    Layer("conv4_2", 512, 4608, 0.27, 8, 4.2),
    Layer("conv4_3", 512, 4608, 0.34, 8, 4.4),
    Layer("conv5_1", 512, 4608, 0.35, 8, 4.7),
    Layer("conv5_2", 512, 4608, 0.29, 8, 4.6),
    Layer("conv5_3", 512, 4608, 0.36, 8, 4.6),
    Layer("fc6", 4096, 25088, 0.04, 5, 3.6),
    Layer("fc7", 4096, 4096, 0.04, 5, 4.0),
    Layer("fc8", 1000, 4096, 0.23, 5, 4.0),
)


@dataclass(frozen=True)
class Result:
    """Bytes of one layer. `stream` counts positions and indices, `total` codebooks and tables,
    too; `seconds` is the CPU time of choosing and encoding."""

    layer: str
    weights: int
    elements: int
    bound: float
    codec: dict[str, str]
    stream: dict[str, int]
    total: dict[str, int]
    seconds: dict[str, float]


KINDS: Final = ("Huffman", "best")


def measure(layer: Layer, matrix: Array) -> Result:
    """Choose and encode: the best pair without ANS, and the best of all."""
    result = Result(
        layer.name, matrix.size, int(np.count_nonzero(matrix)), bound(matrix), {}, {}, {}, {}
    )
    for kind in KINDS:
        begun = time.process_time()
        encoded = smallest(matrix, with_ans=kind == "best").encode()
        result.seconds[kind] = time.process_time() - begun
        result.codec[kind] = encoded.name
        result.stream[kind] = encoded.position_bytes + encoded.value_bytes
        result.total[kind] = encoded.stream_bytes
        check_small(matrix, encoded)
    return result


def smallest(matrix: Array, with_ans: bool) -> Candidate:
    """As the planner chooses for size: no dense positions where most weights are zero."""
    sparse = 2 * np.count_nonzero(matrix) < matrix.size
    options = [
        c
        for c in codecs.candidates(matrix, 0)
        if (with_ans or "ans" not in (c.positions, c.values))
        and not (sparse and c.positions == "dense")
    ]
    return min(options, key=lambda c: c.bytes)


def check_small(matrix: Array, encoded: EncodedMatrix) -> None:
    """What was measured decodes to the matrix; the Python decoder takes a minute per 10^8."""
    if matrix.size < 1 << 18 and not np.array_equal(codecs.decode(encoded, matrix.dtype), matrix):
        raise AssertionError(f"{encoded.name} does not give the matrix back")


def bound(matrix: Array) -> float:
    """Bytes of mask and values as independent symbols."""
    counts = np.unique(matrix[matrix != 0], return_counts=True)[1]
    mask = np.array([counts.sum(), matrix.size - counts.sum()])
    return (entropy_bits(mask) + entropy_bits(counts)) / 8


def entropy_bits(counts: Array) -> float:
    present = counts[counts > 0]
    return float(-(present * np.log2(present / present.sum())).sum())


def pruned(layer: Layer, rng: np.random.Generator) -> tuple[Array, Array]:
    """(mask, the normal weights that are left) of magnitude pruning; row by row."""
    sample = np.abs(rng.standard_normal(1 << 20))
    threshold = np.quantile(sample, 1 - layer.density)
    mask = np.empty((layer.rows, layer.cols), np.bool_)
    live = []
    for row in mask:
        w = rng.standard_normal(layer.cols, np.float32)
        np.greater_equal(np.abs(w), threshold, out=row)
        live.append(w[row])
    return mask, np.concatenate(live)


def spread(mask: Array, values: Array) -> Array:
    """int8 matrix: `values` where the mask is, none of them zero."""
    matrix = np.zeros(mask.shape, np.int8)
    matrix[mask] = values
    return matrix


def shared(layer: Layer, rng: np.random.Generator, per_tail: bool) -> Array:
    """k-means with linear initialisation, over the whole range or (`per_tail`) each tail;
    centroids rounded to int8. Over the whole range those that start between the tails die."""
    mask, live = pruned(layer, rng)
    k = 1 << layer.bits
    weight, edges = np.histogram(live, BINS)
    centre = (edges[1:] + edges[:-1]) / 2
    if per_tail:
        tails = (live[live < 0], live[live > 0])
        centroids = np.concatenate([np.linspace(t.min(), t.max(), k // 2) for t in tails])
    else:
        centroids = np.linspace(live.min(), live.max(), k)
    for _ in range(LLOYD_ROUNDS):
        nearest = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, centre)
        mass = np.bincount(nearest, weights=weight, minlength=k)
        mean = np.bincount(nearest, weights=weight * centre, minlength=k)
        centroids = np.sort(np.where(mass > 0, mean / np.maximum(mass, 1), centroids))
    nearest = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, live)
    levels = np.round(centroids / np.abs(centroids).max() * 127).astype(np.int8)
    return spread(mask, levels[nearest])


def with_entropy(layer: Layer, rng: np.random.Generator) -> Array:
    """Linear centroids at a distance that gives the indices the published entropy; as many as
    the bits allow, the outermost take the rest. Indices, not centroids, are the values."""
    mask, live = pruned(layer, rng)
    most = (1 << layer.bits) // 2
    first = float(np.abs(live).min())
    sample = live[:: max(1, live.size // 20_000)]

    def quantised(values: Array, step: float) -> Array:
        level = np.minimum(((np.abs(values) - first) / step).astype(np.int16), most - 1) + 1
        return np.where(values < 0, -level, np.minimum(level, 127)).astype(np.int8)

    def entropy(step: float) -> float:
        counts = np.unique(quantised(sample, step), return_counts=True)[1]
        return entropy_bits(counts) / float(counts.sum())

    # Smaller steps raise the entropy until the outermost levels take too much: the largest step
    # that is fine enough, or the one of most entropy.
    steps = np.geomspace(10, 1e-3, 150)
    found = np.array([entropy(step) for step in steps])
    enough = np.flatnonzero(found >= layer.entropy)
    chosen = steps[enough[0] if enough.size else int(np.argmax(found))]
    return spread(mask, quantised(live, float(chosen)))


Draw = Callable[[Layer, np.random.Generator], Array]


def run(layers: Sequence[Layer], draw: Draw) -> Iterator[Result]:
    rng = np.random.default_rng(SEED)
    for layer in layers:
        result = measure(layer, draw(layer, rng))
        print(f"  {layer.name}: {result.total}, {result.seconds}", file=sys.stderr)
        yield result


def table(results: Sequence[Result]) -> list[str]:
    """A row per layer and one of sums."""
    lines = [
        "| layer | weights | not zero | bound | Huffman | codecs | stream / bound | best | codecs "
        "| stream / bound | total / bound | seconds |",
        "|---|---:|---:|---:|---:|---|---:|---:|---|---:|---:|---:|",
    ]
    lines += [row(r) for r in results]
    total = Result(
        "all",
        sum(r.weights for r in results),
        sum(r.elements for r in results),
        sum(r.bound for r in results),
        dict.fromkeys(KINDS, ""),
        {k: sum(r.stream[k] for r in results) for k in KINDS},
        {k: sum(r.total[k] for r in results) for k in KINDS},
        {k: sum(r.seconds[k] for r in results) for k in KINDS},
    )
    return [*lines, row(total)]


def row(r: Result) -> str:
    ratio = {k: f"{r.stream[k] / r.bound:.4f}" for k in KINDS}
    return (
        f"| {r.layer} | {r.weights:,} | {r.elements:,} | {r.bound:,.0f} "
        f"| {r.total['Huffman']:,} | {r.codec['Huffman']} | {ratio['Huffman']} "
        f"| {r.total['best']:,} | {r.codec['best']} | {ratio['best']} "
        f"| {r.total['best'] / r.bound:.4f} "
        f"| {r.seconds['Huffman']:.2f} + {r.seconds['best']:.2f} |"
    )


def report(only: str | None) -> str:
    lines = [
        "# Weight codecs",
        "",
        f"Measured by `python benchmarks/codecs.py --write` (seed {SEED}) on {platform.machine()}, "
        f"one core, Python {platform.python_version()}, numpy {np.__version__}.",
        "",
        "Layers have the shapes and densities of Deep Compression (Han, Mao and Dally, ICLR 2016),",
        "tables 2 and 5. Weights are normal, pruned by magnitude: masks are random, without the",
        "uneven rows and columns of trained ones. Bound: mask and indices as independent symbols.",
        "Bytes are positions, indices, codebooks and tables; stream leaves out the latter two.",
        "Best is of all codecs, Huffman of all but ANS. Seconds are CPU time, one thread: choosing",
        "and encoding, first Huffman, then the best.",
        "",
    ]
    if only in (None, "lenet"):
        lines += ["## LeNet-300-100, 6-bit sharing", ""]
        lines += [
            "64 centroids, k-means from linear initialisation over the whole range, int8.",
            "",
        ]
        lines += [*table(list(run(LENET, lambda a, rng: shared(a, rng, False)))), ""]
        lines += ["The same with 32 centroids for each tail: none dies between them.", ""]
        lines += [*table(list(run(LENET, lambda a, rng: shared(a, rng, True)))), ""]
    if only in (None, "vgg"):
        lines += ["## VGG-16", ""]
        lines += [
            "Linear centroids at the distance that gives the indices the published entropy.",
            "",
        ]
        results = list(run(VGG, with_entropy))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
        seconds = sum(sum(r.seconds.values()) for r in results)
        lines += [*table(results), ""]
        lines += [
            f"{seconds:.1f} s of CPU in all, {peak:.2f} GiB peak RSS, drawing the weights included."
        ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    parser.add_argument("--only", choices=("lenet", "vgg"))
    arguments = parser.parse_args()
    text = report(arguments.only)
    print(text)
    if arguments.write:
        if arguments.only:
            parser.error("--write needs all tables")
        TABLE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
