"""Channels that cannot matter are removed, and no bit of the outputs changes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import GraphMaker, random_graph, random_inputs

from zeroskip.conversion import load_graph
from zeroskip.converters import container, reference
from zeroskip.converters.ir import (
    NO_CLAMP,
    RELU,
    Array,
    Binary,
    BinaryKind,
    Clamp,
    Concat,
    Conv2D,
    FullyConnected,
    Graph,
    Op,
    Pool2D,
    PoolKind,
    Quantization,
    Reshape,
    Tensor,
)
from zeroskip.converters.passes.bounds import bounds
from zeroskip.converters.passes.dead_channels import remove_dead_channels
from zeroskip.errors import FormatError, ModelError
from zeroskip.runtime import Model


def with_dead_channels(graph: Graph, seed: int) -> Graph:
    """The graph with random rows and columns of its weights zeroed, and some large biases."""
    rng = np.random.default_rng(seed)
    tensors = dict(graph.tensors)
    for op in graph.ops:
        if not isinstance(op.attributes, Conv2D | FullyConnected):
            continue
        weight = tensors[op.inputs[1]]
        data = weight.data.copy()
        data[rng.random(data.shape[0]) < rng.choice([0, 0.5])] = weight.zero_point
        data[:, rng.random(data.shape[1]) < rng.choice([0, 0.5])] = weight.zero_point
        tensors[weight.name] = replace(weight, data=data)
        if len(op.inputs) > 2 and weight.dtype == "int8":
            bias = tensors[op.inputs[2]]
            values = bias.data.copy()
            far = rng.random(values.shape) < 0.3
            values[far] = rng.choice([-1, 1], far.sum()) * 200_000
            tensors[bias.name] = replace(bias, data=values)
    return replace(graph, tensors=tensors)


def chain(seed: int, dtype: str) -> Graph:
    """Layers that dead channels run through: convolutions, a sum, pooling, a classifier."""
    maker = GraphMaker(seed, dtype, (3, 6, 6))
    while len(maker.ops) < 3:
        maker.conv()
    for step in (maker.unary, maker.binary, maker.pool, maker.conv, maker.concat):
        if maker.integer(0, 1):
            step()
    maker.op(Reshape(), (maker.last,), (maker.last.size,), maker.last)
    maker.fully_connected()
    maker.fully_connected()
    return maker.graph()


def same_bits(graph: Graph, smaller: Graph, seed: int) -> None:
    x = random_inputs(graph, 3, seed)
    try:
        expected = reference.run(graph, [x])[0]
        Model(container.build(graph))
    except (ModelError, FormatError):
        return  # the random scales or the geometry of this seed cannot be represented
    got = reference.run(smaller, [x])[0]
    # float32: up to the sign of a zero
    assert np.array_equal(got, expected, equal_nan=True), seed
    blob = container.build(smaller)
    assert np.array_equal(np.asarray(Model(blob).run(x)), got, equal_nan=True), seed


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["int8", "float32"]), st.integers(1, 6))
def test_random_graphs_keep_their_bits(seed: int, dtype: str, ops: int) -> None:
    graph = with_dead_channels(random_graph(seed, dtype, ops), seed)
    try:
        smaller = remove_dead_channels(graph)
    except ModelError:
        return
    assert [smaller.tensors[n].shape for n in (*smaller.inputs, *smaller.outputs)] == [
        graph.tensors[n].shape for n in (*graph.inputs, *graph.outputs)
    ]
    same_bits(graph, smaller, seed)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["int8", "float32"]))
def test_chains_of_layers_keep_their_bits(seed: int, dtype: str) -> None:
    graph = with_dead_channels(chain(seed, dtype), seed)
    try:
        smaller = remove_dead_channels(graph)
    except ModelError:
        return
    same_bits(graph, smaller, seed)
    assert remove_dead_channels(smaller) is smaller


def test_most_chains_get_smaller() -> None:
    smaller = 0
    for seed in range(40):
        graph = with_dead_channels(chain(seed, "int8"), seed)
        try:
            smaller += remove_dead_channels(graph) is not graph
        except ModelError:
            continue
    assert smaller >= 25


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["int8", "float32"]), st.integers(1, 5))
def test_no_input_leaves_the_bounds(seed: int, dtype: str, ops: int) -> None:
    graph = with_dead_channels(random_graph(seed, dtype, ops), seed)
    x = random_inputs(graph, 4, seed)
    try:
        found = bounds(graph)
        values = reference.run_all(graph, [x])
    except ModelError:
        return
    for name, value in values.items():
        known = found[name]
        inside = ((value >= known.low) & (value <= known.high)) | np.isnan(value)
        assert inside.all(), (seed, name)


Q = Quantization((0.5,), -3)


class Net:
    """A graph in the making, int8 unless `quantization` is None."""

    def __init__(self, shape: tuple[int, ...], quantization: Quantization | None = Q) -> None:
        self.q = quantization
        self.dtype = "int8" if quantization else "float32"
        self.tensors = {"x": Tensor("x", shape, self.dtype, quantization)}
        self.ops: list[Op] = []
        self.last = "x"

    def layer(
        self, name: str, weight: Array, bias: Array | None = None, source: str | None = None,
        clamp: Clamp = NO_CLAMP, **geometry: object,
    ) -> str:  # fmt: skip
        source = source or self.last
        kind, bias_kind = (np.int8, np.int32) if self.q else (np.float32, np.float32)
        scale = Quantization((0.25,), 0) if self.q else None
        data = np.asarray(weight, kind)
        constants = [Tensor(f"{name}.w", data.shape, self.dtype, scale, data)]
        if bias is not None:
            values = np.asarray(bias, bias_kind)
            dtype = "int32" if self.q else "float32"
            b = Quantization((0.125,), 0) if self.q else None
            constants.append(Tensor(f"{name}.b", values.shape, dtype, b, values))
        self.tensors |= {t.name: t for t in constants}
        x = self.tensors[source]
        if data.ndim == 4:
            attributes = Conv2D(clamp=clamp, **geometry)
            top, bottom, left, right = attributes.padding
            size = (
                x.shape[1] + top + bottom - data.shape[2] + 1,
                x.shape[2] + left + right - data.shape[3] + 1,
            )
            shape = (data.shape[0], *size)
        else:
            attributes = FullyConnected(clamp)
            shape = (*x.shape[:-1], data.shape[0])
        return self.add(name, attributes, (source, *(t.name for t in constants)), shape)

    def add(self, name: str, attributes, inputs: tuple[str, ...], shape: tuple[int, ...]) -> str:
        self.tensors[name] = Tensor(name, shape, self.dtype, self.q)
        self.ops.append(Op(name, attributes, inputs, name))
        self.last = name
        return name

    def graph(self, *outputs: str) -> Graph:
        outputs = outputs or (self.last,)
        return Graph("net", self.tensors, tuple(self.ops), ("x",), outputs)


def ones(*shape: int) -> Array:
    return np.ones(shape, np.int8)


def shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    return {op.output: graph.tensors[op.output].shape for op in graph.ops}


def checked(graph: Graph) -> Graph:
    smaller = remove_dead_channels(graph)
    for seed in range(3):
        same_bits(graph, smaller, seed)
    return smaller


@pytest.mark.parametrize("quantization", [Q, None])
def test_an_unread_channel_goes_through_pooling_and_flattening(quantization) -> None:
    net = Net((1, 6, 6), quantization)
    net.layer("conv", ones(4, 1, 3, 3), [1, 2, 3, 4])
    net.add("pool", Pool2D(PoolKind.MAX, (2, 2), (2, 2)), ("conv",), (4, 2, 2))
    net.add("flat", Reshape(), ("pool",), (16,))
    weight = ones(3, 16)
    weight[:, 4:12] = 0
    net.layer("fc", weight)
    smaller = checked(net.graph())
    assert shapes(smaller) == {
        "conv": (2, 4, 4), "pool": (2, 2, 2), "flat": (8,), "fc": (3,)
    }  # fmt: skip


def test_a_channel_that_is_read_at_one_place_only_stays_whole() -> None:
    net = Net((1, 4, 4))
    net.layer("conv", ones(2, 1, 1, 1))
    net.add("flat", Reshape(), ("conv",), (32,))
    weight = np.zeros((3, 32), np.int8)
    weight[:, 5] = 1
    net.layer("fc", weight)
    assert shapes(checked(net.graph())) == {"conv": (1, 4, 4), "flat": (16,), "fc": (3,)}


def test_a_constant_channel_goes_into_the_bias() -> None:
    net = Net((3,))
    weight = ones(4, 3)
    weight[1] = 0
    net.layer("hidden", weight, [0, 40, 0, 0])
    net.layer("fc", 2 * ones(2, 4))
    smaller = checked(net.graph())
    assert shapes(smaller)["hidden"] == (3,)
    assert smaller.tensors[smaller.ops[1].inputs[2]].data.tolist() == [20, 20]


def test_a_constant_float_channel_stays_unless_it_is_zero() -> None:
    for bias, left in ((0.0, 3), (-2.0, 3), (0.1, 4)):
        net = Net((3,), None)
        weight = ones(4, 3)
        weight[1] = 0
        net.layer("hidden", weight, [1, bias, 1, 1], clamp=RELU)
        net.layer("fc", ones(2, 4))
        assert shapes(checked(net.graph()))["hidden"] == (left,)


@pytest.mark.parametrize(("bias", "left"), [(0, 1), (40, 2)])
def test_zero_padding_keeps_constants_that_are_not_zero(bias: int, left: int) -> None:
    net = Net((1, 5, 5))
    weight = ones(2, 1, 1, 1)
    weight[0] = 0
    net.layer("first", weight, [bias, 3])
    net.layer("second", ones(2, 2, 3, 3), padding=(1, 1, 1, 1))
    assert shapes(checked(net.graph()))["first"] == (left, 5, 5)


def test_without_padding_every_constant_goes() -> None:
    net = Net((1, 5, 5))
    weight = ones(2, 1, 1, 1)
    weight[0] = 0
    net.layer("first", weight, [40, 3])
    net.layer("second", ones(2, 2, 3, 3))
    assert shapes(checked(net.graph()))["first"] == (1, 5, 5)


def test_a_neuron_that_its_bias_keeps_below_zero_goes() -> None:
    net = Net((3,), Quantization((0.5,), -128))
    net.layer("hidden", ones(2, 3), [-10_000, 5], clamp=RELU)
    net.layer("fc", ones(2, 2))
    assert shapes(checked(net.graph()))["hidden"] == (1,)


def test_a_residual_sum_loses_channels_on_both_sides_or_none() -> None:
    for reads, left in ((ones(2, 4, 1, 1), 4), (ones(2, 4, 1, 1) * [[[[1]], [[0]]] * 2], 2)):
        net = Net((1, 4, 4))
        weight = ones(4, 1, 1, 1)
        net.layer("a", weight)
        dead = weight.copy()
        dead[1] = 0
        net.layer("b", dead, source="x")
        net.add("sum", Binary(BinaryKind.ADD), ("a", "b"), (4, 4, 4))
        net.layer("out", reads)
        small = shapes(checked(net.graph()))
        assert small["a"][0] == small["b"][0] == small["sum"][0] == left


def test_depthwise_channels_go_with_their_input() -> None:
    net = Net((1, 5, 5))
    net.layer("first", ones(4, 1, 1, 1))
    net.layer("depthwise", ones(4, 1, 3, 3), groups=4)
    net.layer("last", ones(2, 4, 1, 1) * np.array([1, 0, 0, 1])[None, :, None, None])
    smaller = checked(net.graph())
    assert shapes(smaller)["first"] == (2, 5, 5)
    assert shapes(smaller)["depthwise"] == (2, 3, 3)
    assert smaller.ops[1].attributes.groups == 2


def test_joined_channels_go_from_where_they_come() -> None:
    net = Net((1, 4, 4))
    net.layer("a", ones(3, 1, 1, 1))
    net.layer("b", ones(2, 1, 1, 1), source="x")
    net.add("both", Concat(0), ("a", "b"), (5, 4, 4))
    net.layer("out", ones(2, 5, 1, 1) * np.array([0, 1, 0, 0, 1])[None, :, None, None])
    small = shapes(checked(net.graph()))
    assert (small["a"][0], small["b"][0], small["both"][0]) == (1, 1, 2)


def test_outputs_keep_their_shape_and_a_dead_layer_one_channel() -> None:
    net = Net((3,))
    net.layer("hidden", np.zeros((5, 3)), [1, 2, 3, 4, 5])
    net.layer("fc", np.zeros((4, 5)), [1, 2, 3, 4])
    small = shapes(checked(net.graph()))
    assert small == {"hidden": (1,), "fc": (4,)}


def test_folding_wraps_at_32_bits() -> None:
    net = Net((2,))
    net.layer("hidden", [[1, 1], [0, 0]], [0, 10_000])
    net.layer("fc", [[3, 127]], [2**31 - 5])
    smaller = checked(net.graph())
    assert smaller.tensors[smaller.ops[1].inputs[2]].data[0] < 0


def test_one_channel_of_many_scales_rounds_as_before() -> None:
    """A single remaining scale would be one per tensor, whose multiplier is a float32 product."""
    rng = np.random.default_rng(0)
    for seed in range(30):
        net = Net((2,), Quantization((float(np.float32(rng.uniform(0.1, 1))),), -3))
        net.layer("hidden", ones(3, 2))
        scales = tuple(float(np.float32(s)) for s in rng.uniform(0.1, 1, 3))
        weight = replace(net.tensors["hidden.w"], quantization=Quantization(scales, 0))
        net.tensors["hidden.w"] = weight
        net.layer("fc", [[1, 0, 0]])
        smaller = remove_dead_channels(net.graph())
        same_bits(net.graph(), smaller, seed)


def test_vww_loses_half_of_its_channels_and_no_bit(data_root) -> None:
    from zeroskip.converters.frontends import tflite

    path = data_root / "models" / "mlperf_tiny_vww_int8.tflite"
    graph, smaller = tflite.load(path), load_graph(path)
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (2, 96, 96, 3)).astype(np.int8)
    expected = reference.run(graph, [x])[0]
    assert np.array_equal(reference.run(smaller, [x])[0], expected)
    blob = container.build(smaller)
    assert np.array_equal(np.asarray(Model(blob).run(x)), expected)
    description = container.describe(blob)
    assert len(blob) < 40_000 and description.macs < 3_800_000
