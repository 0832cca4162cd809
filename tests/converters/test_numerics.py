"""Fixed-point arithmetic against exact integers, float32 functions against double precision."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskip.converters import numerics
from zeroskip.errors import ModelError

int32 = st.one_of(
    st.integers(-(2**31), 2**31 - 1), st.sampled_from([-(2**31), -1, 0, 1, 2**31 - 1])
)
multipliers = st.integers(2**30, 2**31 - 1)


def half_away(value: Fraction) -> int:
    return math.floor(abs(value) + Fraction(1, 2)) * (1 if value >= 0 else -1)


def wrap(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def gemmlowp_high_mul(a: int, b: int) -> int:
    nudged = a * b + (2**30 if a * b >= 0 else 1 - 2**30)
    return min(abs(nudged) // 2**31 * (1 if nudged >= 0 else -1), 2**31 - 1)


@given(st.floats(1e-9, 2**29, allow_nan=False))
def test_multiplier_and_shift_represent_the_real_number(real: float) -> None:
    multiplier, shift = numerics.quantize_multiplier(real)
    assert 2**30 <= multiplier < 2**31 and -31 <= shift <= numerics.MAX_SHIFT
    assert multiplier * 2.0 ** (shift - 31) == pytest.approx(real, rel=2**-30)


def test_multiplier_carries_into_the_shift() -> None:
    assert numerics.quantize_multiplier(1 - 2**-40) == (2**30, 1)
    assert numerics.quantize_multiplier(0.5) == (2**30, 0)
    assert numerics.quantize_multiplier(2**-40) == (0, 0)
    assert numerics.quantize_multiplier(0.0) == (0, 0)


@pytest.mark.parametrize("real", [math.nan, math.inf, -1.0, 2.0**30])
def test_multiplier_out_of_range_is_an_error(real: float) -> None:
    with pytest.raises(ModelError, match="scales"):
        numerics.quantize_multiplier(real)


@given(int32, int32)
def test_high_mul_is_gemmlowps(a: int, b: int) -> None:
    assert int(numerics.doubling_high_mul(a, b)) == gemmlowp_high_mul(a, b)


def test_high_mul_saturates() -> None:
    assert int(numerics.doubling_high_mul(-(2**31), -(2**31))) == 2**31 - 1


@given(int32, st.integers(0, 31))
def test_rounding_shift_rounds_halves_away_from_zero(x: int, exponent: int) -> None:
    assert int(numerics.rounding_divide_by_pot(x, exponent)) == half_away(Fraction(x, 2**exponent))


@given(int32, multipliers, st.integers(-31, 30))
def test_quantized_multiplication(x: int, multiplier: int, shift: int) -> None:
    high = gemmlowp_high_mul(wrap(x << max(shift, 0)), multiplier)
    expected = half_away(Fraction(high, 2 ** max(-shift, 0)))
    assert int(numerics.multiply_by_quantized_multiplier(x, multiplier, shift)) == expected


def test_quantized_multiplication_broadcasts() -> None:
    x = np.arange(-6, 6).reshape(2, 3, 2)
    result = numerics.multiply_by_quantized_multiplier(x, [2**30, 2**30], [0, 1])
    np.testing.assert_array_equal(result[..., 1], x[..., 1])
    np.testing.assert_array_equal(result[..., 0], [[-3, -2, -1], [0, 1, 2]])


@given(st.integers(-(2**28), 2**28), st.integers(1, 1000))
def test_divisions(x: int, count: int) -> None:
    assert int(numerics.divide_half_away(x, count)) == half_away(Fraction(x, count))
    assert int(numerics.divide_towards_zero(x, count)) == math.trunc(Fraction(x, count))


def test_wrap_is_twos_complement() -> None:
    np.testing.assert_array_equal(
        numerics.wrap_int32([2**31, -(2**31) - 1, 5]), [-(2**31), 2**31 - 1, 5]
    )


@pytest.mark.parametrize("x", [0.49999999999999994, 0.5, 1.5, -0.5, -2.5, 2**53 + 2.0, -1e300])
def test_rounding_of_doubles(x: float) -> None:
    assert numerics.round_half_away(x) == half_away(Fraction(x))


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_rounding_of_floats(x: float) -> None:
    assert float(numerics.round_half_away_f32(x)) == half_away(Fraction(x))


def test_fixed_point_exponential() -> None:
    a = np.linspace(-31.9, 0, 20001)
    raw = np.round(a * 2**26).astype(np.int64)
    result = numerics.exp_on_negative_values(raw) / 2**31
    np.testing.assert_allclose(result, np.exp(raw / 2**26), atol=2e-7)
    assert int(numerics.exp_on_negative_values(0)) == 2**31 - 1


def test_fixed_point_reciprocal() -> None:
    a = np.linspace(0, 0.999999, 20001)
    result = numerics.one_over_one_plus_x(np.round(a * 2**31).astype(np.int64)) / 2**31
    np.testing.assert_allclose(result, 1 / (1 + a), atol=1e-8)


def test_leading_zeros() -> None:
    x = [1, 2, 3, 2**30 - 1, 2**30, 2**31 - 1]
    np.testing.assert_array_equal(numerics.count_leading_zeros(x), [32 - v.bit_length() for v in x])


@given(st.integers(0, 2**32 - 1))
def test_int8_softmax_is_a_softmax(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (3, int(rng.integers(1, 40)))).astype(np.int8)
    scale = 0.05
    multiplier, shift = numerics.quantize_multiplier(scale * 2**26)
    diff_min = -(31 * 2**26 >> shift)
    result = numerics.softmax_int8(x, multiplier, shift, diff_min)
    exps = np.exp(scale * (x.astype(float) - x.max(axis=-1, keepdims=True)))
    expected = np.clip(exps / exps.sum(axis=-1, keepdims=True) * 256 - 128, -128, 127)
    assert np.abs(result - expected).max() <= 1


REALS = np.concatenate(
    [np.linspace(-100, 100, 40001), np.linspace(-1, 1, 20001), [0.0, -0.0, 0.625, -0.625]]
).astype(np.float32)


def test_exponential() -> None:
    exact = np.exp(np.clip(REALS, -87, 88).astype(np.float64))
    np.testing.assert_allclose(numerics.exp_f32(REALS), exact, rtol=2e-7)


def test_hyperbolic_tangent_and_sigmoid() -> None:
    wide = REALS.astype(np.float64)
    np.testing.assert_allclose(numerics.tanh_f32(REALS), np.tanh(wide), atol=2e-7, rtol=2e-7)
    np.testing.assert_allclose(numerics.sigmoid_f32(REALS), 1 / (1 + np.exp(-wide)), atol=2e-7)
    np.testing.assert_array_equal(numerics.tanh_f32(-REALS), -numerics.tanh_f32(REALS))


def test_hardswish_and_leaky_relu() -> None:
    wide = REALS.astype(np.float64)
    expected = wide * np.clip(wide + 3, 0, 6) / 6
    np.testing.assert_allclose(numerics.hardswish_f32(REALS), expected, rtol=1e-6, atol=1e-6)
    leaky = numerics.leaky_relu_f32(REALS, 0.1)
    np.testing.assert_array_equal(leaky, np.where(REALS < 0, REALS * np.float32(0.1), REALS))


@pytest.mark.parametrize(
    "function",
    [numerics.exp_f32, numerics.tanh_f32, numerics.sigmoid_f32, numerics.hardswish_f32],
)
def test_float_functions_give_one_result_per_value(function) -> None:
    """Whatever the array's shape: vectorised loops must not fuse or reorder anything."""
    some = REALS[::997]
    one_by_one = np.array([function(v) for v in some])
    assert function(some).dtype == np.float32
    np.testing.assert_array_equal(function(some), one_by_one)
    assert np.isnan(function(np.float32("nan")))


def test_float_softmax() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 9)).astype(np.float32)
    result = numerics.softmax_f32(x, 2.0)
    exps = np.exp(2.0 * x.astype(np.float64))
    np.testing.assert_allclose(result, exps / exps.sum(axis=-1, keepdims=True), rtol=1e-6)


def test_float_sums_are_taken_in_order() -> None:
    x = np.array([1e8, 1.0, -1e8, 1.0], np.float32)
    assert numerics.sum_f32(x) == 1.0  # the first 1 is lost, the second is not
    assert numerics.sum_f32(x[[0, 2, 1, 3]]) == 2.0


def test_quantization_rounds_clamps_and_maps_nan_to_zero() -> None:
    x = np.array([0.05, -0.05, 0.04, 1e30, -np.inf, np.nan], np.float32)
    result = numerics.quantize_f32(x, 0.1, 3, -128, 127)
    np.testing.assert_array_equal(result, [4, 2, 3, 127, -128, 3])
    np.testing.assert_array_equal(
        numerics.dequantize_f32([4, 3], 0.1, 3), np.array([0.1, 0], np.float32)
    )
