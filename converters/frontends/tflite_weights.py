"""Constants of TFLite models: weights and biases in the layout of the IR, folded constants."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from zeroskip.converters.frontends.tflite_builder import (
    UINT8_OFFSET,
    Builder,
    describe,
    uint8_to_int8,
)
from zeroskip.converters.frontends.tflite_reader import SourceModel, SourceTensor
from zeroskip.converters.frontends.tflite_sparse import MAX_DENSE_ELEMENTS
from zeroskip.converters.ir import Array, Quantization, Shape
from zeroskip.converters.numerics import dequantize_f32
from zeroskip.errors import ModelError, UnsupportedError

FOLDED: Final = ("DENSIFY", "DEQUANTIZE")


def convolution_weights(b: Builder, index: int, x: int, *, depthwise: bool) -> str:
    """(O, KH, KW, I), or (1, KH, KW, O) if depthwise, as (O, I or 1, KH, KW)."""
    axis = 3 if depthwise else 0
    data, quantization = _weights(b, index, x, axis)
    if data.ndim != 4 or (depthwise and data.shape[0] != 1):
        raise b.malformed(f"weights '{b.source(index).name}' have shape {list(data.shape)}")
    if b.source(index).dtype == "int8" and quantization is not None and quantization.zero_point:
        raise b.unsupported(
            f"int8 weights '{b.source(index).name}' with zero point {quantization.zero_point}; "
            "TFLite's convolutions need 0"
        )
    perm = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
    return b.constant(
        (index, "convolution", depthwise), b.source(index).name, data.transpose(perm),
        quantization,
    )  # fmt: skip


def fully_connected_weights(b: Builder, index: int, x: int, origin: Shape | None) -> str:
    """(O, I). With `origin` = (H, W, C) the columns are permuted to channel-major order."""
    data, quantization = _weights(b, index, x, 0)
    if data.ndim != 2:
        raise b.malformed(f"weights '{b.source(index).name}' have shape {list(data.shape)}")
    if origin is not None:
        data = data.reshape(-1, *origin).transpose(0, 3, 1, 2).reshape(data.shape)
    key = (index, "fully connected", origin)
    return b.constant(key, b.source(index).name, data, quantization)


def bias(b: Builder, inputs: tuple[int, ...], x: int, count: int) -> tuple[str, ...]:
    """The bias constant's name, if the operator has one."""
    if len(inputs) < 3 or inputs[2] < 0:
        return ()
    tensor = b.source(inputs[2])
    expected = "float32" if b.dtype(x) == "float32" else "int32"
    if tensor.data is None or tensor.dtype != expected:
        raise b.unsupported(f"bias '{tensor.name}' must be a constant of {expected}")
    if tensor.data.size != count:
        raise b.malformed(f"bias '{tensor.name}' has {tensor.data.size} elements, not {count}")
    return (b.constant((tensor.index, "bias"), tensor.name, tensor.data.reshape(count)),)


def _weights(b: Builder, index: int, x: int, axis: int) -> tuple[Array, Quantization | None]:
    """Data in the file's layout and its quantization; uint8 shifted to int8."""
    if index < 0:
        raise b.malformed("weights are missing")
    tensor, activation = b.source(index), b.source(x)
    if tensor.data is None:
        raise b.unsupported(f"weights '{tensor.name}' must be constant")
    if tensor.dtype != activation.dtype:
        raise b.unsupported(
            f"{tensor.dtype} weights '{tensor.name}' with {activation.dtype} activations; "
            "supported are int8, uint8 or float32 for both"
        )
    if tensor.dtype == "float32":
        return tensor.data, None
    channels = tensor.shape[axis] if axis < len(tensor.shape) else 0
    scales, zero_points = tensor.scales, tensor.zero_points
    per_channel = scales.size > 1
    if not scales.size or (
        per_channel and (scales.size != channels or tensor.axis != axis or tensor.dtype == "uint8")
    ):
        raise b.unsupported(
            f"weights '{tensor.name}' have {scales.size} scales along axis {tensor.axis}; "
            f"supported are one, or (int8) {channels} along axis {axis}"
        )
    if zero_points.size not in (0, 1, scales.size) or np.any(zero_points != zero_points[:1]):
        raise b.unsupported(f"weights '{tensor.name}' have several zero points; supported is one")
    zero_point = int(zero_points[0]) if zero_points.size else 0
    if per_channel and zero_point:
        raise b.unsupported(f"weights '{tensor.name}': zero point per channel must be 0")
    scale = tuple(float(s) for s in scales)
    if tensor.dtype == "uint8":
        return uint8_to_int8(tensor.data), Quantization(scale, zero_point - UINT8_OFFSET)
    return tensor.data, Quantization(scale, zero_point)


def fold_constants(model: SourceModel) -> SourceModel:
    """The model without DENSIFY and DEQUANTIZE of constants."""
    tensors = list(model.tensors)
    operators = []
    budget = MAX_DENSE_ELEMENTS
    for operator in model.operators:
        source = (
            tensors[operator.inputs[0]] if operator.inputs and operator.inputs[0] >= 0 else None
        )
        if operator.kind not in FOLDED or source is None or source.data is None:
            operators.append(operator)
            continue
        where = describe(operator, model)
        if len(operator.outputs) != 1:
            raise ModelError(f"{where}: needs exactly one output")
        output = tensors[operator.outputs[0]]
        data = source.data
        if operator.kind == "DEQUANTIZE":
            budget -= data.size
            if budget < 0:
                raise UnsupportedError(f"{where}: over {MAX_DENSE_ELEMENTS} dequantized constants")
            data = _dequantized(source, where)
        if output.data is not None or str(data.dtype) != output.dtype or data.shape != output.shape:
            raise ModelError(
                f"{where}: gives {data.dtype}{list(data.shape)}, "
                f"declared {output.dtype}{list(output.shape)}"
            )
        if not output.scales.size and operator.kind == "DENSIFY":
            # Some converters leave the quantization on the sparse tensor only.
            output = replace(
                output, scales=source.scales, zero_points=source.zero_points, axis=source.axis
            )
        tensors[output.index] = replace(output, data=data)
    return replace(model, tensors=tuple(tensors), operators=tuple(operators))


def _dequantized(source: SourceTensor, where: str) -> Array:
    """float32 of a float16, int8 or uint8 constant, scales per tensor or per channel."""
    assert source.data is not None
    if source.dtype == "float16":
        return source.data.astype(np.float32)
    if source.dtype not in ("int8", "uint8"):
        raise UnsupportedError(
            f"{where}: constant of {source.dtype}; supported are int8, uint8, float16"
        )
    count = source.scales.size
    shape = [1] * source.data.ndim
    if count != 1:
        if not 0 <= source.axis < source.data.ndim or source.data.shape[source.axis] != count:
            raise ModelError(f"{where}: {count} scales along axis {source.axis} do not fit")
        shape[source.axis] = count
    if source.zero_points.size not in (0, 1, count):
        raise ModelError(f"{where}: {source.zero_points.size} zero points for {count} scales")
    zeros = source.zero_points if source.zero_points.size else np.zeros(1, np.int64)
    centred = source.data.astype(np.int64) - zeros.reshape(shape if zeros.size > 1 else [1])
    with np.errstate(all="ignore"):
        return np.asarray(source.scales.reshape(shape) * dequantize_f32(centred, 1.0, 0))
