"""Between which two values each element of each activation lies, whatever the input.

Interval arithmetic, exact in its direction: no input takes an element out of its bounds, though
bounds may be wider than what occurs. Elements whose bounds meet are constants. This is what
dead_channels.py removes: neurons without weights, and those that their bias, their limits and
the range of their inputs keep at one value.

Integer operators other than multiplication are monotone in each element, so that the oracle
itself, run on lower and upper bounds, gives the bounds of the result; where a sum or a left
shift could wrap at 32 bits, the result is unbounded. float32 elements are either constants or
unbounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zeroskip.converters import lowering, reference
from zeroskip.converters.ir import (
    Array,
    Binary,
    BinaryKind,
    Concat,
    Conv2D,
    FullyConnected,
    Graph,
    Mean,
    Op,
    Pad,
    Pool2D,
    Quantize,
    Reshape,
    Slice,
    Softmax,
    Tensor,
    Transpose,
    Unary,
)

_WRAPS: Final = 2**31 - 512  # sums below it in magnitude stay int32, zero points added


@dataclass(frozen=True)
class Bounds:
    """low <= element <= high, arrays of a tensor's shape and dtype; NaN is within float32's."""

    low: Array
    high: Array

    @property
    def constant(self) -> npt.NDArray[np.bool_]:
        """Which elements can take one value only."""
        return np.asarray(self.low == self.high)


def bounds(graph: Graph) -> dict[str, Bounds]:
    """The bounds of every activation, by name."""
    found = {name: _unbounded(graph.tensors[name]) for name in graph.inputs}
    for op in graph.ops:
        found[op.output] = _propagate(graph, op, [_input(graph, found, n) for n in op.inputs])
    return found


def _input(graph: Graph, found: Mapping[str, Bounds], name: str) -> Bounds:
    data = graph.tensors[name].data
    return found[name] if data is None else Bounds(data, data)


def _unbounded(tensor: Tensor) -> Bounds:
    if tensor.dtype == "float32":
        low, high = -np.inf, np.inf
    else:
        low, high = np.iinfo(tensor.dtype).min, np.iinfo(tensor.dtype).max
    return Bounds(*(np.full(tensor.shape, v, tensor.dtype) for v in (low, high)))


def _propagate(graph: Graph, op: Op, inputs: list[Bounds]) -> Bounds:
    x = inputs[0]
    integer = x.low.dtype == np.int8
    match op.attributes:
        case Conv2D() | FullyConnected():
            return _weighted_int8(graph, op, x) if integer else _weighted_float(graph, op)
        case Reshape() | Slice() | Transpose() | Pad() | Concat() | Pool2D():
            return _monotone(graph, op, inputs)
        case Mean():
            p = lowering.mean(graph, op) if integer else None
            largest = 255 * x.low.size
            if p is None or largest << max(p.shift, 0) < _WRAPS:
                return _monotone(graph, op, inputs)
        case Binary() if integer:
            return _binary_int8(graph, op, inputs)
        case Unary() | Quantize() if integer and graph.output_tensor(op).dtype == "int8":
            return _tabulated(lowering.table(graph, op), x)
        case Quantize() if x.low.dtype != np.float32:
            return _monotone(graph, op, inputs)
        case Softmax(axis=axis):
            whole = x.constant.all(axis=axis, keepdims=True)
            return _where_constant(graph, op, inputs, np.broadcast_to(whole, x.low.shape))
        case Binary() | Unary() | Quantize():
            both = np.logical_and.reduce([*np.broadcast_arrays(*(i.constant for i in inputs))])
            return _where_constant(graph, op, inputs, both)
    return _unbounded(graph.output_tensor(op))


def _monotone(graph: Graph, op: Op, inputs: list[Bounds]) -> Bounds:
    return Bounds(
        reference.execute(graph, op, [i.low for i in inputs]),
        reference.execute(graph, op, [i.high for i in inputs]),
    )


def _where_constant(graph: Graph, op: Op, inputs: list[Bounds], constant: Array) -> Bounds:
    """The op's value where `constant`, anything elsewhere."""
    value = reference.execute(graph, op, [i.low for i in inputs])
    wide = _unbounded(graph.output_tensor(op))
    known = constant.reshape(value.shape) & ~np.isnan(value.astype(np.float64))
    return Bounds(np.where(known, value, wide.low), np.where(known, value, wide.high))


def _weighted_int8(graph: Graph, op: Op, x: Bounds) -> Bounds:
    """Positive weights carry the bounds on, negative ones exchange them."""
    weight = graph.tensors[op.inputs[1]]
    output = graph.output_tensor(op)
    assert weight.data is not None
    centred = weight.data.astype(np.float64) - weight.zero_point
    zero = graph.tensors[op.inputs[0]].zero_point
    ends = [(end.astype(np.float64) - zero)[None] for end in (x.low, x.high)]
    rising, falling = np.maximum(centred, 0), np.minimum(centred, 0)
    low = _sums(op, rising, ends[0], output) + _sums(op, falling, ends[1], output)
    high = _sums(op, rising, ends[1], output) + _sums(op, falling, ends[0], output)
    bias = graph.tensors[op.inputs[2]].data if len(op.inputs) > 2 else None
    axis = 1 if isinstance(op.attributes, Conv2D) else 2
    p = lowering.weighted(graph, op)
    channels = [1] * low.ndim
    channels[axis] = -1
    offset = 0 if bias is None else bias.astype(np.float64).reshape(channels)
    power = 2.0 ** np.maximum(p.shift, 0).reshape(channels)
    largest = np.maximum(np.abs(low + offset), np.abs(high + offset)) * power
    fits = (largest < _WRAPS).reshape(output.shape)
    wide = _unbounded(output)
    least, most = (
        reference.requantize(graph, op, end, bias, axis).reshape(output.shape).astype(np.int8)
        for end in (low, high)
    )
    return Bounds(np.where(fits, least, wide.low), np.where(fits, most, wide.high))


def _sums(op: Op, weights: Array, x: Array, output: Tensor) -> Array:
    if isinstance(op.attributes, Conv2D):
        height, width = output.shape[1:]
        return reference.conv_sums(op.attributes, weights, x, (height, width))
    return np.asarray(x.reshape(1, -1, weights.shape[1]) @ weights.T)


def _weighted_float(graph: Graph, op: Op) -> Bounds:
    """A channel without weights is its bias, limited."""
    a: Any = op.attributes
    weight = graph.tensors[op.inputs[1]].data
    output = graph.output_tensor(op)
    assert weight is not None
    bias = graph.tensors[op.inputs[2]].data if len(op.inputs) > 2 else None
    value = np.zeros(len(weight), np.float32) if bias is None else np.float32(0) + bias
    low, high = lowering.float_range(a.clamp)
    value = np.where(value < low, low, np.where(value > high, high, value))
    idle = ~weight.reshape(len(weight), -1).any(axis=1) & ~np.isnan(value)
    shape = (-1, 1, 1) if isinstance(a, Conv2D) else (1, -1)
    rows = output.shape if isinstance(a, Conv2D) else (output.size // len(weight), len(weight))
    wide = _unbounded(output)
    ends = [
        np.broadcast_to(np.where(idle, value, end).reshape(shape), rows).reshape(output.shape)
        for end in (-np.inf, np.inf)
    ]
    return Bounds(*(end.astype(wide.low.dtype) for end in ends))


def _binary_int8(graph: Graph, op: Op, inputs: list[Bounds]) -> Bounds:
    a = op.attributes
    assert isinstance(a, Binary)
    x, y = inputs
    if a.kind is BinaryKind.ADD:
        return _monotone(graph, op, inputs)
    if a.kind is BinaryKind.SUB:
        return Bounds(
            reference.execute(graph, op, [x.low, y.high]),
            reference.execute(graph, op, [x.high, y.low]),
        )
    shift = lowering.binary(graph, op).output_shift
    if 255 * 255 << max(shift, 0) >= _WRAPS:
        return _unbounded(graph.output_tensor(op))
    # A product is linear in each factor: its extremes are at the corners.
    corners = [
        reference.execute(graph, op, [first, second])
        for first in (x.low, x.high)
        for second in (y.low, y.high)
    ]
    return Bounds(np.minimum.reduce(corners), np.maximum.reduce(corners))


def _tabulated(table: npt.NDArray[np.int8], x: Bounds) -> Bounds:
    """The least and largest entry of a table between two indices."""
    low = np.zeros((256, 256), np.int8)
    high = np.zeros((256, 256), np.int8)
    for q in range(256):
        low[q, q:] = np.minimum.accumulate(table[q:])
        high[q, q:] = np.maximum.accumulate(table[q:])
    first, last = (end.astype(np.int16) + 128 for end in (x.low, x.high))
    return Bounds(low[first, last], high[first, last])
