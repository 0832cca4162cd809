"""Building a graph from PyTorch's values: batch axis, lazy shapes, names, constants."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeroskip.converters.ir import (
    MAX_DIM,
    MAX_RANK,
    Array,
    Attributes,
    Binary,
    BinaryKind,
    Graph,
    Op,
    Reshape,
    Shape,
    Tensor,
)
from zeroskip.errors import UnsupportedError

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Value:
    """An activation: an IR tensor whose elements, in order, form a torch tensor of `shape`.

    `shape` has torch's batch axis of 1. The IR tensor may have any shape with as many
    elements, so that a view costs nothing until an operator asks for a certain shape.
    """

    tensor: str
    shape: Shape


Operand = Value | FloatArray  # constants keep torch's shape, too


def natural(shape: Sequence[int]) -> Shape:
    """A torch shape without its batch axis of 1; at least of rank 1."""
    rest = tuple(shape[1:]) if len(shape) > 1 and shape[0] == 1 else tuple(shape)
    return rest or (1,)


def is_batched(shape: Sequence[int]) -> bool:
    """Whether natural() drops the first axis."""
    return len(shape) > 1 and shape[0] == 1


def lifted(shape: Shape) -> Shape:
    """The IR's (C, 1, L) of a one-dimensional (C, L)."""
    return (shape[0], 1, shape[1])


class GraphBuilder:
    """Collects tensors and ops; `finish` makes the graph."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tensors: dict[str, Tensor] = {}
        self._ops: list[Op] = []
        self._inputs: list[str] = []
        self._op_names: set[str] = set()
        self._constants: dict[bytes, str] = {}
        self._reshaped: dict[tuple[str, Shape], str] = {}

    def add_input(self, name: str, shape: Shape) -> Value:
        tensor = self._add_tensor(name, natural(shape))
        self._inputs.append(tensor)
        return Value(tensor, shape)

    def constant(self, name: str, data: Array) -> str:
        """The tensor that holds float32 `data`; equal arrays share one, the first one's name."""
        array = np.ascontiguousarray(data, np.float32)
        key = hashlib.sha256(repr(array.shape).encode() + array.tobytes()).digest()
        if key not in self._constants:
            self._constants[key] = self._add_tensor(name, array.shape, array.copy())
        return self._constants[key]

    def emit(
        self,
        name: str,
        attributes: Attributes,
        inputs: Sequence[str],
        ir_shape: Shape,
        shape: Shape | None = None,
    ) -> Value:
        """Append an op whose output has `ir_shape` and stands for torch's `shape`
        (default: `ir_shape` behind a batch axis)."""
        unique = _unique(name, self._op_names)
        self._op_names.add(unique)
        output = self._add_tensor(unique, ir_shape)
        self._ops.append(Op(unique, attributes, tuple(inputs), output))
        return Value(output, (1, *ir_shape) if shape is None else shape)

    def ir_shape(self, value: Value) -> Shape:
        return self._tensors[value.tensor].shape

    def shaped(self, value: Value, shape: Shape) -> str:
        """The IR tensor with the value's elements in `shape`; a Reshape where it is needed."""
        if self.ir_shape(value) == shape:
            return value.tensor
        key = (value.tensor, shape)
        if key not in self._reshaped:
            op = self.emit(f"{value.tensor}.reshape", Reshape(), [value.tensor], shape)
            self._reshaped[key] = op.tensor
        return self._reshaped[key]

    def natural(self, value: Value) -> str:
        """The IR tensor in the shape that torch gives it, without the batch axis."""
        return self.shaped(value, natural(value.shape))

    def by_axis(self, value: Value) -> tuple[str, dict[int, int]]:
        """An IR tensor and, for each axis of torch's tensor but the batch, its axis there."""
        shape = natural(value.shape)
        first = 1 if is_batched(value.shape) else 0
        axes = range(len(value.shape) - first)
        if len(shape) == 2 and self.ir_shape(value) == lifted(shape):
            return value.tensor, {first + axis: 2 * axis for axis in axes}
        return self.natural(value), {first + axis: axis for axis in axes}

    def binary(
        self, name: str, kind: BinaryKind, left: Operand, right: Operand, shape: Shape
    ) -> Value:
        """An element-wise op on two operands that broadcast to torch's `shape`."""
        values = [v for v in (left, right) if isinstance(v, Value)]
        same = len({(v.shape, self.ir_shape(v)) for v in values}) == 1
        scalar = all(isinstance(v, Value) or v.size == 1 for v in (left, right))
        if same and scalar and math.prod(shape) == math.prod(values[0].shape):
            out = self.ir_shape(values[0])
            names = [
                v.tensor if isinstance(v, Value) else self.constant(f"{name}.value", v.reshape(1))
                for v in (left, right)
            ]
            return self.emit(name, Binary(kind), names, out, shape)
        out = natural(shape)
        lift = len(out) == 2 and any(
            self.ir_shape(v) == lifted(natural(v.shape))
            for v in values
            if len(natural(v.shape)) == 2
        )

        def place(operand: Operand) -> str:
            own = natural(operand.shape)
            if lift:
                own = lifted((1,) * (2 - len(own)) + own)
            if isinstance(operand, Value):
                return self.shaped(operand, own)
            return self.constant(f"{name}.value", operand.reshape(own))

        return self.emit(
            name, Binary(kind), [place(left), place(right)], lifted(out) if lift else out, shape
        )

    def finish(self, outputs: Sequence[Value]) -> Graph:
        names: list[str] = []
        for value in outputs:
            name = self.natural(value)
            if name in self._inputs or name in names:
                # An output is a tensor of its own, and one that an op writes.
                shape = natural(value.shape)
                name = self.emit(f"{name}.copy", Reshape(), [name], shape).tensor
            names.append(name)
        graph = Graph(
            self._name, self._tensors, tuple(self._ops), tuple(self._inputs), tuple(names)
        )
        return graph.with_ops(graph.ops)  # drops constants that nothing reads

    def _add_tensor(self, name: str, shape: Shape, data: Array | None = None) -> str:
        if not 1 <= len(shape) <= MAX_RANK or not all(1 <= d <= MAX_DIM for d in shape):
            raise UnsupportedError(
                f"tensor '{name}' of shape {list(shape)} (without the batch): supported are 1 to "
                f"{MAX_RANK} dimensions of 1 to {MAX_DIM}"
            )
        unique = _unique(name, self._tensors)
        self._tensors[unique] = Tensor(unique, shape, "float32", data=data)
        return unique


def _unique(name: str, taken: set[str] | dict[str, Tensor]) -> str:
    candidate, count = name, 0
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate
