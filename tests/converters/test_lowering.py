"""Integer parameters of quantized operators."""

import math

import numpy as np
import pytest

from zeroskip.converters import lowering, numerics
from zeroskip.converters.ir import (
    NO_CLAMP,
    RELU,
    RELU6,
    Attributes,
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
    PoolKind,
    Quantization,
    Quantize,
    Softmax,
    Tensor,
    Unary,
    UnaryKind,
)
from zeroskip.errors import ModelError


def scale(value: float) -> float:
    return float(np.float32(value))


def int8(name: str, shape: tuple[int, ...], value: float = 0.1, zero: int = 0, **more) -> Tensor:
    return Tensor(name, shape, "int8", Quantization((scale(value),), zero, **more))


def single(attributes: Attributes, *tensors: Tensor) -> tuple[Graph, Op]:
    """A graph of one op; the last tensor is its output, those without data its inputs."""
    *inputs, output = tensors
    op = Op("the_op", attributes, tuple(t.name for t in inputs), output.name)
    activations = tuple(dict.fromkeys(t.name for t in inputs if t.data is None))
    graph = Graph("g", {t.name: t for t in tensors}, (op,), activations, (output.name,))
    return graph, op


def weights(shape: tuple[int, ...], *scales: float) -> Tensor:
    data = np.ones(shape, np.int8)
    return Tensor("w", shape, "int8", Quantization(tuple(scale(s) for s in scales), 0), data)


def test_activation_range_is_rounded_and_clamped() -> None:
    output = int8("y", (1,), 0.05, -100)
    assert lowering.activation_range(NO_CLAMP, output) == (-128, 127)
    assert lowering.activation_range(RELU, output) == (-100, 127)
    assert lowering.activation_range(RELU6, output) == (-100, 20)
    assert lowering.activation_range(Clamp(-1e30, 1e30), output) == (-128, 127)
    assert lowering.activation_range(Clamp(100.0, 200.0), output) == (127, 127)
    assert lowering.activation_range(Clamp(-math.inf, -math.inf), output) == (-128, -128)
    assert lowering.float_range(Clamp(-1.0)) == (np.float32(-1), np.float32(np.inf))


def test_equal_multipliers_are_given_once() -> None:
    graph, op = single(
        Conv2D(), int8("x", (2, 1, 1)), weights((3, 2, 1, 1), 0.02, 0.02, 0.02),
        int8("y", (3, 1, 1)),
    )  # fmt: skip
    p = lowering.weighted(graph, op)
    assert p.multiplier.shape == p.shift.shape == (1,) and p.multiplier.dtype == np.int32
    graph, op = single(
        Conv2D(), int8("x", (2, 1, 1)), weights((3, 2, 1, 1), 0.02, 0.02, 0.03),
        int8("y", (3, 1, 1)),
    )  # fmt: skip
    p = lowering.weighted(graph, op)
    expected = [numerics.quantize_multiplier(scale(0.1) * scale(s) / scale(0.1))
                for s in (0.02, 0.02, 0.03)]  # fmt: skip
    assert list(zip(p.multiplier.tolist(), p.shift.tolist(), strict=True)) == expected


def test_scale_products_are_double_or_float_as_in_tflite() -> None:
    """int8 convolutions multiply scales as doubles, uint8 ones and fully connected in float32."""
    a, b, c = 0.0123, 0.0457, 0.0789
    double = numerics.quantize_multiplier(scale(a) * scale(b) / scale(c))
    single_precision = numerics.quantize_multiplier(
        float(np.float32(scale(a)) * np.float32(scale(b))) / scale(c)
    )
    assert double != single_precision

    def multiplier(attributes: Attributes, x: Tensor, w: Tensor, y: Tensor) -> tuple[int, int]:
        p = lowering.weighted(*single(attributes, x, w, y))
        return int(p.multiplier[0]), int(p.shift[0])

    x, y = int8("x", (2, 1, 1), a), int8("y", (3, 1, 1), c)
    legacy = int8("x", (2, 1, 1), a, was_uint8=True)
    assert multiplier(Conv2D(), x, weights((3, 2, 1, 1), b), y) == double
    assert multiplier(Conv2D(), legacy, weights((3, 2, 1, 1), b), y) == single_precision
    x, y = int8("x", (2,), a), int8("y", (3,), c)
    assert multiplier(FullyConnected(), x, weights((3, 2), b), y) == single_precision


def test_absurd_scales_name_the_operator() -> None:
    graph, op = single(
        Conv2D(), int8("x", (1, 1, 1), 1e30), weights((1, 1, 1, 1), 1e6), int8("y", (1, 1, 1), 1e-9)
    )
    with pytest.raises(ModelError, match=r"the_op.*scales"):
        lowering.weighted(graph, op)
    graph, op = single(
        Binary(BinaryKind.ADD), int8("a", (1,), 1.0), int8("b", (1,), 1.0), int8("y", (1,), 1e-7)
    )
    with pytest.raises(ModelError, match=r"the_op.*must be under 1"):
        lowering.binary(graph, op)
    graph, op = single(Softmax(0), int8("x", (2,), 1e-9), int8("y", (2,), 1 / 256, -128))
    with pytest.raises(ModelError, match=r"the_op.*flat"):
        lowering.softmax(graph, op)


def test_addition_scales_to_the_larger_input() -> None:
    graph, op = single(
        Binary(BinaryKind.ADD, RELU), int8("a", (1,), 0.5), int8("b", (1,), 0.25),
        int8("y", (1,), 1.0, -3),
    )  # fmt: skip
    p = lowering.binary(graph, op)
    half, quarter = (2**30, 0), (2**30, -1)
    assert p.left_shift == 20
    assert (p.multiplier1, p.shift1) == half and (p.multiplier2, p.shift2) == quarter
    assert p.output_multiplier * 2.0 ** (p.output_shift - 31) == 2.0**-20
    assert (p.low, p.high) == (-3, 127)


def test_multiplication_has_one_multiplier() -> None:
    graph, op = single(
        Binary(BinaryKind.MUL), int8("a", (1,), 0.5), int8("b", (1,), 0.25), int8("y", (1,), 0.5)
    )
    p = lowering.binary(graph, op)
    assert p == lowering.BinaryParameters(0, 0, 0, 0, 0, 2**30, -1, -128, 127)


@pytest.mark.parametrize(("legacy", "offset"), [(False, 0), (True, 128)])
def test_pooling_rounds_about_the_uint8_zero(legacy: bool, offset: int) -> None:
    graph, op = single(
        Pool2D(PoolKind.AVERAGE, (2, 2), (1, 1)),
        int8("x", (1, 2, 2), was_uint8=legacy), int8("y", (1, 1, 1), was_uint8=legacy),
    )  # fmt: skip
    assert lowering.pool(graph, op) == (-128, 127)
    assert lowering.pool_offset(graph, op) == offset


def test_mean_holds_the_count_in_its_multiplier() -> None:
    graph, op = single(Mean((1, 2)), int8("x", (2, 3, 4), 0.2, 5), int8("y", (2,), 0.1, -7))
    p = lowering.mean(graph, op)
    assert p.multiplier * 2.0 ** (p.shift - 31) == pytest.approx(2 / 12, rel=1e-8)


@pytest.mark.parametrize(("value", "expected"), [(0.0, 10), (0.05, 11), (-1.0, -10), (1e9, 127)])
def test_pad_value_is_quantized(value: float, expected: int) -> None:
    attributes = Pad(((1, 0),), value)
    assert lowering.pad_value(*single(attributes, int8("x", (1,), 0.05, 10),
                                      int8("y", (2,), 0.05, 10))) == expected  # fmt: skip


def test_padding_with_nan_is_an_error() -> None:
    with pytest.raises(ModelError, match="the_op"):
        lowering.pad_value(*single(Pad(((1, 0),), math.nan), int8("x", (1,)), int8("y", (2,))))


def test_softmax_range_of_differences() -> None:
    graph, op = single(Softmax(0, 1.0), int8("x", (2,), 0.125), int8("y", (2,), 1 / 256, -128))
    p = lowering.softmax(graph, op)
    assert (p.multiplier, p.left_shift, p.diff_min) == (2**30, 24, -124)
    graph, op = single(Softmax(0, 1.0), int8("x", (2,), 1000.0), int8("y", (2,), 1 / 256, -128))
    assert lowering.softmax(graph, op).diff_min == 0


REAL = {
    UnaryKind.SIGMOID: lambda x: 1 / (1 + np.exp(-x)),
    UnaryKind.TANH: np.tanh,
    UnaryKind.HARDSWISH: lambda x: x * np.clip(x + 3, 0, 6) / 6,
    UnaryKind.CLAMP: lambda x: np.clip(x, 0, 6),
    UnaryKind.LEAKY_RELU: lambda x: np.where(x < 0, x * 0.1, x),
}


@pytest.mark.parametrize("kind", list(UnaryKind))
def test_tables_are_the_rounded_function(kind: UnaryKind) -> None:
    x, y = int8("x", (3,), 0.06, 13), int8("y", (3,), 0.05, -20)
    clamp = RELU6 if kind is UnaryKind.CLAMP else NO_CLAMP
    table = lowering.table(*single(Unary(kind, clamp, 0.1), x, y))
    assert table.dtype == np.int8 and table.shape == (256,)
    real = REAL[kind]((np.arange(-128, 128) - 13) * 0.06)
    exact = np.clip(real / 0.05 - 20, -128, 127)
    assert np.abs(table - exact).max() <= (1.01 if kind is UnaryKind.LEAKY_RELU else 0.51)


def test_negative_slopes() -> None:
    x, y = int8("x", (3,), 0.1, 0), int8("y", (3,), 0.1, 0)
    table = lowering.table(*single(Unary(UnaryKind.LEAKY_RELU, alpha=-0.5), x, y))
    assert table[128 - 100] == 50 and table[128 + 100] == 100


@pytest.mark.parametrize("via_float32", [False, True])
def test_requantization_tables(via_float32: bool) -> None:
    x, y = int8("x", (3,), 0.1, 10), int8("y", (3,), 0.2, -5)
    table = lowering.table(*single(Quantize(via_float32), x, y))
    exact = np.clip((np.arange(-128, 128) - 10) * 0.5 - 5, -128, 127)
    assert np.abs(table - exact).max() <= 0.5
