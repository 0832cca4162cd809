"""Fixed-point and float32 arithmetic that C kernels reproduce bit for bit.

The integer half follows TFLite's reference kernels and gemmlowp's fixedpoint.h: int32 values
that wrap around, multipliers in Q0.31 with a power-of-two shift, and double rounding. The
float32 half uses single additions, subtractions, multiplications and divisions in a fixed
order, without fused multiply-add, so that any IEEE 754 machine gives the same bits.

Integer functions take and return int64 arrays (or anything numpy makes one of) that hold
int32 values; float functions take and return float32 arrays of any shape.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zeroskip.errors import ModelError

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]

INT32_MIN: Final = -(1 << 31)
INT32_MAX: Final = (1 << 31) - 1
INT8_MIN: Final = -128
INT8_MAX: Final = 127
MAX_SHIFT: Final = 30  # 1 << 31 is no int32


# --- integers ---------------------------------------------------------------------------------


def wrap_int32(x: npt.ArrayLike) -> Int64Array:
    """The low 32 bits of each element, as a signed value: what C's uint32 arithmetic leaves."""
    return np.asarray(x, np.int64).astype(np.int32).astype(np.int64)


def round_half_away(x: float) -> int:
    """C's round(): to nearest, halves away from zero. `x` must be finite."""
    whole = math.trunc(x)
    return whole + int(math.copysign(1, x)) if abs(x - whole) >= 0.5 else whole


def round_half_away_f32(x: npt.ArrayLike) -> Float32Array:
    """C's roundf(). Not floor(|x| + 0.5): that sum rounds up just below a half."""
    value = np.asarray(x, np.float32)
    whole = np.trunc(value)
    with np.errstate(invalid="ignore"):  # inf - inf
        up = np.abs(value - whole) >= np.float32(0.5)  # the difference is exact
    return np.where(up, whole + np.copysign(np.float32(1), value), whole).astype(np.float32)


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(multiplier, shift) with real ~ multiplier * 2**(shift - 31); TFLite's QuantizeMultiplier.

    The multiplier is 0 or in [2**30, 2**31); the shift is in [-31, 30]. Raises ModelError
    when `real` is not finite, is negative, or is 2**30 and more.
    """
    if not math.isfinite(real) or real < 0:
        raise ModelError(f"multiplier {real} is not a finite positive number; check the scales")
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = round_half_away(fraction * (1 << 31))
    if multiplier == 1 << 31:
        multiplier //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    if shift > MAX_SHIFT:
        raise ModelError(f"multiplier {real:g} is over the limit 2**{MAX_SHIFT}; check the scales")
    return multiplier, shift


def doubling_high_mul(a: npt.ArrayLike, b: npt.ArrayLike) -> Int64Array:
    """gemmlowp's SaturatingRoundingDoublingHighMul: a * b / 2**31 to nearest, halves up."""
    a64, b64 = np.asarray(a, np.int64), np.asarray(b, np.int64)
    product = a64 * b64
    nudged: Int64Array = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    # C divides towards zero, >> rounds down: add 2**31 - 1 to negative numerators.
    high = (nudged + np.where(nudged < 0, (1 << 31) - 1, 0)) >> 31
    return np.asarray(np.minimum(high, INT32_MAX), np.int64)  # INT32_MIN * INT32_MIN saturates


def rounding_divide_by_pot(x: npt.ArrayLike, exponent: npt.ArrayLike) -> Int64Array:
    """gemmlowp's RoundingDivideByPOT: x / 2**exponent (0..31), halves away from zero."""
    value, power = np.asarray(x, np.int64), np.asarray(exponent, np.int64)
    mask = (np.int64(1) << power) - 1
    threshold = (mask >> 1) + (value < 0)
    return np.asarray((value >> power) + ((value & mask) > threshold), np.int64)


def saturating_multiply_by_pot(x: npt.ArrayLike, exponent: int) -> Int64Array:
    """gemmlowp's SaturatingRoundingMultiplyByPOT for a positive or negative exponent."""
    value = np.asarray(x, np.int64)
    if exponent < 0:
        return rounding_divide_by_pot(value, -exponent)
    return np.clip(value << exponent, INT32_MIN, INT32_MAX)


def multiply_by_quantized_multiplier(
    x: npt.ArrayLike, multiplier: npt.ArrayLike, shift: npt.ArrayLike
) -> Int64Array:
    """TFLite's MultiplyByQuantizedMultiplier with double rounding: x * multiplier * 2**(shift-31).

    All three broadcast. A left shift wraps at 32 bits.
    """
    power = np.asarray(shift, np.int64)
    shifted = wrap_int32(np.asarray(x, np.int64) << np.maximum(power, 0))
    return rounding_divide_by_pot(doubling_high_mul(shifted, multiplier), np.maximum(-power, 0))


def divide_half_away(x: npt.ArrayLike, count: npt.ArrayLike) -> Int64Array:
    """x / count rounded to nearest, halves away from zero, as TFLite's int8 averages do."""
    value, n = np.asarray(x, np.int64), np.asarray(count, np.int64)
    magnitude = (np.abs(value) + n // 2) // n
    return np.asarray(np.where(value < 0, -magnitude, magnitude), np.int64)


def divide_towards_zero(x: npt.ArrayLike, count: npt.ArrayLike) -> Int64Array:
    """C's integer division for a positive count."""
    value, n = np.asarray(x, np.int64), np.asarray(count, np.int64)
    return np.asarray(np.where(value < 0, -(-value // n), value // n), np.int64)


# Constants of gemmlowp's exp: Q0.31 of exp(-2**k) for k = -2..4, selected by the bits of the
# argument's multiple of 1/4.
_EXP_FACTORS: Final = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
_EXP_MINUS_EIGHTH: Final = 1895147668
_ONE_THIRD: Final = 715827883
_48_OVER_17_Q2: Final = 1515870810
_MINUS_32_OVER_17_Q2: Final = -1010580540


def _exp_minus_quarter_to_zero(a: Int64Array) -> Int64Array:
    """exp(a) in Q0.31 for Q0.31 a in [-1/4, 0): a Taylor series around -1/8."""
    x = a + (1 << 28)
    x2 = doubling_high_mul(x, x)
    x3 = doubling_high_mul(x2, x)
    x4_over_4 = rounding_divide_by_pot(doubling_high_mul(x2, x2), 2)
    tail = rounding_divide_by_pot(doubling_high_mul(x4_over_4 + x3, _ONE_THIRD) + x2, 1)
    return wrap_int32(_EXP_MINUS_EIGHTH + doubling_high_mul(_EXP_MINUS_EIGHTH, x + tail))


def exp_on_negative_values(a: npt.ArrayLike) -> Int64Array:
    """gemmlowp's exp_on_negative_values: Q0.31 of exp(a) for a <= 0 in Q5.26."""
    value = np.asarray(a, np.int64)
    quarter = 1 << 24
    reduced = (value & (quarter - 1)) - quarter
    result = _exp_minus_quarter_to_zero(saturating_multiply_by_pot(reduced, 5))
    remainder = reduced - value
    for k, factor in enumerate(_EXP_FACTORS):
        bit = (remainder >> (24 + k)) & 1
        result = np.where(bit != 0, doubling_high_mul(result, factor), result)
    return np.where(value == 0, INT32_MAX, result)


def one_over_one_plus_x(a: npt.ArrayLike) -> Int64Array:
    """gemmlowp's one_over_one_plus_x_for_x_in_0_1: Q0.31 in, Q0.31 out; Newton-Raphson."""
    total = np.asarray(a, np.int64) + INT32_MAX
    half_denominator = divide_towards_zero(total + np.where(total >= 0, 1, -1), 2)
    x = wrap_int32(_48_OVER_17_Q2 + doubling_high_mul(half_denominator, _MINUS_32_OVER_17_Q2))
    one_q2 = 1 << 29
    for _ in range(3):
        error = wrap_int32(one_q2 - doubling_high_mul(half_denominator, x))
        x = wrap_int32(x + saturating_multiply_by_pot(doubling_high_mul(x, error), 2))
    return saturating_multiply_by_pot(x, 1)


def count_leading_zeros(x: npt.ArrayLike) -> Int64Array:
    """Leading zero bits of each positive int32."""
    _, bits = np.frexp(np.asarray(x, np.float64))
    return np.asarray(32 - bits, np.int64)


def softmax_int8(
    x: npt.NDArray[np.int8], multiplier: int, left_shift: int, diff_min: int
) -> npt.NDArray[np.int8]:
    """TFLite's reference int8 softmax along the last axis; output scale 1/256, zero point -128."""
    diff = x.astype(np.int64)
    diff -= diff.max(axis=-1, keepdims=True)
    taken = diff >= diff_min
    # Skipped elements are evaluated at 0 so that they cannot overflow.
    scaled = doubling_high_mul(np.where(taken, diff, 0) << left_shift, multiplier)
    exps = np.where(taken, exp_on_negative_values(scaled), 0)
    total = wrap_int32(
        np.where(taken, rounding_divide_by_pot(exps, 12), 0).sum(axis=-1, keepdims=True)
    )
    headroom = count_leading_zeros(total)
    fraction = wrap_int32((total << headroom) - (1 << 31))
    scale = one_over_one_plus_x(fraction)
    exponent = 12 - headroom + 31 - 8
    output = rounding_divide_by_pot(doubling_high_mul(scale, exps), exponent) + INT8_MIN
    output = np.where(taken, np.clip(output, INT8_MIN, INT8_MAX), INT8_MIN)
    return output.astype(np.int8)


# --- float32 ----------------------------------------------------------------------------------


def _f32(x: Any) -> np.float32:
    return np.float32(x)


def clamp_f32(x: Float32Array, low: np.float32, high: np.float32) -> Float32Array:
    """x < low ? low : x > high ? high : x; NaN stays NaN, -0 stays -0."""
    return np.where(x < low, low, np.where(x > high, high, x)).astype(np.float32)


def _polynomial(x: Float32Array, first: float, *rest: float) -> Float32Array:
    """Horner's scheme, one float32 multiplication and addition per coefficient."""
    y = np.full_like(x, _f32(first))
    for coefficient in rest:
        y = y * x + _f32(coefficient)
    return y


def exp_f32(x: npt.ArrayLike) -> Float32Array:
    """exp(x) in float32 (cephes expf), x limited to [-87, 88]; NaN stays NaN."""
    limited = clamp_f32(np.asarray(x, np.float32), _f32(-87), _f32(88))
    n = np.floor(limited * _f32(1.44269504088896341) + _f32(0.5))
    r = limited - n * _f32(0.693359375)
    r = r - n * _f32(-2.12194440e-4)
    z = r * r
    y = _polynomial(
        r,
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
    y = y * z + r
    y = y + _f32(1)
    exponent = np.where(np.isnan(n), _f32(0), n).astype(np.int32)
    power = np.asarray((exponent + 127) << 23, np.int32).view(np.float32)
    return np.asarray(y * power, np.float32)


def sigmoid_f32(x: npt.ArrayLike) -> Float32Array:
    """1 / (1 + exp_f32(-x))."""
    return np.asarray(_f32(1) / (_f32(1) + exp_f32(-np.asarray(x, np.float32))), np.float32)


def tanh_f32(x: npt.ArrayLike) -> Float32Array:
    """tanh(x) in float32 (cephes tanhf)."""
    real = np.asarray(x, np.float32)
    magnitude = np.abs(real)
    # np.where evaluates both branches: keep the polynomial inside its range.
    small = np.where(magnitude < _f32(0.625), real, _f32(0))
    s = small * small
    z = _polynomial(
        s,
        -5.70498872745e-3,
        2.06390887954e-2,
        -5.37397155531e-2,
        1.33314422036e-1,
        -3.33332819422e-1,
    )
    z = z * s
    z = z * small
    near = z + small
    far = _f32(1) - _f32(2) / (exp_f32(_f32(2) * magnitude) + _f32(1))
    far = np.copysign(far, real)
    return np.where(magnitude < _f32(0.625), near, far).astype(np.float32)


def hardswish_f32(x: npt.ArrayLike) -> Float32Array:
    """(x * min(max(x + 3, 0), 6)) / 6."""
    real = np.asarray(x, np.float32)
    return np.asarray(real * clamp_f32(real + _f32(3), _f32(0), _f32(6)) / _f32(6), np.float32)


def leaky_relu_f32(x: npt.ArrayLike, alpha: float) -> Float32Array:
    """x < 0 ? x * alpha : x."""
    real = np.asarray(x, np.float32)
    return np.where(real < 0, real * _f32(alpha), real).astype(np.float32)


def softmax_f32(x: npt.ArrayLike, beta: float) -> Float32Array:
    """Softmax along the last axis: exp_f32(beta * (x - max)) over their sum in index order."""
    real = np.asarray(x, np.float32)
    exps = exp_f32(_f32(beta) * (real - real.max(axis=-1, keepdims=True)))
    total = sum_f32(exps)
    return np.asarray(exps / total[..., None], np.float32)


def sum_f32(x: Float32Array) -> Float32Array:
    """Sum along the last axis in index order, starting from 0, one float32 addition each."""
    total = np.zeros(x.shape[:-1], np.float32)
    for i in range(x.shape[-1]):
        total = total + x[..., i]
    return total


def quantize_f32(
    x: npt.ArrayLike, scale: float, zero_point: int, low: int, high: int
) -> Int64Array:
    """TFLite's AffineQuantize: round(x / scale) + zero_point, in float32, limited to [low, high].

    NaN gives the zero point.
    """
    real = np.asarray(x, np.float32)
    with np.errstate(over="ignore"):
        q = round_half_away_f32(np.where(np.isnan(real), _f32(0), real) / _f32(scale))
    # Far outside every range already, and exactly convertible.
    return np.clip(np.clip(q, -1e6, 1e6).astype(np.int64) + zero_point, low, high)


def dequantize_f32(q: npt.ArrayLike, scale: float, zero_point: int) -> Float32Array:
    """scale * (q - zero_point) in float32."""
    return np.asarray(_f32(scale) * (np.asarray(q, np.int64) - zero_point).astype(np.float32))
