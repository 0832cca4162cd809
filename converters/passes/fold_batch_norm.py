"""Fold per-channel factors and offsets into the layer in front of them.

A batch-norm with fixed statistics is y = x * scale + shift per channel (Ioffe and Szegedy
2015); behind a convolution or a fully connected layer it goes into that layer's weights and
bias. Front ends write it as Binary MUL and ADD with constants, so this also folds every other
multiplication, addition or subtraction of that form. float32 only; a zero weight stays zero.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeroskip.converters.ir import (
    NO_CLAMP,
    Array,
    Binary,
    BinaryKind,
    Conv2D,
    FullyConnected,
    Graph,
    Op,
    Tensor,
)

_Float64 = npt.NDArray[np.float64]


def fold_batch_norm(graph: Graph) -> Graph:
    """The graph with each constant Binary that directly follows its only layer folded into it.

    Factors are combined in double precision and rounded to float32 once.
    """
    ops: list[Op] = []
    new: dict[str, Tensor] = {}
    produced: dict[str, int] = {}  # tensor -> index in ops
    # The running product and bias of a layer, so that several folds round once.
    exact: dict[int, tuple[_Float64, _Float64 | None]] = {}
    for op in graph.ops:
        folded = _matching_layer(graph, op, ops, produced)
        if folded is None:
            produced[op.output] = len(ops)
            ops.append(op)
            continue
        index, constant = folded
        assert isinstance(op.attributes, Binary)
        if index not in exact:
            exact[index] = _weights(graph, ops[index])
        exact[index] = _apply(*exact[index], op.attributes.kind, op.inputs, constant)
        layer: Any = ops[index].attributes
        ops[index] = replace(
            ops[index],
            output=op.output,
            attributes=replace(layer, clamp=op.attributes.clamp),
        )
        produced[op.output] = index
    for index, (weight, bias) in exact.items():
        ops[index], tensors = _with_weights(graph, ops[index], weight, bias)
        new.update((t.name, t) for t in tensors)
    return graph.with_ops(ops, new.values())


def _matching_layer(
    graph: Graph, op: Op, ops: list[Op], produced: dict[str, int]
) -> tuple[int, tuple[str, _Float64]] | None:
    """Index in `ops` of the layer that `op` can go into, with the constant's name and one value
    per output channel."""
    if not isinstance(op.attributes, Binary) or graph.output_tensor(op).dtype != "float32":
        return None
    for x, other in (op.inputs, op.inputs[::-1]):
        data = graph.tensors[other].data
        index = produced.get(x)
        if data is None or index is None or x in graph.outputs:
            continue
        layer = ops[index].attributes
        if (
            not isinstance(layer, Conv2D | FullyConnected)
            or layer.clamp != NO_CLAMP
            or sum(1 for _ in graph.consumers(x)) != 1
        ):
            continue
        channels = graph.tensors[ops[index].inputs[1]].shape[0]
        axis = 0 if isinstance(layer, Conv2D) else len(graph.tensors[x].shape) - 1
        per_channel = _per_channel(data, graph.tensors[x].shape, axis, channels)
        if per_channel is not None and graph.output_tensor(op).shape == graph.tensors[x].shape:
            return index, (other, per_channel)
    return None


def _per_channel(data: Array, shape: tuple[int, ...], axis: int, channels: int) -> _Float64 | None:
    """One value per channel if `data` broadcasts to `shape` along `axis` only."""
    if data.ndim > len(shape) or shape[axis] != channels:
        return None
    aligned = data.reshape((1,) * (len(shape) - data.ndim) + data.shape)
    if aligned.size != aligned.shape[axis]:
        return None
    return np.broadcast_to(aligned.reshape(-1).astype(np.float64), (channels,))


def _weights(graph: Graph, op: Op) -> tuple[_Float64, _Float64 | None]:
    weight = graph.tensors[op.inputs[1]].data
    assert weight is not None
    bias = graph.tensors[op.inputs[2]].data if len(op.inputs) > 2 else None
    return weight.astype(np.float64), None if bias is None else bias.astype(np.float64)


def _apply(
    weight: _Float64,
    bias: _Float64 | None,
    kind: BinaryKind,
    inputs: tuple[str, ...],
    constant: tuple[str, _Float64],
) -> tuple[_Float64, _Float64 | None]:
    name, value = constant
    if kind is BinaryKind.MUL:
        factor = value.reshape(-1, *(1,) * (weight.ndim - 1))
        return weight * factor, None if bias is None else bias * value
    start = np.zeros(len(weight)) if bias is None else bias
    if kind is BinaryKind.ADD:
        return weight, start + value
    if inputs[1] == name:
        return weight, start - value
    return -weight, value - start


def _with_weights(
    graph: Graph, op: Op, weight: _Float64, bias: _Float64 | None
) -> tuple[Op, list[Tensor]]:
    """The layer with new constants, which replace the old ones unless others share those."""
    old = (*op.inputs[1:], f"{op.name}.bias")
    clean = np.asarray(weight, np.float32)
    clean = np.where(clean == 0, np.float32(0), clean)  # no negative zeros
    tensors = [_constant(graph, op, old[0], clean)]
    if bias is not None:
        tensors.append(_constant(graph, op, old[1], np.asarray(bias, np.float32)))
    return replace(op, inputs=(op.inputs[0], *(t.name for t in tensors))), tensors


def _constant(graph: Graph, op: Op, name: str, data: Array) -> Tensor:
    readers = {(reader.name, reader.inputs.count(name)) for reader in graph.consumers(name)}
    if name in graph.tensors and readers != {(op.name, 1)}:
        name = f"{op.name}.folded.{name}"
    return Tensor(name, data.shape, "float32", data=data)
