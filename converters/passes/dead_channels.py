"""Removal of channels that cannot matter, bit for bit.

A channel goes when nothing that reaches an output of the graph reads it: all weights on it are
zero, or it is a constant (bounds.py) whose contribution its readers have in their bias instead.
A constant at the zero point contributes nothing. Another one is folded into the bias of a fully
connected layer or of a convolution without padding, where it adds the same to every output, in
integer models only: a float32 sum would round differently.

What is kept is the least fixed point of

* outputs of the graph are kept, and its inputs keep their shape;
* a layer keeps the inputs that a kept output of it has a weight on;
* ops without weights keep the same channels before and after them, a sum of two tensors in
  both, a grouped convolution whole groups;
* of every tensor whole slices along one axis are kept, at least one: it stays a rectangle.

Sums are the same modulo 2**32, hence the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from zeroskip.converters.ir import (
    Array,
    Binary,
    Concat,
    Conv2D,
    FullyConnected,
    Graph,
    Mean,
    Op,
    Pad,
    Pool2D,
    Quantization,
    Quantize,
    Reshape,
    Shape,
    Slice,
    Softmax,
    Tensor,
    Transpose,
    Unary,
)
from zeroskip.converters.numerics import wrap_int32
from zeroskip.converters.passes.bounds import Bounds, bounds

Mask = npt.NDArray[np.bool_]

_SPATIAL_RANK: Final = 3


def remove_dead_channels(graph: Graph) -> Graph:
    """The same function of the same inputs and outputs with no channel that does not matter.

    Works on every graph, int8 and float32; applied until nothing changes.
    """
    while True:
        graph = _without_unread_ops(graph)
        found = bounds(graph)
        kept = _Kept(graph, found).run()
        if all(mask.all() for mask in kept.values()):
            return graph
        graph = _Rewriter(graph, found, kept).run()


def _without_unread_ops(graph: Graph) -> Graph:
    needed = set(graph.outputs)
    ops: list[Op] = []
    for op in reversed(graph.ops):
        if op.output in needed:
            needed.update(op.inputs)
            ops.append(op)
    return graph.with_ops(reversed(ops)) if len(ops) < len(graph.ops) else graph


def _any(mask: Mask, axes: tuple[int, ...]) -> Mask:
    """Along `axes` all or nothing."""
    return np.asarray(np.broadcast_to(mask.any(axis=axes, keepdims=True), mask.shape))


def _slices(mask: Mask, axis: int) -> Mask:
    """Whole slices along an axis."""
    return _any(mask, tuple(i for i in range(mask.ndim) if i != axis))


def _sliced_axis(mask: Mask) -> int:
    """The axis along which a mask of whole slices leaves some out; 0 if it leaves none out."""
    for axis in range(mask.ndim):
        if np.array_equal(_slices(mask, axis), mask):
            return axis
    raise AssertionError("a mask is not made of slices")


def _rectangle(mask: Mask) -> Mask:
    """The mask, grown to whole slices along one axis, at least one of them."""
    if not mask.any():
        mask = np.zeros_like(mask)
        mask[(0,) * mask.ndim] = True
    options = [_slices(mask, axis) for axis in range(mask.ndim)]
    exact = [option for option in options if np.array_equal(option, mask)]
    if exact:
        return exact[0]
    if mask.ndim == _SPATIAL_RANK:
        return options[0]
    return min(options, key=lambda option: int(option.sum()))


def layer_needs(graph: Graph, op: Op, x: Bounds) -> Mask:
    """(O, C) of a convolution, C counted within the group, or (O, I): which outputs have a
    weight on which inputs that the bias cannot stand for."""
    weight = graph.tensors[op.inputs[1]]
    assert weight.data is not None
    live: Mask = weight.data != weight.zero_point
    if isinstance(op.attributes, Conv2D):
        live = live.any(axis=(2, 3))
    foldable = _foldable(graph, op, x)
    if isinstance(op.attributes, Conv2D) and op.attributes.groups > 1:
        per_group = weight.shape[1]
        group = np.arange(weight.shape[0]) // (weight.shape[0] // op.attributes.groups)
        return np.asarray(live & ~foldable.reshape(-1, per_group)[group])
    return np.asarray(live & ~foldable)


def _foldable(graph: Graph, op: Op, x: Bounds) -> Mask:
    """Which input channels (of a convolution) or inputs (of a fully connected layer) are
    constants whose contribution is zero, or the same for all outputs of a channel."""
    tensor = graph.tensors[op.inputs[0]]
    a = op.attributes
    if isinstance(a, Conv2D):
        low, constant = (v.reshape(tensor.shape[0], -1).T for v in (x.low, x.constant))
        everywhere = not any(a.padding)
    else:
        low, constant = (v.reshape(-1, tensor.shape[-1]) for v in (x.low, x.constant))
        everywhere = True
    known: Mask = constant.all(axis=0)
    same = low == (low[0] if tensor.dtype == "int8" and everywhere else tensor.zero_point)
    zero = low == tensor.zero_point
    return np.asarray(known & (same.all(axis=0) | zero.all(axis=0)))


class _Kept:
    """Which elements of each activation are kept; see the top of the file."""

    def __init__(self, graph: Graph, found: dict[str, Bounds]) -> None:
        self._graph = graph
        self._needs = {
            op.output: layer_needs(graph, op, found[op.inputs[0]])
            for op in graph.ops
            if isinstance(op.attributes, Conv2D | FullyConnected)
        }
        self._kept: dict[str, Mask] = {
            name: np.zeros(tensor.shape, np.bool_)
            for name, tensor in graph.tensors.items()
            if tensor.data is None
        }
        self._changed = True

    def run(self) -> dict[str, Mask]:
        for name in (*self._graph.inputs, *self._graph.outputs):
            self._keep(name, np.True_)
        while self._changed:
            self._changed = False
            for op in reversed(self._graph.ops):
                self._keep(op.output, np.False_)
                self._link(op)
        return self._kept

    def _keep(self, name: str, mask: Mask | np.bool_) -> None:
        if self._graph.tensors[name].data is not None:
            return
        before = self._kept[name]
        if np.ndim(mask):
            mask = np.reshape(mask, before.shape)
        after = _rectangle(before | mask)
        if not np.array_equal(before, after):
            self._kept[name] = after
            self._changed = True

    def _link(self, op: Op) -> None:
        name = op.inputs[0]
        x, y = self._kept.get(name), self._kept[op.output]
        match op.attributes:
            case FullyConnected():
                self._link_fully_connected(op, y)
            case Conv2D(groups=1):
                rows = y.any(axis=(1, 2))
                self._keep(op.output, _planes(rows, y))
                columns = self._needs[op.output][rows].any(axis=0)
                self._keep(name, _planes(columns, self._kept[name]))
            case Conv2D(groups=groups):
                assert x is not None
                whole = x.reshape(groups, -1).any(axis=1)
                rows = y.any(axis=(1, 2))
                live = (self._needs[op.output].any(axis=1) & rows).reshape(groups, -1)
                whole |= live.any(axis=1) | rows.reshape(groups, -1).any(axis=1)
                self._keep(name, _planes(np.repeat(whole, len(x) // groups), x))
                self._keep(op.output, _planes(np.repeat(whole, len(y) // groups), y))
            case Binary():
                for other in op.inputs:
                    self._link_operand(other, op.output)
            case Concat(axis=axis):
                self._link_concat(op, axis)
            case Pool2D():
                assert x is not None
                planes = x.any(axis=(1, 2)) | y.any(axis=(1, 2))
                self._both(op, _planes(planes, x), _planes(planes, y))
            case Mean(axes=axes):
                assert x is not None
                reduced = x.any(axis=axes, keepdims=True)
                reduced = reduced | y.reshape(reduced.shape)
                self._both(op, np.broadcast_to(reduced, x.shape), reduced)
            case Pad(padding=padding):
                assert x is not None
                grown = np.pad(x, padding) | y
                padded = tuple(axis for axis, pair in enumerate(padding) if any(pair))
                grown = _any(grown, padded)
                inner = tuple(
                    slice(before, before + size)
                    for (before, _), size in zip(padding, x.shape, strict=True)
                )
                self._both(op, grown[inner], grown)
            case Softmax(axis=axis):
                assert x is not None
                both = _any(x | y, (axis,))
                self._both(op, both, both)
            case Slice():
                assert x is not None
                self._both(op, np.ones_like(x), np.ones_like(y))
            case Transpose(perm=perm):
                assert x is not None
                both = x.transpose(perm) | y
                self._both(op, both.transpose(np.argsort(perm)), both)
            case Unary() | Quantize() | Reshape():
                assert x is not None
                both = x.reshape(y.shape) | y
                self._both(op, both, both)

    def _both(self, op: Op, x: Mask, y: Mask) -> None:
        self._keep(op.inputs[0], x)
        self._keep(op.output, y)

    def _link_fully_connected(self, op: Op, y: Mask) -> None:
        needs = self._needs[op.output]
        rows = y.reshape(-1, needs.shape[0]).any(axis=0)
        scales = self._graph.tensors[op.inputs[1]].quantization
        if scales is not None and scales.per_channel and rows.sum() == 1:
            # One scale for one channel would be one per tensor, which rounds differently.
            rows[np.argmin(rows)] = True
        self._keep(op.output, np.broadcast_to(rows, (y.size // rows.size, rows.size)))
        x = self._kept[op.inputs[0]]
        columns = needs[rows].any(axis=0) | x.reshape(-1, needs.shape[1]).any(axis=0)
        self._keep(op.inputs[0], np.broadcast_to(columns, x.shape))

    def _link_operand(self, name: str, output: str) -> None:
        """An operand keeps what the output keeps, and the other way round along axes that it
        is not broadcast along."""
        y = self._kept[output]
        shape = self._graph.tensors[name].shape
        aligned: Shape = (1,) * (y.ndim - len(shape)) + shape
        spread = tuple(axis for axis in range(y.ndim) if aligned[axis] != y.shape[axis])
        self._keep(name, y.any(axis=spread, keepdims=True))
        x = self._kept.get(name)
        if x is None or y.all():
            return
        axis = _sliced_axis(y)
        if aligned[axis] == y.shape[axis]:
            x = _slices(x.reshape(aligned), axis)
            self._keep(output, np.broadcast_to(x, y.shape))

    def _link_concat(self, op: Op, axis: int) -> None:
        parts = [self._kept[name] for name in op.inputs]
        self._keep(op.output, np.concatenate(parts, axis=axis))
        y = self._kept[op.output]
        ends = np.cumsum([part.shape[axis] for part in parts])[:-1]
        for name, part in zip(op.inputs, np.split(y, ends, axis=axis), strict=True):
            self._keep(name, part)


def _planes(channels: Mask, like: Mask) -> Mask:
    """(C,) as (C, H, W)."""
    return np.broadcast_to(channels[:, None, None], like.shape)


@dataclass(frozen=True)
class _Slice:
    """The indices that are kept along an axis."""

    axis: int
    indices: npt.NDArray[np.int64]

    def shape(self, shape: Shape) -> Shape:
        return (*shape[: self.axis], len(self.indices), *shape[self.axis + 1 :])


def _slice(mask: Mask) -> _Slice:
    axis = _sliced_axis(mask)
    rest = tuple(i for i in range(mask.ndim) if i != axis)
    return _Slice(axis, np.flatnonzero(mask.any(axis=rest)))


class _Rewriter:
    """Builds the smaller graph: activations under their names, changed constants under new."""

    def __init__(self, graph: Graph, found: dict[str, Bounds], kept: dict[str, Mask]) -> None:
        self._graph = graph
        self._found = found
        self._kept = kept
        self._constants: list[Tensor] = []
        self._names = set(graph.tensors)

    def run(self) -> Graph:
        ops = [self._op(op) for op in self._graph.ops]
        activations = [
            replace(self._graph.tensors[name], shape=_slice(mask).shape(mask.shape))
            for name, mask in self._kept.items()
        ]
        return self._graph.with_ops(ops, [*activations, *self._constants])

    def _op(self, op: Op) -> Op:
        match op.attributes:
            case Conv2D():
                return self._conv(op, op.attributes)
            case FullyConnected():
                return self._fully_connected(op)
            case Binary():
                inputs = tuple(self._operand(op, name) for name in op.inputs)
                return replace(op, inputs=inputs)
            case _:
                return op

    def _operand(self, op: Op, name: str) -> str:
        """A constant operand, where the output has lost slices that it has, too."""
        tensor = self._graph.tensors[name]
        y = self._kept[op.output]
        if tensor.data is None or y.all():
            return name
        kept = _slice(y)
        axis = kept.axis - (y.ndim - len(tensor.shape))
        if axis < 0 or tensor.shape[axis] == 1:
            return name
        return self._constant(tensor, np.take(tensor.data, kept.indices, axis=axis))

    def _constant(
        self, tensor: Tensor, data: Array, quantization: Quantization | None = None
    ) -> str:
        name = f"{tensor.name}.live"
        while name in self._names:
            name += "_"
        self._names.add(name)
        self._constants.append(
            replace(
                tensor,
                name=name,
                shape=data.shape,
                data=np.ascontiguousarray(data),
                quantization=quantization or tensor.quantization,
            )
        )
        return name

    def _conv(self, op: Op, a: Conv2D) -> Op:
        weight = self._graph.tensors[op.inputs[1]]
        x, y = (self._kept[name].any(axis=(1, 2)) for name in (op.inputs[0], op.output))
        if x.all() and y.all():
            return op
        assert weight.data is not None
        if a.groups == 1:
            columns = x
            attributes = a
        else:
            columns = np.ones(weight.shape[1], np.bool_)
            groups = int(x.reshape(a.groups, -1).any(axis=1).sum())
            attributes = replace(a, groups=groups)
        low = self._found[op.inputs[0]].low[:, 0, 0]
        return self._layer(replace(op, attributes=attributes), y, columns, low)

    def _fully_connected(self, op: Op) -> Op:
        weight = self._graph.tensors[op.inputs[1]]
        y = self._kept[op.output].reshape(-1, weight.shape[0]).any(axis=0)
        x = self._kept[op.inputs[0]].reshape(-1, weight.shape[1]).any(axis=0)
        if x.all() and y.all():
            return op
        low = self._found[op.inputs[0]].low.reshape(-1, weight.shape[1])[0]
        return self._layer(op, y, x, low)

    def _layer(self, op: Op, rows: Mask, columns: Mask, constants: Array) -> Op:
        """The layer without the rows and columns that are not kept; `constants` (C,) holds the
        values of removed inputs, which go into the bias."""
        weight = self._graph.tensors[op.inputs[1]]
        bias = self._graph.tensors[op.inputs[2]] if len(op.inputs) > 2 else None
        assert weight.data is not None
        quantization = weight.quantization and weight.quantization.of_rows(rows)
        data = weight.data[rows][:, columns]
        inputs = [op.inputs[0], self._constant(weight, data, quantization)]
        values = None if bias is None else bias.data
        if weight.dtype == "int8" and not columns.all():
            removed = weight.data[:, ~columns].astype(np.int64) - weight.zero_point
            removed = removed.reshape(*removed.shape[:2], -1).sum(axis=2)
            zero = self._graph.tensors[op.inputs[0]].zero_point
            folded = removed @ (constants[~columns].astype(np.int64) - zero)
            before = 0 if values is None else values.astype(np.int64)
            total = wrap_int32(before + folded).astype(np.int32)
            values = total if values is not None or total.any() else None
        if values is not None:
            like = bias or self._new_bias(op, weight)
            quantization = like.quantization and like.quantization.of_rows(rows)
            inputs.append(self._constant(like, values[rows], quantization))
        return replace(op, inputs=tuple(inputs))

    def _new_bias(self, op: Op, weight: Tensor) -> Tensor:
        assert weight.quantization is not None
        scale = self._graph.tensors[op.inputs[0]].scale
        smallest = float(np.finfo(np.float32).tiny)
        scales = tuple(
            max(float(np.float32(s * scale)), smallest) for s in weight.quantization.scale
        )
        return Tensor(f"{op.name}.bias", (weight.shape[0],), "int32", Quantization(scales, 0))
