"""Builds the intermediate representation from a TFLite model: tensors, names and layouts.

A source tensor may exist in the graph in several layouts; each is made once, when first asked
for, so that no transposition is inserted that nothing needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Final

import numpy as np

from zeroskip.converters.frontends.tflite_reader import SourceModel, SourceOperator, SourceTensor
from zeroskip.converters.ir import (
    Array,
    Attributes,
    Graph,
    Op,
    Quantization,
    Quantize,
    Reshape,
    Shape,
    Tensor,
    Transpose,
)
from zeroskip.errors import ModelError, UnsupportedError

MAX_ELEMENTS: Final = 1 << 26  # of an activation; the container's largest arena
UINT8_OFFSET: Final = 128


class Layout(Enum):
    """How a source tensor is laid out in the graph, the batch of 1 left out."""

    SOURCE = "source"
    CHANNEL_MAJOR = "chw"  # rank 4 only: (C, H, W)
    FLAT = "flat"  # (C * H * W,) of a tensor whose source order would be (H * W * C,)


def is_spatial(shape: Shape) -> bool:
    """Whether the IR keeps a tensor of this source shape channel-major."""
    return len(shape) == 4 and shape[0] == 1


def order_free(shape: Shape) -> bool:
    """Whether (1, H, W, C) and (C, H, W) hold their elements in one order."""
    return shape[3] == 1 or shape[1] * shape[2] == 1


def without_batch(shape: Shape) -> Shape:
    if not shape:
        return (1,)
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape


def channel_major(shape: Shape) -> Shape:
    return (shape[3], shape[1], shape[2])


def natural_layout(shape: Shape) -> Layout:
    return Layout.CHANNEL_MAJOR if is_spatial(shape) else Layout.SOURCE


def ir_shape(shape: Shape, layout: Layout) -> Shape:
    match layout:
        case Layout.SOURCE:
            return without_batch(shape)
        case Layout.CHANNEL_MAJOR:
            return channel_major(shape)
        case Layout.FLAT:
            return (math.prod(shape),)


def describe(operator: SourceOperator, model: SourceModel) -> str:
    """The operator and its place, for messages."""
    output = model.tensors[operator.outputs[0]].name if operator.outputs else "nothing"
    return f"operator {operator.index} ({operator.kind} -> '{output}')"


class Builder:
    """Tensors and ops so far. `where` names the operator in hand, for messages."""

    def __init__(self, model: SourceModel, name: str) -> None:
        self.model = model
        self.name = name
        self.where = name
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.layouts: dict[int, dict[Layout, str]] = {}
        self.origins: dict[int, Shape] = {}  # (H, W, C) of tensors in the FLAT layout
        self._constants: dict[tuple[object, ...], str] = {}
        self.inputs: list[str] = []
        self.outputs: list[str] = []

    def unsupported(self, what: str) -> UnsupportedError:
        return UnsupportedError(f"{self.where}: {what}")

    def malformed(self, what: str) -> ModelError:
        return ModelError(f"{self.where}: {what}")

    # --- tensors ---------------------------------------------------------------------------

    def source(self, index: int) -> SourceTensor:
        return self.model.tensors[index]

    def dtype(self, index: int) -> str:
        """The dtype of an activation in the graph. uint8 becomes int8."""
        tensor = self.source(index)
        if tensor.dtype not in ("int8", "uint8", "float32"):
            raise self.unsupported(
                f"tensor '{tensor.name}' is {tensor.dtype}; supported are int8, uint8, float32"
            )
        return "int8" if tensor.dtype == "uint8" else tensor.dtype

    def scale_and_zero_point(self, index: int) -> tuple[float, int]:
        """Of a tensor quantized as a whole, in the file's own terms."""
        tensor = self.source(index)
        if tensor.scales.size != 1:
            raise self.unsupported(
                f"tensor '{tensor.name}' ({tensor.dtype}) has {tensor.scales.size} scales; "
                "supported is one"
            )
        if tensor.zero_points.size > 1:
            raise self.malformed(f"tensor '{tensor.name}' has several zero points for one scale")
        zero_point = int(tensor.zero_points[0]) if tensor.zero_points.size else 0
        return float(tensor.scales[0]), zero_point

    def quantization(self, index: int) -> Quantization | None:
        """Of an activation as the graph has it: uint8 shifted to int8."""
        if self.dtype(index) == "float32":
            return None
        scale, zero_point = self.scale_and_zero_point(index)
        try:
            if self.source(index).dtype == "uint8":
                return Quantization((scale,), zero_point - UINT8_OFFSET, was_uint8=True)
            return Quantization((scale,), zero_point)
        except ModelError as error:
            raise self.malformed(f"tensor '{self.source(index).name}': {error}") from None

    def unique(self, name: str) -> str:
        candidate, n = name, 1
        while candidate in self.tensors:
            candidate, n = f"{name}:{n}", n + 1
        return candidate

    def constant(
        self,
        key: tuple[object, ...],
        name: str,
        data: Array,
        quantization: Quantization | None = None,
    ) -> str:
        """A constant tensor; one with the same key is used again."""
        if key not in self._constants:
            data = np.ascontiguousarray(data)
            if data.dtype == np.float32 and not np.isfinite(data).all():
                raise self.malformed(f"constant '{name}' holds infinities or NaNs")
            tensor = Tensor(self.unique(name), data.shape, str(data.dtype), quantization, data)
            self.tensors[tensor.name] = tensor
            self._constants[key] = tensor.name
        return self._constants[key]

    # --- ops -------------------------------------------------------------------------------

    def emit(
        self, label: str, attributes: Attributes, inputs: Sequence[str], tensor: Tensor
    ) -> str:
        """Append an op that writes `tensor`, whose name is made unique. Returns that name."""
        if tensor.size > MAX_ELEMENTS:
            raise self.unsupported(
                f"tensor '{tensor.name}' of {tensor.size} elements; the limit is {MAX_ELEMENTS}"
            )
        tensor = replace(tensor, name=self.unique(tensor.name))
        self.tensors[tensor.name] = tensor
        self.ops.append(Op(f"{label}_{len(self.ops)}", attributes, tuple(inputs), tensor.name))
        return tensor.name

    def compute(
        self,
        label: str,
        attributes: Attributes,
        inputs: Sequence[str],
        index: int,
        layout: Layout,
    ) -> None:
        """Append the op that computes source tensor `index` in `layout`."""
        self.claim(index)
        source = self.source(index)
        tensor = Tensor(
            source.name,
            ir_shape(source.shape, layout),
            self.dtype(index),
            self.quantization(index),
        )
        self.layouts[index] = {layout: self.emit(label, attributes, inputs, tensor)}

    def alias(self, index: int, layouts: dict[Layout, str]) -> None:
        """Source tensor `index` is what the graph already has under these names."""
        self.claim(index)
        self.layouts[index] = dict(layouts)

    def claim(self, index: int) -> None:
        if index in self.layouts or self.source(index).data is not None:
            raise self.malformed(f"tensor '{self.source(index).name}' is written twice")

    def get(self, index: int, layout: Layout | None = None) -> str:
        """The graph's name of a source tensor in a layout (by default its natural one)."""
        tensor = self.source(index)
        layout = layout or natural_layout(tensor.shape)
        if tensor.data is not None:
            return self._constant_operand(index, layout)
        if index not in self.layouts:
            raise self.malformed(f"reads '{tensor.name}', which nothing has computed")
        known = self.layouts[index]
        if layout in known:
            return known[layout]
        origin = known.get(Layout.CHANNEL_MAJOR)
        if layout is Layout.CHANNEL_MAJOR:
            origin = known.get(Layout.SOURCE)
        if origin is None or not is_spatial(tensor.shape):
            raise self.malformed(f"'{tensor.name}' is not available as {layout.value}")
        if layout is Layout.FLAT or order_free(tensor.shape):
            known[layout] = self._reordered("reshape", Reshape(), origin, index, layout)
        else:
            perm = (1, 2, 0) if layout is Layout.SOURCE else (2, 0, 1)
            known[layout] = self._reordered("transpose", Transpose(perm), origin, index, layout)
        return known[layout]

    def _reordered(
        self, label: str, attributes: Attributes, origin: str, index: int, layout: Layout
    ) -> str:
        source = self.source(index)
        tensor = replace(
            self.tensors[origin],
            name=f"{source.name}/{layout.value}",
            shape=ir_shape(source.shape, layout),
        )
        if isinstance(attributes, Reshape) and tensor.shape == self.tensors[origin].shape:
            return origin
        return self.emit(label, attributes, (origin,), tensor)

    def ready_layout(self, index: int) -> Layout:
        """The layout in which an element-wise operator finds a tensor without conversion."""
        layout = natural_layout(self.source(index).shape)
        return layout if layout in self.layouts.get(index, {}) else Layout.SOURCE

    def reshaped(self, name: str, shape: Shape) -> str:
        """Tensor `name` in another shape."""
        if self.tensors[name].shape == shape:
            return name
        tensor = replace(self.tensors[name], name=f"{name}/reshaped", shape=shape)
        return self.emit("reshape", Reshape(), (name,), tensor)

    def transposed(self, name: str, perm: tuple[int, ...]) -> str:
        """Tensor `name` with its axes permuted."""
        shape = tuple(self.tensors[name].shape[axis] for axis in perm)
        tensor = replace(self.tensors[name], name=f"{name}/transposed", shape=shape)
        return self.emit("transpose", Transpose(perm), (name,), tensor)

    def in_source_order(self, index: int) -> str:
        """A tensor with the elements in the source's order, in whatever shape."""
        known = self.layouts.get(index, {})
        if (
            Layout.SOURCE not in known
            and Layout.CHANNEL_MAJOR in known
            and order_free(self.source(index).shape)
        ):
            return known[Layout.CHANNEL_MAJOR]
        return self.get(index, Layout.SOURCE)

    def _constant_operand(self, index: int, layout: Layout) -> str:
        tensor = self.source(index)
        assert tensor.data is not None
        data = tensor.data.reshape(without_batch(tensor.shape))
        if layout is Layout.CHANNEL_MAJOR:
            data = data.transpose(2, 0, 1)
        return self.activation_constant(index, data, layout.value)

    def activation_constant(self, index: int, data: Array, variant: str) -> str:
        """A constant used where an activation might be: uint8 becomes int8."""
        if self.dtype(index) == "int8" and data.dtype == np.uint8:
            data = uint8_to_int8(data)
        quantization = self.quantization(index)
        key = (index, variant, data.shape)
        return self.constant(key, self.source(index).name, data, quantization)

    # --- the ends of the graph -------------------------------------------------------------

    def add_input(self, index: int) -> None:
        source = self.source(index)
        self.where = f"input '{source.name}'"
        dtype, quantization = self.dtype(index), self.quantization(index)
        self.claim(index)
        shape = ir_shape(source.shape, Layout.SOURCE)
        name = self.unique(source.name)
        if math.prod(shape) > MAX_ELEMENTS:
            raise self.unsupported(f"{math.prod(shape)} elements; the limit is {MAX_ELEMENTS}")
        inside = Tensor(name, shape, dtype, quantization)
        if source.dtype == "uint8":
            scale, zero_point = self.scale_and_zero_point(index)
            outside = Tensor(name, shape, "uint8", Quantization((scale,), zero_point))
            self.tensors[name] = outside
            converted = replace(inside, name=f"{name}/int8")
            self.layouts[index] = {
                Layout.SOURCE: self.emit("quantize", Quantize(), (name,), converted)
            }
        else:
            self.tensors[name] = inside
            self.layouts[index] = {Layout.SOURCE: name}
        self.inputs.append(name)

    def add_output(self, index: int) -> None:
        source = self.source(index)
        self.where = f"output '{source.name}'"
        if source.data is not None:
            raise self.unsupported("is a constant; supported are computed outputs")
        name = self.get(index, Layout.SOURCE)
        if source.dtype == "uint8":
            scale, zero_point = self.scale_and_zero_point(index)
            outside = Tensor(
                f"{source.name}/uint8",
                self.tensors[name].shape,
                "uint8",
                Quantization((scale,), zero_point),
            )
            name = self.emit("quantize", Quantize(), (name,), outside)
        self.outputs.append(name)

    def graph(self) -> Graph:
        return Graph(
            self.name, self.tensors, tuple(self.ops), tuple(self.inputs), tuple(self.outputs)
        )


def uint8_to_int8(data: Array) -> Array:
    return (data.astype(np.int16) - UINT8_OFFSET).astype(np.int8)
