"""Exact clean-ups: every rewrite gives the same elements, bit for bit.

(float32: up to the sign of a zero, and the order of the sums of a layer whose columns move.)

Applied to a fixed point:

* ops whose result nobody reads are dropped;
* a Reshape, Transpose, Pad or limit that changes nothing is dropped, two in a row become one;
* a Transpose that only moves axes of length 1 becomes a Reshape;
* a Transpose sinks below element-wise ops and Concat, so that it meets its inverse;
* a Transpose that only feeds a fully connected layer goes into the order of its weights;
* a Pad with zeros goes into the padding of the convolutions it feeds;
* a limit (relu, relu6, hardtanh) goes into the layer that it follows, past maximum pooling and
  reshaping, which it commutes with (float32 only: in int8 it would round differently).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from zeroskip.converters.ir import (
    MAX_DIM,
    NO_CLAMP,
    Array,
    Binary,
    Clamp,
    Concat,
    Conv2D,
    FullyConnected,
    Graph,
    Op,
    Pad,
    Pool2D,
    PoolKind,
    Quantize,
    Reshape,
    Shape,
    Tensor,
    Transpose,
    Unary,
    UnaryKind,
)
from zeroskip.converters.passes.editor import Editor


def simplify(graph: Graph) -> Graph:
    """The same function of the same inputs and outputs with fewer, cheaper ops."""
    while True:
        for rewrite in _REWRITES:
            changed = rewrite(Editor(graph))
            if changed is not None:
                graph = changed
                break
        else:
            return graph


def _drop_unread(e: Editor) -> Graph | None:
    dead: dict[str, Op | None] = {
        op.output: None
        for op in e.graph.ops
        if op.output not in e.readers and op.output not in e.graph.outputs
    }
    return e.edit(dead) if dead else None


def _drop_no_op(e: Editor) -> Graph | None:
    for op in e.graph.ops:
        x, output = e.tensor(op.inputs[0]), e.graph.output_tensor(op)
        if x.quantization != output.quantization or x.dtype != output.dtype:
            continue
        match op.attributes:
            case Reshape():
                idle = x.shape == output.shape
            case Transpose(perm=perm):
                idle = perm == tuple(range(len(perm)))
            case Pad(padding=padding):
                idle = not any(map(any, padding))
            case Unary(kind=UnaryKind.CLAMP, clamp=clamp):
                idle = clamp == NO_CLAMP
            case _:
                idle = False
        if idle and (changed := e.bypass(op)) is not None:
            return changed
    return None


def _shorten_transpose(e: Editor) -> Graph | None:
    """Where the axes that have a length keep their order, a Reshape does."""
    for op in e.graph.ops:
        if isinstance(op.attributes, Transpose):
            shape = e.tensor(op.inputs[0]).shape
            long = [axis for axis in op.attributes.perm if shape[axis] != 1]
            if long == sorted(long) and op.attributes.perm != tuple(range(len(shape))):
                return e.edit({op.output: replace(op, attributes=Reshape())})
    return None


def _merge_pairs(e: Editor) -> Graph | None:
    """Two reshapes, transposes or limits in a row."""
    for op in e.graph.ops:
        first = e.producer.get(op.inputs[0])
        if first is None:
            continue
        x, middle = e.tensor(first.inputs[0]), e.tensor(first.output)
        if x.quantization != middle.quantization:
            continue
        merged: Reshape | Transpose | Unary
        match first.attributes, op.attributes:
            case Reshape(), Reshape():
                merged = Reshape()
            case Transpose(perm=inner), Transpose(perm=outer):
                merged = Transpose(tuple(inner[axis] for axis in outer))
            case (
                Unary(kind=UnaryKind.CLAMP, clamp=inner_clamp),
                Unary(kind=UnaryKind.CLAMP, clamp=outer_clamp),
            ) if x.dtype == "float32":
                merged = Unary(UnaryKind.CLAMP, _limited(inner_clamp, outer_clamp))
            case _:
                continue
        return e.edit({op.output: replace(op, attributes=merged, inputs=first.inputs)})
    return None


def _limited(first: Clamp, then: Clamp) -> Clamp:
    """The two limits applied one after the other."""

    def limit(value: float) -> float:
        return min(max(value, then.low), then.high)

    return Clamp(limit(first.low), limit(first.high))


def _sink_transpose(e: Editor) -> Graph | None:
    """Transpose, f -> f, Transpose, where f does not care about the order of the axes."""
    for op in e.graph.ops:
        if not isinstance(op.attributes, Unary | Quantize | Binary | Concat):
            continue
        above = [e.producer.get(name) for name in op.inputs]
        perms = {a.attributes.perm for a in above if a and isinstance(a.attributes, Transpose)}
        if len(perms) != 1:
            continue
        perm = perms.pop()
        sources: list[str] = []
        for name, producer in zip(op.inputs, above, strict=True):
            if producer is not None and isinstance(producer.attributes, Transpose):
                source = producer.inputs[0]
                same = e.tensor(source).quantization == e.tensor(name).quantization
                if same and e.only_reader(name) is op:
                    sources.append(source)
            elif isinstance(op.attributes, Binary) and _is_scalar(e.tensor(name)):
                sources.append(name)
        output = e.graph.output_tensor(op)
        if isinstance(op.attributes, Quantize) and output.dtype != "int8":
            continue  # moving one byte an element is cheaper than four
        if len(sources) != len(op.inputs) or len(output.shape) != len(perm):
            continue
        shape = [0] * len(perm)
        for axis, original in enumerate(perm):
            shape[original] = output.shape[axis]
        attributes = op.attributes
        if isinstance(attributes, Concat):
            attributes = Concat(perm[attributes.axis])
        before = replace(output, name=e.fresh(f"{op.output}.raw"), shape=tuple(shape))
        moved = Op(op.name, attributes, tuple(sources), before.name)
        transpose = Op(f"{op.name}.transpose", Transpose(perm), (before.name,), op.output)
        return e.edit({op.output: moved}, [before], {op.output: transpose})
    return None


def _is_scalar(tensor: Tensor) -> bool:
    return tensor.data is not None and tensor.shape == (1,)


def _transpose_into_weights(e: Editor) -> Graph | None:
    """A whole transposed tensor that is one row of a fully connected layer."""
    for op in e.graph.ops:
        if not isinstance(op.attributes, Transpose):
            continue
        x = e.tensor(op.inputs[0])
        reader, link = e.only_reader(op.output), op
        while reader is not None and isinstance(reader.attributes, Reshape):
            link, reader = reader, e.only_reader(reader.output)
        if reader is None or not isinstance(reader.attributes, FullyConnected):
            continue
        weight = e.tensor(reader.inputs[1])
        row = e.tensor(link.output)
        if weight.shape[1] != x.size or x.quantization != row.quantization:
            continue
        assert weight.data is not None
        # Element k of the transposed row is element order[k] of the source.
        order = np.arange(x.size).reshape(x.shape).transpose(op.attributes.perm).ravel()
        columns: Array = np.empty_like(weight.data)
        columns[:, order] = weight.data
        name = weight.name
        if len(e.readers[name]) > 1:
            name = e.fresh(f"{reader.name}.weight")
        flat = replace(row, name=e.fresh(f"{reader.name}.row"), shape=(x.size,))
        inputs = (flat.name, name, *reader.inputs[2:])
        layer = replace(reader, inputs=inputs)
        reshape = Op(f"{op.name}.reshape", Reshape(), op.inputs, flat.name)
        changes: dict[str, Op | None] = {op.output: reshape, reader.output: layer}
        between = e.only_reader(op.output)
        while between is not None and between is not reader:
            changes[between.output] = None
            between = e.only_reader(between.output)
        return e.edit(changes, [flat, replace(weight, name=name, data=columns)])
    return None


def _pad_into_convolution(e: Editor) -> Graph | None:
    for op in e.graph.ops:
        if not isinstance(op.attributes, Pad) or op.attributes.value != 0:
            continue
        x, padded = e.tensor(op.inputs[0]), e.tensor(op.output)
        readers = e.readers.get(op.output, [])
        if (
            len(x.shape) != 3
            or any(op.attributes.padding[0])
            or x.quantization != padded.quantization
            or op.output in e.graph.outputs
            or not all(
                isinstance(r.attributes, Conv2D) and op.output not in r.inputs[1:] for r in readers
            )
        ):
            continue
        rows, columns = op.attributes.padding[1:]
        extra = (*rows, *columns)
        changes: dict[str, Op | None] = {op.output: None}
        for reader in readers:
            assert isinstance(reader.attributes, Conv2D)
            own = reader.attributes.padding
            padding = (own[0] + extra[0], own[1] + extra[1], own[2] + extra[2], own[3] + extra[3])
            if not _padding_fits(padding, e.tensor(reader.inputs[1]).shape, reader.attributes):
                break
            changes[reader.output] = replace(
                reader,
                attributes=replace(reader.attributes, padding=padding),
                inputs=(x.name, *reader.inputs[1:]),
            )
        else:
            return e.edit(changes)
    return None


def _padding_fits(padding: tuple[int, int, int, int], weight: Shape, a: Conv2D) -> bool:
    """Less than the reach of the kernel, as every framework's own convolutions have it: more
    would make windows that lie in the padding altogether."""
    rows = (weight[2] - 1) * a.dilation[0]
    columns = (weight[3] - 1) * a.dilation[1]
    return max(padding[:2]) <= min(rows, MAX_DIM) and max(padding[2:]) <= min(columns, MAX_DIM)


def _fuse_clamp(e: Editor) -> Graph | None:
    for op in e.graph.ops:
        if not (isinstance(op.attributes, Unary) and op.attributes.kind is UnaryKind.CLAMP):
            continue
        if e.graph.output_tensor(op).dtype != "float32" or op.attributes.clamp == NO_CLAMP:
            continue
        layer = _fusible_layer(e, op.inputs[0], op)
        if layer is None:
            continue
        attributes: Any = layer.attributes
        clamp = _limited(attributes.clamp, op.attributes.clamp)
        fused = replace(layer, attributes=replace(attributes, clamp=clamp))
        # The limit itself stays as a no-op, which the next round drops.
        idle = replace(op, attributes=Unary(UnaryKind.CLAMP, NO_CLAMP))
        return e.edit({layer.output: fused, op.output: idle})
    return None


def _fusible_layer(e: Editor, name: str, reader: Op) -> Op | None:
    """The layer above `reader` that can take over its limit; nobody else may see the change."""
    nearest: Op | None = None
    while e.only_reader(name) is reader and name in e.producer:
        op = e.producer[name]
        match op.attributes:
            case Conv2D() | FullyConnected() | Binary():
                return op
            case Pool2D(kind=PoolKind.MAX) if _commutes_with_clamp(e, op):
                # max and a limit commute: the farther up, the smaller the range it leaves.
                nearest = nearest or op
            case Pool2D():
                return nearest or op
            case Reshape() | Transpose():
                pass
            case _:
                return nearest
        name, reader = op.inputs[0], op
    return nearest


def _commutes_with_clamp(e: Editor, op: Op) -> bool:
    """Whether a limit may go in front of maximum pooling: every window must hold an element, as
    one in the padding alone gives a zero, which a limit need not leave alone."""
    a = op.attributes
    assert isinstance(a, Pool2D)
    if a.clamp != NO_CLAMP:
        return False
    if a.adaptive or not any(a.padding):
        return True
    x, output = e.tensor(op.inputs[0]), e.tensor(op.output)
    for axis in range(2):
        start = (output.shape[1 + axis] - 1) * a.stride[axis] - a.padding[2 * axis]
        if start >= x.shape[1 + axis]:
            return False
    return True


_REWRITES: Final[tuple[Callable[[Editor], Graph | None], ...]] = (
    _drop_unread,
    _drop_no_op,
    _shorten_transpose,
    _merge_pairs,
    _fuse_clamp,
    _transpose_into_weights,
    _pad_into_convolution,
    _sink_transpose,
)
