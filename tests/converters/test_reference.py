"""The oracle against loops written out from the definitions."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskip.converters import lowering, numerics, reference
from zeroskip.converters.ir import (
    RELU,
    Attributes,
    Binary,
    BinaryKind,
    Clamp,
    Concat,
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
    Reshape,
    Softmax,
    Tensor,
    Transpose,
    Unary,
    UnaryKind,
    conv_output_size,
)
from zeroskip.errors import InputError


def graph_of(attributes: Attributes, *tensors: Tensor) -> Graph:
    *inputs, output = tensors
    op = Op("op_0", attributes, tuple(t.name for t in inputs), output.name)
    activations = tuple(t.name for t in inputs if t.data is None)
    return Graph("g", {t.name: t for t in tensors}, (op,), activations, (output.name,))


def real(name: str, *shape: int) -> Tensor:
    return Tensor(name, shape, "float32")


def int8(name: str, shape: tuple[int, ...], scale: float = 0.1, zero: int = 0) -> Tensor:
    return Tensor(name, shape, "int8", Quantization((float(np.float32(scale)),), zero))


def constant(name: str, data: np.ndarray, scale: float = 0.0, zero: int = 0) -> Tensor:
    quantization = Quantization((float(np.float32(scale)),), zero) if scale else None
    return Tensor(name, data.shape, str(data.dtype), quantization, data)


@st.composite
def convolutions(draw) -> tuple[Conv2D, tuple[int, ...], tuple[int, ...]]:
    """(attributes, input shape, weight shape)"""
    small = st.integers(1, 3)
    groups, per_group = draw(small), draw(small)
    kernel, stride, dilation = ((draw(small), draw(small)) for _ in range(3))
    padding = tuple(draw(st.integers(0, 3)) for _ in range(4))
    size = [
        max(1, (k - 1) * d + 1 - padding[2 * i] - padding[2 * i + 1]) + draw(st.integers(0, 4))
        for i, (k, d) in enumerate(zip(kernel, dilation, strict=True))
    ]
    a = Conv2D(stride, dilation, padding, groups, draw(st.sampled_from([Clamp(), RELU])))
    return a, (groups * per_group, *size), (groups * draw(small), per_group, *kernel)


def output_shape(a: Conv2D, x: tuple[int, ...], w: tuple[int, ...]) -> tuple[int, int, int]:
    return (
        w[0],
        conv_output_size(x[1], w[2], a.stride[0], a.dilation[0], *a.padding[:2]),
        conv_output_size(x[2], w[3], a.stride[1], a.dilation[1], *a.padding[2:]),
    )


def taps(a: Conv2D, x: np.ndarray, w: np.ndarray, o: int, oy: int, ox: int):
    """(weight, input) of one output in the order (c, ky, kx), padding left out."""
    per_group = w.shape[0] // a.groups
    for c, ky, kx in itertools.product(*map(range, w.shape[1:])):
        y = oy * a.stride[0] + ky * a.dilation[0] - a.padding[0]
        z = ox * a.stride[1] + kx * a.dilation[1] - a.padding[2]
        if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
            yield w[o, c, ky, kx], x[o // per_group * w.shape[1] + c, y, z]


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.integers(0, 2**32 - 1))
def test_float_convolution_adds_in_order(case, seed: int) -> None:
    a, x_shape, w_shape = case
    rng = np.random.default_rng(seed)
    w = (rng.normal(size=w_shape) * (rng.random(w_shape) < 0.6)).astype(np.float32)
    bias = rng.normal(size=w_shape[0]).astype(np.float32)
    shape = output_shape(a, x_shape, w_shape)
    graph = graph_of(
        a, real("x", *x_shape), constant("w", w), constant("b", bias), real("y", *shape)
    )
    x = rng.normal(size=(2, *x_shape)).astype(np.float32)
    result = reference.run(graph, [x])[0]
    for n, o, oy, ox in itertools.product(range(2), *map(range, shape)):
        acc = np.float32(0)
        for weight, value in taps(a, x[n], w, o, oy, ox):
            if weight != 0:
                acc = acc + weight * value
        acc = acc + bias[o]
        assert result[n, o, oy, ox] == max(acc, np.float32(a.clamp.low))


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.integers(0, 2**32 - 1))
def test_int8_convolution(case, seed: int) -> None:
    a, x_shape, w_shape = case
    rng = np.random.default_rng(seed)
    w = rng.integers(-128, 128, w_shape).astype(np.int8)
    bias = rng.integers(-1000, 1000, w_shape[0]).astype(np.int32)
    shape = output_shape(a, x_shape, w_shape)
    zero, weight_zero = int(rng.integers(-128, 128)), int(rng.integers(-128, 128))
    graph = graph_of(
        a, int8("x", x_shape, 0.1, zero), constant("w", w, 0.02, weight_zero),
        constant("b", bias), int8("y", shape, 2.0, 7),
    )  # fmt: skip
    x = rng.integers(-128, 128, (2, *x_shape)).astype(np.int8)
    result = reference.run(graph, [x])[0]
    p = lowering.weighted(graph, graph.ops[0])
    for n, o, oy, ox in itertools.product(range(2), *map(range, shape)):
        acc = int(bias[o]) + sum(
            (int(v) - zero) * (int(q) - weight_zero) for q, v in taps(a, x[n], w, o, oy, ox)
        )
        scaled = numerics.multiply_by_quantized_multiplier(acc, p.multiplier[0], p.shift[0])
        assert result[n, o, oy, ox] == min(max(int(scaled) + 7, p.low), p.high)


def test_int8_sums_wrap_at_32_bits() -> None:
    w = np.full((1, 1), 127, np.int8)
    graph = graph_of(
        FullyConnected(), int8("x", (1,), 1.0), constant("w", w, 1.0),
        constant("b", np.array([2**31 - 1], np.int32)), int8("y", (1,), 2.0**25),
    )  # fmt: skip
    assert reference.run(graph, [np.array([[0]], np.int8)])[0] == [[64]]
    assert reference.run(graph, [np.array([[1]], np.int8)])[0] == [[-64]]


def test_zero_weights_ignore_infinities() -> None:
    graph = graph_of(
        FullyConnected(), real("x", 2), constant("w", np.array([[0.0, 2.0]], np.float32)),
        real("y", 1),
    )  # fmt: skip
    assert reference.run(graph, [np.array([[np.inf, 3.0]], np.float32)])[0] == [[6.0]]


def test_fully_connected_keeps_rows() -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(3, 4)).astype(np.float32)
    graph = graph_of(FullyConnected(), real("x", 5, 4), constant("w", w), real("y", 5, 3))
    x = rng.normal(size=(2, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(reference.run(graph, [x])[0], x @ w.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", list(PoolKind))
@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize(
    "a",
    [
        {"kernel": (2, 3), "stride": (1, 2), "padding": (1, 0, 2, 1)},
        {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1), "count_include_pad": True},
        {"kernel": (1, 1), "stride": (1, 1), "adaptive": True},
    ],
)
def test_pooling(kind: PoolKind, dtype: str, a: dict) -> None:
    attributes = Pool2D(kind, **a)
    h, w = 5, 7
    top, bottom, left, right = attributes.padding
    size = (
        (3, 2)
        if attributes.adaptive
        else tuple(
            conv_output_size(n, k, s, 1, before, after)
            for n, k, s, before, after in zip(
                (h, w),
                attributes.kernel,
                attributes.stride,
                (top, left),
                (bottom, right),
                strict=True,
            )
        )
    )
    rng = np.random.default_rng(1)
    if dtype == "int8":
        tensors = int8("x", (2, h, w), 0.1, 9), int8("y", (2, *size), 0.1, 9)
        x = rng.integers(-128, 128, (1, 2, h, w)).astype(np.int8)
    else:
        tensors = real("x", 2, h, w), real("y", 2, *size)
        x = rng.normal(size=(1, 2, h, w)).astype(np.float32)
    result = reference.run(graph_of(attributes, *tensors), [x])[0]
    for c, oy, ox in itertools.product(range(2), *map(range, size)):
        rows, columns = (
            range(i * n // o, -(-(i + 1) * n // o)) if attributes.adaptive
            else range(i * s - before, i * s - before + k)
            for i, n, o, s, k, before in zip(
                (oy, ox), (h, w), size, attributes.stride, attributes.kernel, (top, left),
                strict=True,
            )
        )  # fmt: skip
        inside = [x[0, c, y, z] for y in rows if 0 <= y < h for z in columns if 0 <= z < w]
        count = len(inside)
        padded = 0
        if attributes.count_include_pad:
            within = [(y, z) for y in rows if y < h + bottom for z in columns if z < w + right]
            padded = len(within) - count
        if kind is PoolKind.MAX:
            assert result[0, c, oy, ox] == max(inside)
        elif dtype == "int8":
            mean = (sum(map(int, inside)) + 9 * padded) / (count + padded)
            assert result[0, c, oy, ox] == numerics.round_half_away(mean)
        else:
            total = np.float32(0)
            for value in inside:
                total = total + value
            assert result[0, c, oy, ox] == total / np.float32(count + padded)


def test_averages_of_former_uint8_round_halves_up() -> None:
    """TFLite averages uint8 values, so -0.5 in int8 terms is 127.5, which rounds to 128."""
    results = []
    for legacy in (False, True):
        quantization = Quantization((0.5,), 0, legacy)
        graph = graph_of(
            Pool2D(PoolKind.AVERAGE, (1, 2), (1, 1)),
            Tensor("x", (1, 1, 2), "int8", quantization),
            Tensor("y", (1, 1, 1), "int8", quantization),
        )
        results.append(int(reference.run(graph, [np.array([[[[-1, 0]]]], np.int8)])[0].item()))
    assert results == [-1, 0]


def test_a_window_in_the_padding_gives_zero() -> None:
    tensors = int8("x", (1, 1, 1), 0.1, 5), int8("y", (1, 1, 3), 0.1, 5)
    for kind in PoolKind:
        # Output columns 1 and 2 lie past the input, as PyTorch's ceil_mode may leave them.
        graph = graph_of(Pool2D(kind, (1, 1), (1, 1)), *tensors)
        x = np.full((1, 1, 1, 1), 100, np.int8)
        np.testing.assert_array_equal(reference.run(graph, [x])[0], [[[[100, 5, 5]]]])


def test_int8_mean_rounds_as_the_multiplier_does() -> None:
    graph = graph_of(Mean((1,)), int8("x", (2, 2)), int8("y", (2,)))
    x = np.array([[[-3, -4], [2, 3]]], np.int8)  # -3.5 and 2.5; gemmlowp rounds halves up
    np.testing.assert_array_equal(reference.run(graph, [x])[0], [[-3, 3]])


def test_float_mean_over_outer_axes() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    graph = graph_of(Mean((0, 2)), real("x", 3, 4, 5), real("y", 4))
    np.testing.assert_allclose(reference.run(graph, [x])[0], x.mean(axis=(1, 3)), rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "function"),
    [(BinaryKind.ADD, np.add), (BinaryKind.SUB, np.subtract), (BinaryKind.MUL, np.multiply)],
)
def test_binary_broadcasts(kind: BinaryKind, function) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(4,)).astype(np.float32)
    x = rng.normal(size=(2, 3, 1)).astype(np.float32)
    graph = graph_of(Binary(kind), real("x", 3, 1), constant("c", y), real("y", 3, 4))
    np.testing.assert_array_equal(reference.run(graph, [x])[0], function(x, y))
    q = rng.integers(-20, 20, (2, 3, 1)).astype(np.int8)
    c = rng.integers(-20, 20, 4).astype(np.int8)
    graph = graph_of(
        Binary(kind), int8("x", (3, 1), 0.1), constant("c", c, 0.1), int8("y", (3, 4), 0.5)
    )
    exact = function(q * 0.1, c * 0.1) / 0.5
    assert np.abs(reference.run(graph, [q])[0] - exact).max() <= 0.51


def test_rearrangements() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    graph = graph_of(Transpose((1, 0)), real("x", 3, 4), real("y", 4, 3))
    np.testing.assert_array_equal(reference.run(graph, [x])[0], x.transpose(0, 2, 1))
    graph = graph_of(Reshape(), real("x", 3, 4), real("y", 2, 6))
    np.testing.assert_array_equal(reference.run(graph, [x])[0], x.reshape(2, 2, 6))
    graph = graph_of(Pad(((1, 0), (0, 2)), 7.0), real("x", 3, 4), real("y", 4, 6))
    np.testing.assert_array_equal(
        reference.run(graph, [x])[0],
        np.pad(x, ((0, 0), (1, 0), (0, 2)), constant_values=7),
    )
    graph = graph_of(Concat(1), real("x", 3, 4), real("z", 3, 2), real("y", 3, 6))
    z = x[:, :, :2]
    np.testing.assert_array_equal(reference.run(graph, [x, z])[0], np.concatenate([x, z], axis=2))
    graph = graph_of(Softmax(0), real("x", 3, 4), real("y", 3, 4))
    np.testing.assert_allclose(reference.run(graph, [x])[0].sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("kind", list(UnaryKind))
def test_float_and_int8_functions_agree(kind: UnaryKind) -> None:
    a = Unary(kind, Clamp(-1.0, 1.0) if kind is UnaryKind.CLAMP else Clamp(), 0.2)
    q = np.arange(-128, 128).astype(np.int8)[None]
    quantized = graph_of(a, int8("x", (256,), 0.05, 3), int8("y", (256,), 0.05, 3))
    floating = graph_of(a, real("x", 256), real("y", 256))
    x = numerics.dequantize_f32(q, 0.05, 3)
    exact = np.clip(reference.run(floating, [x])[0] / 0.05 + 3, -128, 127)
    assert np.abs(reference.run(quantized, [q])[0] - exact).max() <= 1.01


def test_conversions() -> None:
    x = np.array([[-1.0, 0.26, np.nan, 99.0]], np.float32)
    unsigned = Tensor("u", (4,), "uint8", Quantization((0.5,), 128))
    graph = graph_of(Quantize(), real("x", 4), unsigned)
    u = reference.run(graph, [x])[0]
    np.testing.assert_array_equal(u, [[126, 129, 128, 255]])
    signed = Tensor("i", (4,), "int8", Quantization((0.5,), 0, was_uint8=True))
    q = reference.run(graph_of(Quantize(), unsigned, signed), [u])[0]
    np.testing.assert_array_equal(q, [[-2, 1, 0, 127]])
    np.testing.assert_array_equal(reference.run(graph_of(Quantize(), signed, unsigned), [q])[0], u)
    back = reference.run(graph_of(Quantize(), signed, real("f", 4)), [q])[0]
    np.testing.assert_array_equal(back, np.array([[-1, 0.5, 0, 63.5]], np.float32))
    coarse = int8("c", (4,), 1.0, 0)
    np.testing.assert_array_equal(
        reference.run(graph_of(Quantize(), signed, coarse), [q])[0], [[-1, 1, 0, 64]]
    )


def test_all_activations_can_be_had() -> None:
    graph = graph_of(Reshape(), real("x", 2, 3), real("y", 6))
    values = reference.run_all(graph, [np.zeros((4, 2, 3), np.float32)])
    assert {name: v.shape for name, v in values.items()} == {"x": (4, 2, 3), "y": (4, 6)}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "has 1 inputs, got 0"),
        ([np.zeros((1, 2, 4), np.float32)], "must be float32 of shape"),
        ([np.zeros((2, 3), np.float32)], "must be float32 of shape"),
        ([np.zeros((1, 2, 3), np.float64)], "must be float32 of shape"),
        ([np.zeros((0, 2, 3), np.float32)], "at least one"),
    ],
)
def test_inputs_that_do_not_fit(inputs: list[np.ndarray], message: str) -> None:
    graph = graph_of(Reshape(), real("x", 2, 3), real("y", 6))
    with pytest.raises(InputError, match=message):
        reference.run(graph, inputs)


def test_inputs_of_different_batches() -> None:
    graph = graph_of(Binary(BinaryKind.ADD), real("a", 2), real("b", 2), real("y", 2))
    with pytest.raises(InputError, match="another batch size"):
        reference.run(graph, [np.zeros((n, 2), np.float32) for n in (1, 2)])
    assert math.prod(reference.run(graph, [np.zeros((1, 2), np.float32)] * 2)[0].shape) == 2
