"""The intermediate representation executed in numpy: the oracle.

Every other executor (the C runtime on the host and on each core) must give the same bits.
Arrays carry a leading batch axis N in front of a tensor's shape. Integer sums wrap at 32 bits;
float32 sums are taken one by one in the order that each function states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from zeroskip.converters import lowering, numerics
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
    PoolKind,
    Quantize,
    Reshape,
    Slice,
    Softmax,
    Tensor,
    Transpose,
    Unary,
    UnaryKind,
)
from zeroskip.converters.numerics import INT8_MAX, INT8_MIN
from zeroskip.errors import InputError


def run(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """Outputs of the graph, each (N, *shape), for inputs of shapes (N, *shape).

    Raises InputError when the inputs do not fit the graph.
    """
    values = run_all(graph, inputs)
    batch = np.asarray(inputs[0]).shape[0]
    return [_value(graph, values, name, batch) for name in graph.outputs]


def run_all(graph: Graph, inputs: Sequence[Array]) -> dict[str, Array]:
    """Every activation by name (graph inputs and the output of each op), each (N, *shape)."""
    values = _checked_inputs(graph, inputs)
    batch = next(iter(values.values())).shape[0]
    with np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore"):
        for op in graph.ops:
            output = graph.output_tensor(op)
            arguments = [_value(graph, values, name, batch) for name in op.inputs]
            result = _execute(graph, op, arguments)
            values[op.output] = np.ascontiguousarray(
                result.reshape(batch, *output.shape).astype(output.dtype, copy=False)
            )
    return values


def execute(graph: Graph, op: Op, arguments: Sequence[Array]) -> Array:
    """The output (*shape) of one op for one array (*shape) per input."""
    output = graph.output_tensor(op)
    with np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore"):
        result = _execute(graph, op, [argument[None] for argument in arguments])
    return np.asarray(result.reshape(output.shape).astype(output.dtype, copy=False))


def _checked_inputs(graph: Graph, inputs: Sequence[Array]) -> dict[str, Array]:
    if len(inputs) != len(graph.inputs):
        raise InputError(f"model '{graph.name}' has {len(graph.inputs)} inputs, got {len(inputs)}")
    values: dict[str, Array] = {}
    for name, given in zip(graph.inputs, inputs, strict=True):
        tensor, array = graph.tensors[name], np.asarray(given)
        if array.shape[1:] != tensor.shape or array.ndim == 0 or array.dtype != tensor.dtype:
            raise InputError(
                f"input '{name}' must be {tensor.dtype} of shape (N, "
                f"{', '.join(map(str, tensor.shape))}), got {array.dtype} {array.shape}"
            )
        if values and array.shape[0] != next(iter(values.values())).shape[0]:
            raise InputError(f"input '{name}' has another batch size than the first input")
        values[name] = array
    if next(iter(values.values())).shape[0] == 0:
        raise InputError("a batch needs at least one element")
    return values


def _value(graph: Graph, values: dict[str, Array], name: str, batch: int) -> Array:
    if name in values:
        return values[name]
    data = graph.tensors[name].data
    assert data is not None
    return np.broadcast_to(data, (batch, *data.shape))


def _execute(graph: Graph, op: Op, arguments: list[Array]) -> Array:
    """The output with a leading batch axis; its shape behind that may still be flat."""
    x, a = arguments[0], op.attributes
    integer = x.dtype == np.int8
    match a:
        case Conv2D():
            return _conv_int8(graph, op, a, x) if integer else _conv_float(graph, op, a, x)
        case FullyConnected():
            return _fully_connected(graph, op, a, x)
        case Binary():
            aligned = _align(*arguments)
            return _binary_int8(graph, op, a, *aligned) if integer else _binary_float(a, *aligned)
        case Pool2D():
            return _pool(graph, op, a, x)
        case Mean():
            return _mean(graph, op, a, x)
        case Pad():
            value = lowering.pad_value(graph, op) if integer else a.value
            return np.pad(x, ((0, 0), *a.padding), constant_values=value)
        case Reshape():
            return x
        case Slice():
            shape = graph.output_tensor(op).shape
            ranges = (slice(b, b + n) for b, n in zip(a.begin, shape, strict=True))
            return x[(slice(None), *ranges)]
        case Transpose():
            return np.transpose(x, (0, *(axis + 1 for axis in a.perm)))
        case Concat():
            return np.concatenate(arguments, axis=a.axis + 1)
        case Softmax():
            rows = np.moveaxis(x, a.axis + 1, -1)
            if integer:
                p = lowering.softmax(graph, op)
                rows = numerics.softmax_int8(rows, p.multiplier, p.left_shift, p.diff_min)
            else:
                rows = numerics.softmax_f32(rows, a.beta)
            return np.moveaxis(rows, -1, a.axis + 1)
        case Unary():
            if integer:
                return np.take(lowering.table(graph, op), x.astype(np.int16) - INT8_MIN)
            return _unary_float(a, x)
        case Quantize():
            return _quantize(graph, op, x)


# --- sums over weights ------------------------------------------------------------------------


def _valid_range(
    tap: int, size: int, stride: int, dilation: int, before: int, outputs: int
) -> tuple[slice, slice]:
    """(outputs whose input for kernel position `tap` is not padding, those inputs), one axis."""
    offset = tap * dilation - before
    first = max(0, -(offset // stride))  # ceil(-offset / stride)
    last = min(outputs, (size - 1 - offset) // stride + 1)
    if last <= first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + offset
    return slice(first, last), slice(start, start + (last - first - 1) * stride + 1, stride)


def _taps(
    kernel: tuple[int, int], a: Conv2D | Pool2D, x: Array, outputs: tuple[int, ...]
) -> Iterator[tuple[int, int, tuple[slice, slice], Array]]:
    """(ky, kx, output rows and columns, the input there) over the kernel in row-major order."""
    dilation = a.dilation if isinstance(a, Conv2D) else (1, 1)
    top, _, left, _ = a.padding
    for ky in range(kernel[0]):
        rows = _valid_range(ky, x.shape[2], a.stride[0], dilation[0], top, outputs[0])
        for kx in range(kernel[1]):
            columns = _valid_range(kx, x.shape[3], a.stride[1], dilation[1], left, outputs[1])
            part = x[:, :, rows[1], columns[1]]
            if part.size:
                yield ky, kx, (rows[0], columns[0]), part


def _weights(graph: Graph, op: Op) -> tuple[Array, Tensor, Array | None]:
    """Weights, their tensor and the bias."""
    weight = graph.tensors[op.inputs[1]]
    assert weight.data is not None
    bias = graph.tensors[op.inputs[2]].data if len(op.inputs) > 2 else None
    return weight.data, weight, bias


def requantize(graph: Graph, op: Op, acc: Array, bias: Array | None, axis: int) -> Array:
    """Bias, multiplier, zero point and limits on sums whose output channels are at `axis`."""
    p = lowering.weighted(graph, op)
    shape = [1] * acc.ndim
    shape[axis] = -1
    total = acc.astype(np.int64)
    if bias is not None:
        total = total + bias.astype(np.int64).reshape(shape)
    scaled = numerics.multiply_by_quantized_multiplier(
        numerics.wrap_int32(total), p.multiplier.reshape(shape), p.shift.reshape(shape)
    )
    shifted = numerics.wrap_int32(scaled + graph.output_tensor(op).zero_point)
    return np.clip(shifted, p.low, p.high)


def _conv_int8(graph: Graph, op: Op, a: Conv2D, x: Array) -> Array:
    data, weight, bias = _weights(graph, op)
    height, width = graph.output_tensor(op).shape[1:]
    acc = conv_sums(
        a,
        data.astype(np.float64) - weight.zero_point,
        x.astype(np.float64) - graph.tensors[op.inputs[0]].zero_point,
        (height, width),
    )
    return requantize(graph, op, acc, bias, axis=1)


def conv_sums(a: Conv2D, weights: Array, centred: Array, size: tuple[int, int]) -> Array:
    """float64 sums (N, O, *size) of weights (O, C/groups, KH, KW) x inputs (N, C, H, W), both
    integers in float64 and less their zero points.

    Sums of up to 65,535 products of int8 are exact in float64, and BLAS is fast.
    """
    filters, per_group, kh, kw = weights.shape
    height, width = size
    w = weights.reshape(a.groups, -1, per_group, kh, kw)
    batch = centred.shape[0]
    acc = np.zeros((batch, a.groups, filters // a.groups, height, width))
    for ky, kx, (rows, columns), part in _taps((kh, kw), a, centred, (height, width)):
        grouped = part.reshape(batch, a.groups, per_group, -1)
        taps = w[:, :, :, ky, kx]
        product = grouped * taps if per_group == 1 else np.matmul(taps, grouped)
        acc[..., rows, columns] += product.reshape(
            batch, a.groups, filters // a.groups, *part.shape[2:]
        )
    return acc.reshape(batch, filters, height, width)


def _conv_float(graph: Graph, op: Op, a: Conv2D, x: Array) -> Array:
    """Sums from 0 over (c, ky, kx) ascending, zero weights and padding left out, bias last."""
    data, _, bias = _weights(graph, op)
    filters, per_group, kh, kw = data.shape
    height, width = graph.output_tensor(op).shape[1:]
    batch = x.shape[0]
    w = data.reshape(a.groups, -1, per_group, kh, kw)
    grouped = x.reshape(batch, a.groups, per_group, *x.shape[2:])
    acc = np.zeros((batch, a.groups, filters // a.groups, height, width), np.float32)
    for channel in range(per_group):
        plane = grouped[:, :, channel]
        for ky, kx, (rows, columns), part in _taps((kh, kw), a, plane, (height, width)):
            taps = w[:, :, channel, ky, kx, None, None]
            # 0 * infinity must not count, hence the choice instead of a plain product.
            acc[..., rows, columns] += np.where(taps != 0, taps * part[:, :, None], np.float32(0))
    acc = acc.reshape(batch, filters, height, width)
    if bias is not None:
        acc = acc + bias[:, None, None]
    return numerics.clamp_f32(acc, *lowering.float_range(a.clamp))


def _fully_connected(graph: Graph, op: Op, a: FullyConnected, x: Array) -> Array:
    """float32: sums from 0 over the inputs in ascending order, zero weights left out."""
    data, weight, bias = _weights(graph, op)
    rows = x.reshape(x.shape[0], -1, data.shape[1])
    if x.dtype == np.int8:
        centred = rows.astype(np.float64) - graph.tensors[op.inputs[0]].zero_point
        acc = centred @ (data.astype(np.float64) - weight.zero_point).T
        return requantize(graph, op, acc, bias, axis=2)
    total = np.zeros((*rows.shape[:2], data.shape[0]), np.float32)
    for i in range(data.shape[1]):
        column = data[:, i]
        total += np.where(column != 0, rows[..., i : i + 1] * column, np.float32(0))
    if bias is not None:
        total = total + bias
    return numerics.clamp_f32(total, *lowering.float_range(a.clamp))


# --- other operators --------------------------------------------------------------------------


def _align(x: Array, y: Array) -> tuple[Array, Array]:
    """Both with one rank: axes of length 1 go in behind the batch axis."""
    rank = max(x.ndim, y.ndim)
    first, second = (v.reshape(v.shape[0], *[1] * (rank - v.ndim), *v.shape[1:]) for v in (x, y))
    return first, second


def _binary_int8(graph: Graph, op: Op, a: Binary, x: Array, y: Array) -> Array:
    p = lowering.binary(graph, op)
    first, second = graph.input_tensors(op)
    centred1 = x.astype(np.int64) - first.zero_point
    centred2 = y.astype(np.int64) - second.zero_point
    if a.kind is BinaryKind.MUL:
        raw = centred1 * centred2
    else:
        scaled1 = numerics.multiply_by_quantized_multiplier(
            centred1 << p.left_shift, p.multiplier1, p.shift1
        )
        scaled2 = numerics.multiply_by_quantized_multiplier(
            centred2 << p.left_shift, p.multiplier2, p.shift2
        )
        raw = scaled1 + scaled2 if a.kind is BinaryKind.ADD else scaled1 - scaled2
    scaled = numerics.multiply_by_quantized_multiplier(raw, p.output_multiplier, p.output_shift)
    shifted = numerics.wrap_int32(scaled + graph.output_tensor(op).zero_point)
    return np.clip(shifted, p.low, p.high)


def _binary_float(a: Binary, x: numerics.Float32Array, y: numerics.Float32Array) -> Array:
    result: numerics.Float32Array
    match a.kind:
        case BinaryKind.ADD:
            result = x + y
        case BinaryKind.SUB:
            result = x - y
        case BinaryKind.MUL:
            result = x * y
    return numerics.clamp_f32(result, *lowering.float_range(a.clamp))


def _pool(graph: Graph, op: Op, a: Pool2D, x: Array) -> Array:
    """float32 averages: the window's sum from 0 in row-major order, divided by its count.

    A maximum starts at minus infinity (-128 for int8) and moves to each larger element. A
    window that lies in the padding altogether gives a real zero.
    """
    outputs = graph.output_tensor(op).shape[1:]
    integer = x.dtype == np.int8
    wide = x.astype(np.int64) if integer else x
    average = a.kind is PoolKind.AVERAGE
    start = 0 if average else INT8_MIN if integer else -np.inf
    acc = np.full((*x.shape[:2], *outputs), start, wide.dtype)
    inside = np.zeros(outputs, np.int64)
    if a.adaptive:
        for where, part in _adaptive_windows(wide, (outputs[0], outputs[1])):
            for ky in range(part.shape[2]):
                for kx in range(part.shape[3]):
                    _accumulate(acc[(..., *where)], part[:, :, ky, kx], average)
            inside[where] = part.shape[2] * part.shape[3]
    else:
        for _, _, where, part in _taps(a.kernel, a, wide, outputs):
            _accumulate(acc[(..., *where)], part, average)
            inside[where] += 1
    count = inside
    if a.count_include_pad and not a.adaptive:
        count = np.multiply.outer(
            _padded_counts(x.shape[2], outputs[0], a.kernel[0], a.stride[0], a.padding[:2]),
            _padded_counts(x.shape[3], outputs[1], a.kernel[1], a.stride[1], a.padding[2:]),
        )
    zero = graph.output_tensor(op).zero_point
    if average:
        divisor = np.maximum(count, 1)
        if integer:
            offset = lowering.pool_offset(graph, op)
            total = acc + (count - inside) * zero + offset * divisor
            acc = numerics.divide_half_away(total, divisor) - offset
        else:
            acc = acc / divisor.astype(np.float32)
    acc = np.where(inside > 0, acc, np.asarray(zero, acc.dtype))
    if integer:
        return np.clip(acc, *lowering.pool(graph, op))
    return numerics.clamp_f32(acc, *lowering.float_range(a.clamp))


def _accumulate(acc: Array, part: Array, average: bool) -> None:
    acc[...] = acc + part if average else np.where(part > acc, part, acc)


def _adaptive_windows(
    x: Array, outputs: tuple[int, int]
) -> Iterator[tuple[tuple[slice, slice], Array]]:
    def bounds(i: int, size: int, count: int) -> tuple[int, int]:
        return i * size // count, -(-(i + 1) * size // count)

    for oy in range(outputs[0]):
        top, bottom = bounds(oy, x.shape[2], outputs[0])
        for ox in range(outputs[1]):
            left, right = bounds(ox, x.shape[3], outputs[1])
            window = x[:, :, top:bottom, left:right, None, None]
            yield (slice(oy, oy + 1), slice(ox, ox + 1)), window


def _padded_counts(
    size: int, outputs: int, kernel: int, stride: int, padding: tuple[int, ...]
) -> Array:
    starts = np.arange(outputs) * stride
    return np.asarray(np.minimum(starts + kernel, size + sum(padding)) - starts)


def _mean(graph: Graph, op: Op, a: Mean, x: Array) -> Array:
    """float32: the sum from 0 over the reduced axes in row-major order, divided by the count."""
    kept = [i for i in range(x.ndim) if i - 1 not in a.axes]
    rows = np.transpose(x, (*kept, *(axis + 1 for axis in a.axes)))
    rows = rows.reshape(*(x.shape[i] for i in kept), -1)
    if x.dtype != np.int8:
        return np.asarray(numerics.sum_f32(rows) / np.float32(rows.shape[-1]))
    p = lowering.mean(graph, op)
    x_zero = graph.input_tensors(op)[0].zero_point
    acc = numerics.wrap_int32((rows.astype(np.int64) - x_zero).sum(axis=-1))
    scaled = numerics.multiply_by_quantized_multiplier(acc, p.multiplier, p.shift)
    return np.clip(scaled + graph.output_tensor(op).zero_point, INT8_MIN, INT8_MAX)


def _unary_float(a: Unary, x: Array) -> Array:
    match a.kind:
        case UnaryKind.CLAMP:
            result = x
        case UnaryKind.LEAKY_RELU:
            result = numerics.leaky_relu_f32(x, a.alpha)
        case UnaryKind.SIGMOID:
            result = numerics.sigmoid_f32(x)
        case UnaryKind.TANH:
            result = numerics.tanh_f32(x)
        case UnaryKind.HARDSWISH:
            result = numerics.hardswish_f32(x)
    return numerics.clamp_f32(result, *lowering.float_range(a.clamp))


def _quantize(graph: Graph, op: Op, x: Array) -> Array:
    source, output = graph.input_tensors(op)[0], graph.output_tensor(op)
    if output.dtype == "float32":
        return numerics.dequantize_f32(x, source.scale, source.zero_point)
    if source.dtype == "float32":
        low, high = (INT8_MIN, INT8_MAX) if output.dtype == "int8" else (0, 255)
        return numerics.quantize_f32(x, output.scale, output.zero_point, low, high)
    if source.dtype == output.dtype:
        return np.take(lowering.table(graph, op), x.astype(np.int16) - INT8_MIN)
    return x.astype(np.int64) + (output.zero_point - source.zero_point)
