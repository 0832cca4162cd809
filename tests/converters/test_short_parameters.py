"""Scales and biases that take few bytes move results by a fraction of a step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import biased_layer

from zeroskip.converters import lowering, parameters
from zeroskip.converters.ir import Conv2D, FullyConnected, Graph, Op, Quantization, Tensor
from zeroskip.converters.passes import short_parameters
from zeroskip.converters.passes.quantize import quantize
from zeroskip.converters.passes.short_parameters import round_biases
from zeroskip.errors import ModelError

SCALES = st.floats(1e-6, 10)


def float_layer(weight: np.ndarray, bias: np.ndarray | None = None) -> Graph:
    constants = {"w": weight.astype(np.float32)}
    if bias is not None:
        constants["b"] = bias.astype(np.float32)
    conv = weight.ndim == 4
    after = (6, 6) if conv else ()
    out = (4, 4) if conv else ()
    tensors = [Tensor(n, v.shape, "float32", None, v) for n, v in constants.items()]
    tensors += [
        Tensor("x", (weight.shape[1], *after), "float32"),
        Tensor("y", (weight.shape[0], *out), "float32"),
    ]
    op = Op("layer", Conv2D() if conv else FullyConnected(), ("x", *constants), "y")
    return Graph("net", {t.name: t for t in tensors}, (op,), ("x",), ("y",))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(SCALES, min_size=1, max_size=8), SCALES, SCALES)
def test_scales_rise_by_under_a_percent(scales: list[float], x: float, y: float) -> None:
    given_scales = np.float32(scales).astype(np.float64)
    raised = short_parameters.raised(given_scales, x, y)
    ratio = raised / given_scales
    assert (ratio >= 1 - 2.0**-21).all() and (ratio <= 1 + 2.0**-7 + 2.0**-20).all()
    again = short_parameters.raised(raised, x, y)
    assert np.allclose(again, raised, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(40, 30), (12, 8, 3, 3)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_multipliers_have_8_bits_and_weights_their_range(
    shape: tuple[int, ...], per_channel: bool
) -> None:
    rng = np.random.default_rng(0)
    graph = float_layer(rng.normal(size=shape), rng.normal(size=shape[0]))
    x = rng.normal(size=(50, *graph.tensors["x"].shape)).astype(np.float32)
    short, full = (quantize(graph, x, per_channel=per_channel, compact=c) for c in (True, False))
    p = lowering.weighted(short, short.ops[0])
    assert (p.multiplier % (1 << 23) == 0).all()
    largest = np.abs(short.tensors["w"].data.reshape(shape[0], -1).astype(int)).max(axis=1)
    assert (largest.max() if not per_channel else largest.min()) >= 125
    size, before = (
        parameters.scale_form(q.multiplier, q.shift).size
        for q in (p, lowering.weighted(full, full.ops[0]))
    )
    assert size <= 0.4 * before if per_channel else size < before


def test_the_integers_of_a_codebook_stay() -> None:
    rng = np.random.default_rng(0)
    codebook = rng.normal(size=8)
    factors = rng.uniform(0.1, 1, 60)
    weight = codebook[rng.integers(0, 8, (60, 40))] * factors[:, None]
    graph = float_layer(weight)
    x = rng.normal(size=(50, 40)).astype(np.float32)
    short, full = (quantize(graph, x, compact=c) for c in (True, False))
    assert np.array_equal(short.tensors["w"].data, full.tensors["w"].data)
    assert np.unique(short.tensors["w"].data).size == 8
    p = lowering.weighted(short, short.ops[0])
    assert p.multiplier.size == 60 and (p.multiplier % (1 << 15) == 0).all()


def test_one_scale_stays_one_scale() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=8)[rng.integers(0, 8, (20, 60))]
    short = quantize(float_layer(weight), rng.normal(size=(50, 60)).astype(np.float32))
    assert len(short.tensors["w"].quantization.scale) == 1
    assert np.unique(short.tensors["w"].data).size == 8


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20)
    | st.lists(st.integers(-5000, 5000), min_size=1, max_size=20),
    st.integers(0, 1000),
    st.booleans(),
)
def test_biases_move_by_1_32_of_a_step(values: list[int], seed: int, per_channel: bool) -> None:
    bias = np.array(values, np.int32)
    graph = biased_layer(bias, seed, None, per_channel, False)
    rounded = round_biases(graph)
    after = rounded.tensors[rounded.ops[0].inputs[2]].data
    p = lowering.weighted(graph, graph.ops[0])
    step = np.ldexp(p.multiplier.astype(np.float64), p.shift - 31)
    assert (np.abs(after.astype(np.int64) - bias) * step <= 1 / 32).all()
    size, before = (parameters.bias_form(b).size for b in (after, bias))
    assert size <= before


def test_biases_near_the_end_of_int32_stay() -> None:
    graph = biased_layer(np.array([2**31 - 1, -(2**31)], np.int32), 0, None, True, False)
    assert round_biases(graph) is graph or round_biases(graph).ops == graph.ops


def test_multiplier_bits_are_checked() -> None:
    with pytest.raises(ModelError, match="1 to 31 bits"):
        Quantization((1.0,), 0, multiplier_bits=0)
