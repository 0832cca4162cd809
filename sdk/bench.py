"""Kernels on an emulated board: a grid of layers, sparsities and shares of active inputs.

Each layer runs with random weights of which a share is zero, in the codec that is predicted to be
the fastest for it, once with all weights stored densely and once with zeros left out; where the
two meet is the break-even of sparsity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zeroskip.boards import Board
from zeroskip.converters import codecs, costs
from zeroskip.converters.ir import Conv2D, FullyConnected, Graph, Op, Quantization, Tensor
from zeroskip.emulation.layers import (
    Layer,
    activations,
    output_shape,
    roomy,
    run_all,
    sparse_int8,
    timing_of,
)

Array = npt.NDArray[Any]

SPARSITIES: Final = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
_DISTINCT: Final = 200  # values of weights that are not zero


@dataclass(frozen=True)
class Shape:
    """A layer of the grid. Inputs are padded already, as the converter does where memory allows;
    `active` are the shares of inputs that are not zero, of whole channels for a convolution."""

    name: str
    weights: tuple[int, ...]
    inputs: tuple[int, ...]
    attributes: Conv2D | FullyConnected
    active: tuple[float, ...] = (1.0,)


def _conv(stride: int = 1, groups: int = 1) -> Conv2D:
    return Conv2D((stride, stride), (1, 1), (0, 0, 0, 0), groups)


SHAPES: Final = (
    Shape("conv 3x3, 32 to 32, 16x16", (32, 32, 3, 3), (32, 18, 18), _conv(), (1.0, 0.5)),
    Shape("conv 3x3 stride 2, 32 to 64, 8x8", (64, 32, 3, 3), (32, 17, 17), _conv(2)),
    Shape("conv 1x1, 64 to 64, 25x5", (64, 64, 1, 1), (64, 25, 5), _conv(), (1.0, 0.5)),
    Shape("depthwise 3x3, 64, 25x5", (64, 1, 3, 3), (64, 27, 7), _conv(groups=64)),
    Shape("fully connected, 784 to 300", (300, 784), (784,), FullyConnected(), (1.0, 0.5, 0.35)),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """One layer as it ran, for one input.

    `sparsity` and `active` are shares, 0 to 1, of zero weights and of inputs that are not zero.
    `codec` is its pair, perhaps "by columns"; `bytes` what the weights take; `cycles` are
    estimated; `macs` are the multiply-accumulates of the dense layer, `executed` those done.
    """

    layer: str
    sparsity: float
    active: float
    codec: str
    bytes: int
    cycles: int
    macs: int
    executed: int

    @property
    def dense(self) -> bool:
        """Whether zeros are stored."""
        return self.codec.startswith("dense")


def run(board: Board, shapes: Sequence[Shape] = SHAPES) -> list[Result]:
    """Every layer of the grid on `board`, in one firmware image with memory for all.

    Cycles are estimated, by the timing model of the board's core. Raises InputError if its core
    has none, and as `zeroskip.emulation.emulate` does.
    """
    timing_of(board)  # before the work of choosing codecs
    fitted = costs.load(board.core.name)
    layers, points = [], []
    for shape in shapes:
        inputs = {a: _inputs(shape, a) for a in shape.active}
        for sparsity in SPARSITIES:
            weights = sparse_int8(shape.weights, sparsity, _DISTINCT, 1)
            for active, x in inputs.items():
                for layer in _fastest(fitted, shape, weights, x, active):
                    layers.append(layer)
                    points.append((shape, sparsity, active))
    results = []
    for (shape, sparsity, active), done in zip(points, run_all(layers, roomy(board)), strict=True):
        e = done.encoded
        outputs = np.prod(output_shape(done.layer)[1:], dtype=int)  # pixels of a channel
        results.append(
            Result(
                shape.name,
                sparsity,
                active,
                f"{e.positions}+{e.values}" + (" by columns" if e.by_columns else ""),
                e.bytes,
                done.cycles,
                done.layer.weights.size * int(outputs),
                done.macs,
            )
        )
    return results


def break_even(results: Sequence[Result], layer: str, active: float) -> float | None:
    """The sparsity from which on leaving zeros out is faster, interpolated; None for never."""
    points = [r for r in results if r.layer == layer and r.active == active]
    dense = {r.sparsity: r.cycles for r in points if r.dense}
    sparse = {r.sparsity: r.cycles for r in points if not r.dense}
    gains = [(s, dense[s] - sparse[s]) for s in sorted(set(dense) & set(sparse))]
    before: tuple[float, int] | None = None
    for sparsity, gain in gains:
        if gain >= 0:
            if before is None:
                return sparsity
            return before[0] + (sparsity - before[0]) * -before[1] / (gain - before[1])
        before = (sparsity, gain)
    return None


def _inputs(shape: Shape, active: float) -> Array:
    if isinstance(shape.attributes, FullyConnected):
        return activations(shape.inputs, active, 2)
    x = activations(shape.inputs, 1.0, 2)
    x[round(active * shape.inputs[0]) :] = 0
    return x


def _fastest(
    fitted: costs.Costs, shape: Shape, weights: Array, x: Array, active: float
) -> list[Layer]:
    """The layer with zeros stored and with zeros left out, each in its fastest codec."""
    found = []
    for keeps in (lambda e: e.positions == "dense", lambda e: e.positions != "dense"):
        layer = _best(fitted, shape, weights, x, active, keeps)
        if layer is not None:
            found.append(layer)
    return found


def _best(
    fitted: costs.Costs,
    shape: Shape,
    weights: Array,
    x: Array,
    active: float,
    keeps: Callable[[codecs.Candidate], bool],
) -> Layer | None:
    name = shape.name
    scale = Quantization((1.0,), 0)
    probe = Layer(name, weights, "dense", "raw", x, shape.attributes)
    tensors = {
        "x": Tensor("x", x.shape, "int8", scale),
        "w": Tensor("w", weights.shape, "int8", scale, weights),
        "y": Tensor("y", output_shape(probe), "int8", scale),
    }
    op = Op(name, shape.attributes, ("x", "w"), "y")
    graph = Graph(name, tensors, (op,), ("x",), ("y",))
    matrix = weights.reshape(len(weights), -1)
    best: tuple[float, Layer] | None = None
    layouts = (False, True) if isinstance(shape.attributes, FullyConnected) else (False,)
    for columns in layouts:
        for candidate in codecs.candidates(matrix, 0, columns):
            if not keeps(candidate):
                continue
            e = candidate.encode()
            stored = matrix.T if columns else matrix
            cycles = costs.layer_cycles(fitted, graph, op, e, stored, active)
            if best is None or cycles < best[0]:
                best = (
                    cycles,
                    Layer(name, weights, e.positions, e.values, x, shape.attributes, columns),
                )
    return None if best is None else best[1]
