"""TFLite operators that compute: one function each, from SourceOperator to the Builder."""

from __future__ import annotations

import math

import numpy as np

from zeroskip.converters.frontends.tflite_arguments import (
    VALID,
    Consumers,
    argument,
    clamp,
    option,
    same_dtypes,
    same_shapes,
    spatial_input,
)
from zeroskip.converters.frontends.tflite_builder import (
    Builder,
    Layout,
    channel_major,
    ir_shape,
    is_spatial,
    natural_layout,
    order_free,
)
from zeroskip.converters.frontends.tflite_reader import SourceOperator
from zeroskip.converters.frontends.tflite_weights import (
    bias,
    convolution_weights,
    fully_connected_weights,
)
from zeroskip.converters.ir import (
    MAX_DIM,
    RELU,
    RELU6,
    RELU_N1_TO_1,
    Binary,
    BinaryKind,
    Conv2D,
    FullyConnected,
    Pool2D,
    PoolKind,
    Quantize,
    Reshape,
    Shape,
    Softmax,
    Unary,
    UnaryKind,
    conv_output_size,
)

# --- convolution, pooling, fully connected ----------------------------------------------------


def _padding(
    b: Builder, operator: SourceOperator, size: Shape, kernel: Shape, stride: Shape, dilation: Shape
) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of SAME or VALID for a (height, width) input."""
    if option(b, operator, "Padding", 0, 1) == VALID:
        return (0, 0, 0, 0)
    pairs = []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        pairs += [total // 2, total - total // 2]
    return (pairs[0], pairs[1], pairs[2], pairs[3])


def _stride(b: Builder, operator: SourceOperator) -> tuple[int, int]:
    return (
        option(b, operator, "StrideH", 1, MAX_DIM),
        option(b, operator, "StrideW", 1, MAX_DIM),
    )


def convolution(b: Builder, operator: SourceOperator, _: Consumers) -> None:
    x, output = spatial_input(b, operator)
    same_dtypes(b, operator)
    argument(b, operator, 1)
    depthwise = operator.kind == "DEPTHWISE_CONV_2D"
    weight = convolution_weights(b, operator.inputs[1], x, depthwise=depthwise)
    filters, per_group, *kernel = b.tensors[weight].shape
    height, width, channels = b.source(x).shape[1:]
    groups = channels if depthwise else channels // max(per_group, 1)
    stride = _stride(b, operator)
    dilation = (
        option(b, operator, "DilationHFactor", 1, MAX_DIM),
        option(b, operator, "DilationWFactor", 1, MAX_DIM),
    )
    padding = _padding(b, operator, (height, width), tuple(kernel), stride, dilation)
    attributes = Conv2D(stride, dilation, padding, groups, clamp(b, operator))
    inputs = [b.get(x), weight, *bias(b, operator.inputs, x, filters)]
    label = "depthwise" if depthwise else "conv2d"
    b.compute(label, attributes, inputs, output, Layout.CHANNEL_MAJOR)


def pooling(b: Builder, operator: SourceOperator, _: Consumers) -> None:
    x, output = spatial_input(b, operator)
    same_dtypes(b, operator)
    _check_same_scale(b, x, output)
    height, width = b.source(x).shape[1:3]
    kernel = (
        option(b, operator, "FilterHeight", 1, MAX_DIM),
        option(b, operator, "FilterWidth", 1, MAX_DIM),
    )
    stride = _stride(b, operator)
    padding = _padding(b, operator, (height, width), kernel, stride, (1, 1))
    expected = (
        conv_output_size(height, kernel[0], stride[0], 1, *padding[:2]),
        conv_output_size(width, kernel[1], stride[1], 1, *padding[2:]),
    )
    if b.source(output).shape[1:3] != expected:
        raise b.malformed(f"output is {list(b.source(output).shape)}, height and width {expected}")
    average = operator.kind == "AVERAGE_POOL_2D"
    kind = PoolKind.AVERAGE if average else PoolKind.MAX
    attributes = Pool2D(kind, kernel, stride, padding, clamp=clamp(b, operator))
    label = "average_pool" if average else "max_pool"
    b.compute(label, attributes, [b.get(x)], output, Layout.CHANNEL_MAJOR)


def _check_same_scale(b: Builder, x: int, output: int) -> None:
    """TFLite's pooling copies integers; it allows for a rounding error in the scales."""
    if b.dtype(x) == "float32":
        return
    (scale_in, zero_in), (scale_out, zero_out) = map(b.scale_and_zero_point, (x, output))
    if abs(scale_in - scale_out) > 1e-6 or zero_in != zero_out:
        raise b.unsupported("input and output must have one scale and zero point")


def fully_connected(b: Builder, operator: SourceOperator, _: Consumers) -> None:
    x, output = operator.inputs[0], operator.outputs[0]
    same_dtypes(b, operator)
    if operator.options.get("WeightsFormat", 0) != 0:
        raise b.unsupported("shuffled weights; supported is the default weights format")
    shape = argument(b, operator, 1).shape
    if len(shape) != 2 or not shape[1] or math.prod(b.source(x).shape) % shape[1]:
        raise b.malformed(f"weights {list(shape)} do not fit input {list(b.source(x).shape)}")
    rows, width = math.prod(b.source(x).shape) // shape[1], shape[1]
    name, origin = _rows(b, x, rows, width)
    weight = fully_connected_weights(b, operator.inputs[1], x, origin)
    inputs = [name, weight, *bias(b, operator.inputs, x, shape[0])]
    attributes = FullyConnected(clamp(b, operator))
    # The rows come in the source's order, and so do the results.
    b.compute("fully_connected", attributes, inputs, output, Layout.SOURCE)


def _rows(b: Builder, x: int, rows: int, width: int) -> tuple[str, Shape | None]:
    """The input as (..., width), and (H, W, C) if its elements are in channel-major order."""
    known = b.layouts.get(x, {})
    if Layout.FLAT in known:
        return known[Layout.FLAT], b.origins[x]
    shape = b.source(x).shape
    if Layout.SOURCE not in known and rows == 1 and is_spatial(shape) and not order_free(shape):
        return b.get(x, Layout.FLAT), shape[1:]
    name = b.in_source_order(x)
    if b.tensors[name].shape[-1] != width:
        target = (width,) if rows == 1 else (rows, width)
        name = b.reshaped(name, target)
    return name, None


# --- element-wise -----------------------------------------------------------------------------


def binary(b: Builder, operator: SourceOperator, _: Consumers) -> None:
    output = operator.outputs[0]
    same_dtypes(b, operator, 2)
    shape = b.source(output).shape
    operands = operator.inputs[:2]
    if all(b.source(index).data is not None for index in operands):
        raise b.unsupported("both inputs are constants; supported is one")
    try:
        joined = np.broadcast_shapes(*(b.source(index).shape for index in operands))
    except ValueError:
        joined = ()
    if joined != shape:
        raise b.malformed(
            f"inputs {[list(b.source(i).shape) for i in operands]} do not give {list(shape)}"
        )
    names = [
        _operand(b, index, len(shape)) if is_spatial(shape) else b.get(index, Layout.SOURCE)
        for index in operands
    ]
    kind = BinaryKind(operator.kind.lower())
    attributes = Binary(kind, clamp(b, operator))
    b.compute(kind.value, attributes, names, output, natural_layout(shape))


def _operand(b: Builder, index: int, rank: int) -> str:
    """An operand of a spatial result, as (C, H, W): leading axes of 1 are added."""
    tensor = b.source(index)
    if len(tensor.shape) == rank:
        return b.get(index, Layout.CHANNEL_MAJOR)
    shape = (1,) * (rank - len(tensor.shape)) + tensor.shape
    if tensor.data is not None:
        data = tensor.data.reshape(shape[1:]).transpose(2, 0, 1)
        return b.activation_constant(index, data, "broadcast")
    name = b.get(index, Layout.SOURCE)
    if order_free(shape):
        return b.reshaped(name, channel_major(shape))
    return b.transposed(b.reshaped(name, shape[1:]), (2, 0, 1))


def unary(b: Builder, operator: SourceOperator, _: Consumers) -> None:
    x, output = same_shapes(b, operator)
    same_dtypes(b, operator)
    match operator.kind:
        case "RELU":
            attributes = Unary(UnaryKind.CLAMP, RELU)
        case "RELU6":
            attributes = Unary(UnaryKind.CLAMP, RELU6)
        case "RELU_N1_TO_1":
            attributes = Unary(UnaryKind.CLAMP, RELU_N1_TO_1)
        case "LOGISTIC":
            attributes = Unary(UnaryKind.SIGMOID)
        case "TANH":
            attributes = Unary(UnaryKind.TANH)
        case _:
            alpha = float(operator.options.get("Alpha", 0.0))
            if not math.isfinite(alpha):
                raise b.malformed(f"slope {alpha} is not finite")
            attributes = Unary(UnaryKind.LEAKY_RELU, alpha=alpha)
    layout = b.ready_layout(x)
    b.compute(operator.kind.lower(), attributes, [b.get(x, layout)], output, layout)


def quantize(b: Builder, operator: SourceOperator, _: Consumers) -> None:
    x, output = same_shapes(b, operator)
    source, target = b.quantization(x), b.quantization(output)
    layout = b.ready_layout(x)
    if operator.kind == "QUANTIZE" and target is None:
        raise b.unsupported("output is float32; supported are int8 and uint8")
    if operator.kind == "DEQUANTIZE" and (source is None or target is not None):
        raise b.unsupported("supported are int8 and uint8 to float32")
    if (
        source is not None
        and target is not None
        and ((source.scale, source.zero_point) == (target.scale, target.zero_point))
    ):
        # The same integers (uint8 to int8, say).
        b.compute("reshape", Reshape(), [b.get(x, layout)], output, layout)
        return
    b.compute(operator.kind.lower(), Quantize(), [b.get(x, layout)], output, layout)


def softmax(b: Builder, operator: SourceOperator, _: Consumers) -> None:
    x, output = same_shapes(b, operator)
    same_dtypes(b, operator)
    quantization = b.quantization(output)
    if quantization is not None and (
        quantization.scale != (1 / 256,) or quantization.zero_point != -128
    ):
        raise b.unsupported("softmax output must have scale 1/256 and the lowest zero point")
    beta = float(operator.options.get("Beta", 1.0))
    if not math.isfinite(beta) or beta <= 0:
        raise b.malformed(f"beta {beta} must be positive")
    shape = b.source(x).shape
    layout = natural_layout(shape)
    axis = 0 if layout is Layout.CHANNEL_MAJOR else len(ir_shape(shape, layout)) - 1
    b.compute("softmax", Softmax(axis, beta), [b.get(x, layout)], output, layout)
