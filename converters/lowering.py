"""Integer parameters of quantized operators, computed once for every executor.

reference.py and the container writer both take them from here, so that the oracle and the
C kernels cannot disagree about a multiplier. Each function follows what TFLite 2.14 computes
in its Prepare functions, down to which products are float32 and which are double: the last
bit of a multiplier decides the last bit of an output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from zeroskip.converters import numerics
from zeroskip.converters.ir import (
    MULTIPLIER_BITS,
    NO_CLAMP,
    Binary,
    BinaryKind,
    Clamp,
    Conv2D,
    FullyConnected,
    Graph,
    Mean,
    Op,
    Pad,
    Pool2D,
    Quantize,
    Softmax,
    Tensor,
    Unary,
    UnaryKind,
)
from zeroskip.converters.numerics import INT8_MAX, INT8_MIN
from zeroskip.errors import ModelError

UINT8_OFFSET: Final = 128  # uint8 = int8 + 128
ADD_LEFT_SHIFT: Final = 20
SOFTMAX_INTEGER_BITS: Final = 5


@dataclass(frozen=True)
class WeightedParameters:
    """out = clamp(mbqm(acc, multiplier[o], shift[o]) + zero_point); one entry serves all o."""

    multiplier: numerics.Int32Array
    shift: numerics.Int32Array
    low: int
    high: int


@dataclass(frozen=True)
class BinaryParameters:
    """ADD, SUB: s_i = rounded((x_i - z_i) << left_shift, multiplier_i, shift_i), then
    mbqm(s_1 +- s_2, output). MUL: mbqm((x_1 - z_1) * (x_2 - z_2), output), the rest 0."""

    left_shift: int
    multiplier1: int
    shift1: int
    multiplier2: int
    shift2: int
    output_multiplier: int
    output_shift: int
    low: int
    high: int


@dataclass(frozen=True)
class MeanParameters:
    """out = clamp(mbqm(sum(q - input zero point), multiplier, shift) + output zero point); the
    multiplier holds the count."""

    multiplier: int
    shift: int


@dataclass(frozen=True)
class SoftmaxParameters:
    """Differences to the maximum below diff_min count as exp = 0; the others are scaled to
    Q5.26 by multiplier * 2**(left_shift - 31)."""

    multiplier: int
    left_shift: int
    diff_min: int


def float_range(clamp: Clamp) -> tuple[np.float32, np.float32]:
    """(low, high) of a float32 operator, infinite where there is no limit."""
    return np.float32(clamp.low), np.float32(clamp.high)


def activation_range(clamp: Clamp, output: Tensor) -> tuple[int, int]:
    """(low, high) in the int8 output's integers; TFLite's CalculateActivationRangeQuantized."""

    def quantize(limit: float, unlimited: int) -> int:
        if math.isinf(limit):
            return unlimited if (limit > 0) == (unlimited > 0) else -unlimited - 1
        steps = float(np.float32(limit) / np.float32(output.scale))
        if not math.isfinite(steps):
            return INT8_MAX if steps > 0 else INT8_MIN
        return min(max(output.zero_point + numerics.round_half_away(steps), INT8_MIN), INT8_MAX)

    return quantize(clamp.low, INT8_MIN), quantize(clamp.high, INT8_MAX)


def weighted(graph: Graph, op: Op) -> WeightedParameters:
    """Parameters of an int8 Conv2D or FullyConnected.

    TFLite multiplies input and weight scale as doubles for int8 convolutions and for per-channel
    weights, and in float32 for a fully connected layer and for uint8 models.
    """
    x, weight = graph.input_tensors(op)[:2]
    output = graph.output_tensor(op)
    assert isinstance(op.attributes, Conv2D | FullyConnected) and x.dtype == "int8"
    assert weight.quantization is not None
    scales = weight.quantization.scale
    if len(scales) == 1 and (isinstance(op.attributes, FullyConnected) or was_uint8(x)):
        reals = [float(np.float32(x.scale) * np.float32(scales[0])) / output.scale]
    else:
        reals = [x.scale * scale / output.scale for scale in scales]
    bits = weight.quantization.multiplier_bits
    pairs = [_shortened(*_multiplier(op, real), bits) for real in reals]
    if all(pair == pairs[0] for pair in pairs):
        pairs = pairs[:1]
    low, high = activation_range(op.attributes.clamp, output)
    return WeightedParameters(
        np.array([m for m, _ in pairs], np.int32), np.array([s for _, s in pairs], np.int32),
        low, high,
    )  # fmt: skip


def binary(graph: Graph, op: Op) -> BinaryParameters:
    """Parameters of an int8 ADD, SUB or MUL."""
    a, b = graph.input_tensors(op)
    output = graph.output_tensor(op)
    assert isinstance(op.attributes, Binary) and a.dtype == "int8"
    low, high = activation_range(op.attributes.clamp, output)
    if op.attributes.kind is BinaryKind.MUL:
        real = np.float32(a.scale) * np.float32(b.scale) / np.float32(output.scale)
        return BinaryParameters(0, 0, 0, 0, 0, *_multiplier(op, float(real)), low, high)
    twice = 2 * max(a.scale, b.scale)
    first = _smaller_than_one(op, a.scale / twice)
    second = _smaller_than_one(op, b.scale / twice)
    result = _smaller_than_one(op, twice / ((1 << ADD_LEFT_SHIFT) * output.scale))
    return BinaryParameters(ADD_LEFT_SHIFT, *first, *second, *result, low, high)


def pool(graph: Graph, op: Op) -> tuple[int, int]:
    """(low, high) of an int8 pooling, whose input and output have one quantization."""
    assert isinstance(op.attributes, Pool2D)
    return activation_range(op.attributes.clamp, graph.output_tensor(op))


def pool_offset(graph: Graph, op: Op) -> int:
    """Added to every element of an int8 average and taken off its result: 0, or 128 for tensors
    that were uint8. The division rounds halves away from zero, so the offset decides ties."""
    return UINT8_OFFSET if was_uint8(graph.output_tensor(op)) else 0


def mean(graph: Graph, op: Op) -> MeanParameters:
    """Parameters of an int8 mean; TFLite's QuantizedMeanOrSum (2.14)."""
    a = op.attributes
    assert isinstance(a, Mean)
    x, output = graph.input_tensors(op)[0], graph.output_tensor(op)
    count = math.prod(x.shape[axis] for axis in a.axes)
    multiplier, shift = _multiplier(op, x.scale / output.scale)
    # The count goes into the multiplier, as far as the shift's range allows.
    extra = min(count.bit_length() - 1, 32, 31 + shift)
    return MeanParameters((multiplier << extra) // count, shift - extra)


def pad_value(graph: Graph, op: Op) -> int:
    """The int8 that an int8 Pad writes."""
    assert isinstance(op.attributes, Pad)
    output = graph.output_tensor(op)
    steps = op.attributes.value / output.scale
    if not math.isfinite(steps):
        raise ModelError(f"op '{op.name}' pads with {op.attributes.value}, int8 needs a number")
    return min(max(output.zero_point + numerics.round_half_away(steps), INT8_MIN), INT8_MAX)


def softmax(graph: Graph, op: Op) -> SoftmaxParameters:
    """Parameters of an int8 softmax; TFLite's PreprocessSoftmaxScaling."""
    assert isinstance(op.attributes, Softmax)
    x = graph.input_tensors(op)[0]
    real = op.attributes.beta * x.scale * (1 << (31 - SOFTMAX_INTEGER_BITS))
    if not real > 1:
        raise ModelError(
            f"op '{op.name}': softmax with beta {op.attributes.beta:g} and input scale "
            f"{x.scale:g} is flat; their product must be over 2**-26"
        )
    # From 2**30 on only the maximum itself counts, whatever the multiplier.
    multiplier, left_shift = numerics.quantize_multiplier(min(real, float((1 << 30) - 1)))
    if real >= 1 << 30:
        return SoftmaxParameters(multiplier, left_shift, 0)
    radius = ((1 << SOFTMAX_INTEGER_BITS) - 1) * (1 << (31 - SOFTMAX_INTEGER_BITS)) >> left_shift
    return SoftmaxParameters(multiplier, left_shift, -radius)


def table(graph: Graph, op: Op) -> npt.NDArray[np.int8]:
    """int8[256] of an int8 -> int8 Unary or Quantize: entry i is the output for q = i - 128."""
    x, output = graph.input_tensors(op)[0], graph.output_tensor(op)
    assert x.dtype == "int8" and output.dtype == "int8"
    q = np.arange(INT8_MIN, INT8_MAX + 1, dtype=np.int64)
    centred = q - x.zero_point
    a = op.attributes
    low, high = activation_range(a.clamp if isinstance(a, Unary) else NO_CLAMP, output)
    match a:
        case Quantize(via_float32=True):
            result = _rescale_in_float32(x, output, q)
        case Quantize():
            result = _requantize(op, x.scale / output.scale, centred) + output.zero_point
        case Unary(kind=UnaryKind.CLAMP):
            result = _requantize(op, _ratio(x, output), centred) + output.zero_point
        case Unary(kind=UnaryKind.LEAKY_RELU):
            slope = np.float32(x.scale) * np.float32(a.alpha) / np.float32(output.scale)
            falling = _requantize(op, float(slope), centred)
            rising = _requantize(op, _ratio(x, output), centred)
            result = np.where(centred >= 0, rising, falling) + output.zero_point
        case Unary():
            result = _tabulate(a.kind, x, output, centred)
        case _:
            raise AssertionError(f"{op.kind} has no table")
    return np.clip(result, low, high).astype(np.int8)


def was_uint8(tensor: Tensor) -> bool:
    """Whether TFLite's uint8 kernels, which round differently in places, define the result."""
    return tensor.quantization is not None and tensor.quantization.was_uint8


def _shortened(multiplier: int, shift: int, bits: int) -> tuple[int, int]:
    """The nearest multiplier of so many significant bits."""
    spare = MULTIPLIER_BITS - bits
    if spare == 0:
        return multiplier, shift
    multiplier = ((multiplier >> spare - 1) + 1 >> 1) << spare
    return (multiplier >> 1, shift + 1) if multiplier == 1 << 31 else (multiplier, shift)


def _multiplier(op: Op, real: float) -> tuple[int, int]:
    try:
        return numerics.quantize_multiplier(real)
    except ModelError as error:
        raise ModelError(f"op '{op.name}' ({op.kind}): {error}") from None


def _smaller_than_one(op: Op, real: float) -> tuple[int, int]:
    multiplier, shift = _multiplier(op, real)
    if not real < 1 or shift > 0:
        raise ModelError(
            f"op '{op.name}' ({op.kind}): rescaling factor {real:g} must be under 1; "
            "the output scale is too small for the inputs"
        )
    return multiplier, shift


def _ratio(x: Tensor, output: Tensor) -> float:
    return float(np.float32(x.scale) / np.float32(output.scale))


def _requantize(op: Op, real: float, centred: numerics.Int64Array) -> numerics.Int64Array:
    # A negative slope is a negative multiplier in TFLite, too.
    multiplier, shift = _multiplier(op, abs(real))
    return numerics.multiply_by_quantized_multiplier(
        centred, -multiplier if real < 0 else multiplier, shift
    )


def _rescale_in_float32(x: Tensor, output: Tensor, q: numerics.Int64Array) -> numerics.Int64Array:
    """TFLite's ConcatenationWithScaling, on the uint8 values it works with."""
    inverse = np.float32(1) / np.float32(output.scale)
    scale = np.float32(x.scale) * inverse
    bias = np.float32(-(x.zero_point + UINT8_OFFSET)) * scale
    rounded = numerics.round_half_away_f32((q + UINT8_OFFSET).astype(np.float32) * scale + bias)
    return np.clip(rounded, -1e6, 1e6).astype(np.int64) + output.zero_point


def _tabulate(
    kind: UnaryKind, x: Tensor, output: Tensor, centred: numerics.Int64Array
) -> numerics.Int64Array:
    """TFLite's PopulateLookupTable: the real function in float32, times 1 / scale, rounded."""
    # Evaluated in double and rounded: within half an ulp, as libm's float functions nearly are.
    real = np.float32(x.scale) * centred.astype(np.float32)
    wide = real.astype(np.float64)
    with np.errstate(over="ignore"):
        match kind:
            case UnaryKind.SIGMOID:
                one = np.float32(1)
                value = one / (one + np.exp(-wide).astype(np.float32))
            case UnaryKind.TANH:
                value = np.tanh(wide).astype(np.float32)
            case UnaryKind.HARDSWISH:
                value = (wide * np.clip(wide + 3, 0, 6) / 6).astype(np.float32)
            case _:
                raise AssertionError(f"{kind} has no table of this form")
    inverse = np.float32(1) / np.float32(output.scale)
    rounded = numerics.round_half_away_f32(value * inverse)
    return np.clip(rounded, -1e6, 1e6).astype(np.int64) + output.zero_point
