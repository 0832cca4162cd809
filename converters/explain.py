"""Why each weight matrix of a container is stored as it is: what else could have been chosen.

The alternatives are made anew from the decoded weights, so that any container can be explained,
whoever wrote it; bytes are exact, cycles predicted (converters/costs.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from zeroskip.converters import budget, codecs, costs, planner
from zeroskip.converters.budget import Option
from zeroskip.converters.description import StoredLayer, TensorDescription, stored_layers
from zeroskip.converters.ir import Array, Conv2D, FullyConnected, Graph, Op, Quantization, Tensor
from zeroskip.converters.scratch import scratch_bytes


@dataclass(frozen=True)
class Alternative:
    """A way to store a matrix. `bytes` are those of streams, tables and codec fields; `cycles`
    of the whole layer, predicted; `scratch_bytes` of its op."""

    codec: str
    bytes: int
    cycles: int
    scratch_bytes: int


@dataclass(frozen=True)
class Explanation:
    """The choice for one op. `active_inputs` is the share of non-zero inputs that the cycles
    assume; `alternatives` hold the chosen one, too, by ascending bytes."""

    index: int
    chosen: Alternative
    alternatives: tuple[Alternative, ...]
    active_inputs: float

    @property
    def smallest(self) -> Alternative:
        return self.alternatives[0]

    @property
    def fastest(self) -> Alternative:
        return min(self.alternatives, key=lambda a: (a.cycles, a.bytes))

    @property
    def reason(self) -> str:
        """For people, such as 'ans+ans: smallest of 21; fastest gap4+packed +2,310 B, -12.0
        kcycles'."""
        chosen, smallest, fastest = self.chosen, self.smallest, self.fastest
        is_smallest, is_fastest = chosen.bytes == smallest.bytes, chosen.cycles == fastest.cycles
        count = f"of {len(self.alternatives)}"
        if is_smallest and is_fastest:
            return f"{chosen.codec}: smallest and fastest {count}"
        if is_smallest:
            return f"{chosen.codec}: smallest {count}; fastest {_difference(fastest, chosen)}"
        if is_fastest:
            return f"{chosen.codec}: fastest {count}; smallest {_difference(smallest, chosen)}"
        return (
            f"{chosen.codec}: one {count}; smallest {_difference(smallest, chosen)}; "
            f"fastest {_difference(fastest, chosen)}"
        )


def explain(blob: bytes, core: str) -> list[Explanation]:
    """An explanation per op with weights, cycles on `core` such as "cortex-m4".

    Raises FormatError for a damaged container, InputError for a core without costs.
    """
    fitted = costs.load(core)
    return [_explain(layer, fitted) for layer in stored_layers(blob)]


def _explain(layer: StoredLayer, fitted: costs.Costs) -> Explanation:
    graph, op = _graph(layer)
    active = _active_inputs(layer.x)
    found = budget.options(graph, op, fitted, active)
    if all(option.encoded.name != layer.encoded.name for option in found):
        # Written by another encoder: price what is there.
        matrix = codecs.decode(layer.encoded, layer.dtype)
        stored = matrix.T if layer.encoded.by_columns else matrix
        cycles = costs.layer_cycles(fitted, graph, op, layer.encoded, stored, active)
        scratch = scratch_bytes(graph, op, layer.encoded)
        found.append(Option(layer.encoded, layer.encoded.bytes, cycles, scratch))
    alternatives = sorted(map(_alternative, found), key=lambda a: (a.bytes, a.cycles, a.codec))
    chosen = next(a for a in alternatives if a.codec == layer.encoded.name)
    return Explanation(layer.index, chosen, tuple(alternatives), active)


def _alternative(option: Option) -> Alternative:
    return Alternative(
        option.encoded.name, option.bytes, round(option.cycles), option.scratch_bytes
    )


def _active_inputs(x: TensorDescription) -> float:
    """An int8 tensor whose zero is its least value comes from a ReLU, or is an image."""
    rectified = x.dtype == "int8" and x.zero_point == -128
    return planner.ACTIVE_AFTER_RELU if rectified else 1.0


def _graph(layer: StoredLayer) -> tuple[Graph, Op]:
    """A graph of this layer alone, for the counts of costs.py."""
    matrix = codecs.decode(layer.encoded, layer.dtype)
    quantized = layer.dtype == np.int8
    attributes: Conv2D | FullyConnected = FullyConnected()
    shape: tuple[int, ...] = matrix.shape
    # A fully connected layer may take and give any shape of the right size.
    runs = math.prod(layer.x.shape) // matrix.shape[1]
    x_shape: tuple[int, ...] = (runs, matrix.shape[1])
    y_shape: tuple[int, ...] = (runs, matrix.shape[0])
    if layer.window:
        x_shape, y_shape = layer.x.shape, layer.output.shape
        kernel_h, kernel_w, sy, sx, dy, dx, top, left, groups = layer.window
        shape = (matrix.shape[0], layer.x.shape[0] // groups, kernel_h, kernel_w)
        bottom, right = (
            max(0, (out - 1) * stride + (k - 1) * dilation + 1 - size - before)
            for out, stride, k, dilation, size, before in (
                (layer.output.shape[1], sy, kernel_h, dy, layer.x.shape[1], top),
                (layer.output.shape[2], sx, kernel_w, dx, layer.x.shape[2], left),
            )
        )
        attributes = Conv2D((sy, sx), (dy, dx), (top, bottom, left, right), groups)

    def tensor(name: str, shape: tuple[int, ...], zero: int, data: Array | None) -> Tensor:
        scale = Quantization((1.0,), zero) if quantized else None
        return Tensor(name, shape, layer.dtype.name, scale, data)

    tensors = (
        tensor("x", x_shape, layer.x.zero_point, None),
        tensor("w", shape, layer.encoded.zero_point, matrix.reshape(shape)),
        tensor("y", y_shape, layer.output.zero_point, None),
    )
    op = Op("layer", attributes, ("x", "w"), "y")
    return Graph("layer", {t.name: t for t in tensors}, (op,), ("x",), ("y",)), op


def _difference(other: Alternative, chosen: Alternative) -> str:
    cycles = (other.cycles - chosen.cycles) / 1000
    return f"{other.codec} {other.bytes - chosen.bytes:+,} B, {cycles:+,.1f} kcycles"
