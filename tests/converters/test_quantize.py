"""Post-training quantisation: the int8 scheme, its corner cases, and accuracy on digits."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskip.converters import reference
from zeroskip.converters.ir import (
    RELU,
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
    Quantization,
    Reshape,
    Softmax,
    Tensor,
    Transpose,
    Unary,
    UnaryKind,
)
from zeroskip.converters.passes.calibrate import Range
from zeroskip.converters.passes.codebook import codebook_scales
from zeroskip.converters.passes.quantize import PROBABILITY, TANH, affine, quantize, weight_scales
from zeroskip.errors import InputError, ModelError, UnsupportedError

RNG = np.random.default_rng(0)


def graph_of(
    shapes: dict[str, tuple[int, ...]],
    constants: dict[str, Any],
    ops: list[tuple[Any, str, str, tuple[int, ...]]],
    outputs: str,
) -> Graph:
    """Ops as (attributes, "inputs", "output", output shape); names are split at blanks."""
    tensors = {name: Tensor(name, shape, "float32") for name, shape in shapes.items()}
    for name, value in constants.items():
        data = np.asarray(value, np.float32)
        tensors[name] = Tensor(name, data.shape, "float32", data=data)
    steps: list[Op] = []
    for attributes, names, output, shape in ops:
        tensors[output] = Tensor(output, shape, "float32")
        steps.append(Op(f"op-{output}", attributes, tuple(names.split()), output))
    return Graph("net", tensors, tuple(steps), tuple(shapes), tuple(outputs.split()))


def normal(*shape: int, scale: float = 1.0) -> Array:
    return (scale * RNG.normal(size=shape)).astype(np.float32)


def quantization(graph: Graph, name: str) -> Quantization:
    found = graph.tensors[name].quantization
    assert found is not None
    return found


def constant(graph: Graph, name: str) -> Array:
    data = graph.tensors[name].data
    assert data is not None
    return data


def run_real(graph: Graph, *inputs: Array) -> list[Array]:
    """Outputs of an int8 graph in real numbers, for real inputs."""
    integers: list[Array] = []
    for name, x in zip(graph.inputs, inputs, strict=True):
        q = quantization(graph, name)
        integers.append(np.clip(np.rint(x / q.scale[0]) + q.zero_point, -128, 127).astype(np.int8))
    results = reference.run(graph, integers)
    return [
        (y.astype(np.float32) - quantization(graph, n).zero_point) * quantization(graph, n).scale[0]
        for n, y in zip(graph.outputs, results, strict=True)
    ]


def fully_connected(weight: Array, bias: Array | None = None, **attributes: Any) -> Graph:
    constants = {"w": weight} if bias is None else {"w": weight, "b": bias}
    op = (FullyConnected(**attributes), "x " + " ".join(constants), "y", (len(weight),))
    return graph_of({"x": (weight.shape[1],)}, constants, [op], "y")


# --- scales -----------------------------------------------------------------------------------


@given(
    st.floats(-1e6, 0, width=32), st.floats(0, 1e6, width=32),
)  # fmt: skip
def test_activation_ranges_hold_zero_exactly(low: float, high: float) -> None:
    q = affine(Range(low, high))
    assert -128 <= q.zero_point <= 127
    scale = q.scale[0]
    if high - low > 1e-6:
        assert (127 - q.zero_point) * scale >= high - 0.51 * scale
        assert (-128 - q.zero_point) * scale <= low + 0.51 * scale
    if low == 0:
        assert q.zero_point == -128


def test_weights_are_symmetric_and_zeros_stay_zero() -> None:
    weight = normal(6, 40)
    weight[RNG.random(weight.shape) < 0.8] = 0
    x = normal(50, 40)
    for per_channel in (True, False):
        graph = quantize(fully_connected(weight, normal(6)), x, per_channel=per_channel)
        stored = graph.tensors["w"]
        assert stored.dtype == "int8" and stored.zero_point == 0
        assert quantization(graph, "w").per_channel == per_channel
        data = constant(graph, "w")
        assert np.all(data[weight == 0] == 0) and data.min() >= -127
        largest = np.abs(data).max(axis=1)
        assert np.all(largest == 127) if per_channel else largest.max() == 127
        scales = np.array(quantization(graph, "w").scale)[:, None]
        assert np.abs(data * scales - weight).max() <= 0.5001 * scales.max()
        bias = graph.tensors["b"]
        assert bias.dtype == "int32"
        product = np.float32(scales.ravel() * quantization(graph, "x").scale[0])
        np.testing.assert_array_equal(np.float32(quantization(graph, "b").scale), product)


def test_prescribed_output_scales() -> None:
    graph = graph_of({"x": (8,)}, {}, [
        (Softmax(0), "x", "a", (8,)),
        (Unary(UnaryKind.SIGMOID), "x", "b", (8,)),
        (Unary(UnaryKind.TANH), "x", "c", (8,)),
        (Reshape(), "a", "d", (2, 4)),
    ], "b c d")  # fmt: skip
    x = normal(100, 8, scale=3)
    result = quantize(graph, x)
    found = [quantization(result, name) for name in "abcd"]
    assert found == [PROBABILITY, PROBABILITY, TANH, PROBABILITY]
    real = run_real(result, x)
    for expected, y, step in zip(reference.run(graph, [x]), real, (256, 128, 256), strict=True):
        assert np.abs(expected - y).max() < 6 / step


def test_pooling_and_reshaping_keep_the_quantization() -> None:
    graph = graph_of({"x": (3, 4, 4)}, {}, [
        (Pool2D(PoolKind.MAX, (2, 2), (2, 2)), "x", "a", (3, 2, 2)),
        (Pool2D(PoolKind.AVERAGE, (2, 2), (1, 1)), "a", "b", (3, 1, 1)),
        (Transpose((1, 2, 0)), "b", "c", (1, 1, 3)),
        (Pad(((0, 0), (0, 0), (1, 1)), -50.0), "c", "d", (1, 1, 5)),
        (Mean((0, 1)), "d", "e", (5,)),
    ], "e")  # fmt: skip
    x = normal(64, 3, 4, 4)
    result = quantize(graph, x)
    assert len({quantization(result, name) for name in "xabcd"}) == 1
    # What is padded with belongs to the range although no sample holds it.
    q = quantization(result, "d")
    assert (-128 - q.zero_point) * q.scale[0] == pytest.approx(-50, abs=q.scale[0])
    assert quantization(result, "e") != q
    np.testing.assert_allclose(
        run_real(result, x)[0], reference.run(graph, [x])[0], atol=1.6 * q.scale[0]
    )


def test_padding_with_infinity_is_refused() -> None:
    graph = graph_of({"x": (1, 4, 4)}, {}, [
        (Pad(((0, 0), (1, 1), (1, 1)), -np.inf), "x", "a", (1, 6, 6)),
    ], "a")  # fmt: skip
    with pytest.raises(InputError, match="tensor 'a' becomes NaN or infinite"):
        quantize(graph, normal(20, 1, 4, 4))


def test_concat_shares_one_quantization() -> None:
    graph = graph_of({"x": (4,), "y": (2,)}, {}, [
        (Unary(UnaryKind.CLAMP, RELU), "x", "a", (4,)),
        (Concat(0), "a y x", "z", (10,)),
    ], "z")  # fmt: skip
    x, y = normal(50, 4), normal(50, 2, scale=9)
    result = quantize(graph, [x, y])
    assert [op.kind for op in result.ops] == ["unary", "concat"]
    assert len({quantization(result, name) for name in "axyz"}) == 1
    step = quantization(result, "z").scale[0]
    np.testing.assert_allclose(
        run_real(result, x, y)[0], reference.run(graph, [x, y])[0], atol=1.01 * step
    )


def test_concat_rescales_prescribed_inputs() -> None:
    graph = graph_of({"x": (4,)}, {}, [
        (Unary(UnaryKind.SIGMOID), "x", "a", (4,)),
        (Reshape(), "a", "b", (4,)),
        (Concat(0), "b x", "mixed", (8,)),
        (Concat(0), "a b", "alike", (8,)),
    ], "mixed alike")  # fmt: skip
    x = normal(50, 4, scale=4)
    result = quantize(graph, x)
    assert [op.kind for op in result.ops] == ["unary", "reshape", "quantize", "concat", "concat"]
    assert quantization(result, "alike") == PROBABILITY
    assert quantization(result, "mixed") == quantization(result, "x")
    step = quantization(result, "mixed").scale[0]
    np.testing.assert_allclose(
        run_real(result, x)[0], reference.run(graph, [x])[0], atol=1.1 * step
    )


def test_constant_operands() -> None:
    graph = graph_of({"x": (3, 2, 2)}, {"k": [2.5], "m": normal(3, 1, 1), "z": [0.0]}, [
        (Binary(BinaryKind.MUL), "x k", "a", (3, 2, 2)),
        (Binary(BinaryKind.SUB), "m a", "b", (3, 2, 2)),
        (Binary(BinaryKind.ADD), "b z", "c", (3, 2, 2)),
    ], "c")  # fmt: skip
    x = normal(60, 3, 2, 2)
    result = quantize(graph, x)
    expected, found = reference.run(graph, [x])[0], run_real(result, x)[0]
    assert np.abs(expected - found).max() < 4 * quantization(result, "c").scale[0]


# --- clipping ---------------------------------------------------------------------------------


def test_clipping_lowers_the_squared_error_of_outliers() -> None:
    graph = graph_of({"x": (64,)}, {}, [(Reshape(), "x", "y", (8, 8))], "y")
    x = normal(16_000, 64)
    x[5, 7] = 14.0
    errors: dict[str, float] = {}
    for method in ("minmax", "mse"):
        result = quantize(graph, x, method=method)
        errors[method] = float(np.mean((run_real(result, x)[0].reshape(x.shape) - x) ** 2))
    assert errors["mse"] < 0.5 * errors["minmax"]


def test_clipping_leaves_uniform_values_alone() -> None:
    graph = graph_of({"x": (64,)}, {}, [(Unary(UnaryKind.CLAMP, RELU), "x", "y", (64,))], "y")
    x = RNG.uniform(-1, 1, (100, 64)).astype(np.float32)
    full, clipped = (quantize(graph, x, method=m) for m in ("minmax", "mse"))
    for name in "xy":
        ratio = quantization(clipped, name).scale[0] / quantization(full, name).scale[0]
        assert 0.95 < ratio <= 1
    assert quantization(clipped, "y").zero_point == -128


# --- corner cases -----------------------------------------------------------------------------


def test_dead_channels_and_large_biases() -> None:
    weight = normal(5, 10)
    weight[1] = 0  # dead, with a bias
    weight[2] *= 1e-20  # as good as dead: bias / (s_x * s_w) is far over int32
    weight[3] *= 1e-7
    bias = np.float32([0.5, -2.0, 3.0, 1.0, 1e4])
    graph = fully_connected(weight, bias)
    x = normal(100, 10)
    result = quantize(graph, x)
    expected, found = reference.run(graph, [x])[0], run_real(result, x)[0]
    assert np.abs(expected - found).max() <= 1.1 * quantization(result, "y").scale[0]
    sums = np.abs(constant(result, "w").astype(np.int64)).sum(axis=1) * 255
    assert np.all(sums + np.abs(constant(result, "b").astype(np.int64)) < 2**31)


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e-12, 1e12])
def test_extreme_inputs(value: float) -> None:
    graph = graph_of({"x": (2, 3, 3)}, {"w": normal(2, 2, 3, 3), "f": normal(2, 2)}, [
        (Conv2D(padding=(1, 1, 1, 1), clamp=RELU), "x w", "a", (2, 3, 3)),
        (Binary(BinaryKind.ADD), "a x", "b", (2, 3, 3)),
        (Binary(BinaryKind.MUL), "b b", "c", (2, 3, 3)),
        (Mean((1, 2)), "c", "d", (2,)),
        (FullyConnected(), "d f", "e", (2,)),
        (Softmax(0), "e", "y", (2,)),
    ], "y")  # fmt: skip
    x = normal(20, 2, 3, 3) * np.float32(value)
    for method in ("minmax", "mse"):
        assert np.isfinite(run_real(quantize(graph, x, method=method), x)[0]).all()


def test_layer_whose_output_is_always_zero() -> None:
    graph = fully_connected(-np.ones((3, 4), np.float32), np.float32([-1, -1, -1]), clamp=RELU)
    x = np.abs(normal(20, 4))
    result = quantize(graph, x)
    assert not run_real(result, x)[0].any()
    assert quantization(result, "y").zero_point == -128


def test_weights_of_zeros_only() -> None:
    graph = fully_connected(np.zeros((3, 4), np.float32), np.float32([1, -2, 0]))
    result = quantize(graph, normal(20, 4))
    step = quantization(result, "y").scale[0]
    np.testing.assert_allclose(
        run_real(result, normal(2, 4))[0], np.float32([[1, -2, 0]] * 2), atol=step
    )


def test_shared_weights_with_two_biases() -> None:
    graph = graph_of({"x": (4,)}, {"w": normal(4, 4), "b": normal(4)}, [
        (FullyConnected(), "x w b", "a", (4,)),
        (FullyConnected(), "a w b", "y", (4,)),
    ], "y")  # fmt: skip
    x = normal(100, 4)
    result = quantize(graph, x)
    assert result.ops[0].inputs[1] == result.ops[1].inputs[1] == "w"
    assert result.ops[0].inputs[2] != result.ops[1].inputs[2]
    expected = reference.run(graph, [x])[0]
    assert np.abs(run_real(result, x)[0] - expected).max() < 0.05 * np.abs(expected).max()


# --- weight sharing ---------------------------------------------------------------------------


def shared_weights(rows: int, columns: int, centroids: int, sparsity: float) -> Array:
    values = normal(centroids)
    weight = values[RNG.integers(0, centroids, (rows, columns))]
    weight[RNG.random(weight.shape) < sparsity] = 0
    return weight


def distinct(q: Array) -> int:
    return len(np.unique(q))


def test_a_codebook_survives() -> None:
    weight = shared_weights(20, 50, 16, 0.8)
    graph = quantize(fully_connected(weight), normal(20, 50))
    assert not quantization(graph, "w").per_channel
    assert distinct(constant(graph, "w")) <= distinct(weight)


@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_a_codebook_survives_a_folded_batch_norm(sparsity: float) -> None:
    weight = shared_weights(32, 16 * 9, 15, sparsity)
    factors = normal(32)
    factors[5] = 0
    folded = np.float32(weight.astype(np.float64) * factors[:, None])
    graph = quantize(fully_connected(folded, normal(32)), normal(20, 144))
    assert quantization(graph, "w").per_channel
    # A negative factor turns the sign of its channel's centroids.
    assert distinct(constant(graph, "w")) <= 2 * 15 + 1
    scales = np.array(quantization(graph, "w").scale)[:, None]
    error = np.abs(constant(graph, "w") * scales - folded)
    largest = np.abs(weight).max() * np.abs(factors)[:, None]
    assert np.all(error <= 0.51 * largest / 127 + 1e-12)


def test_pruned_weights_alone_are_no_codebook() -> None:
    weight = normal(16, 30)
    weight[:, 1:][RNG.random((16, 29)) < 0.9] = 0
    assert codebook_scales(weight, 127) is None
    assert codebook_scales(normal(16, 30), 127) is None
    assert codebook_scales(np.zeros((3, 4), np.float32), 127) is None
    assert len(np.unique(weight_scales(weight, per_channel=True))) == 16


# --- interfaces -------------------------------------------------------------------------------


def test_float_inputs_and_outputs() -> None:
    graph = fully_connected(normal(3, 8), normal(3))
    x = normal(30, 8)
    integer, real = quantize(graph, x), quantize(graph, x, float_io=True)
    assert [op.kind for op in real.ops] == ["quantize", "fully_connected", "quantize"]
    assert real.inputs == ("x",) and real.outputs == ("y",)
    assert real.tensors["x"].dtype == real.tensors["y"].dtype == "float32"
    np.testing.assert_allclose(
        reference.run(real, [x])[0], run_real(integer, x)[0], atol=1e-6, rtol=1e-6
    )


def test_quantisation_is_deterministic() -> None:
    weight, x = normal(3, 8), normal(30, 8)
    a, b = (quantize(fully_connected(weight), x, method="mse") for _ in range(2))
    assert a.tensors == b.tensors and a.ops == b.ops
    assert np.array_equal(constant(a, "w"), constant(b, "w"))


def test_bad_arguments() -> None:
    graph = fully_connected(normal(3, 8))
    x = normal(10, 8)
    for data, message in [
        (normal(10, 7), r"shape \(10, 7\); it must be numbers of shape \(N, 8\)"),
        (normal(8), "N >= 1"),
        (x[:0], "N >= 1"),
        ([x, x], "has 1 inputs, the calibration data has 2"),
        (np.full((2, 8), np.nan, np.float32), "NaN"),
        (np.array([["a"] * 8]), "must be numbers"),
    ]:
        with pytest.raises(InputError, match=message):
            quantize(graph, data)
    with pytest.raises(InputError, match=r"'entropy' must be one of minmax, mse"):
        quantize(graph, x, method="entropy")
    with pytest.raises(UnsupportedError, match="only float32 models"):
        quantize(quantize(graph, x), x)
    with pytest.raises(ModelError, match="constant 'w' holds NaN"):
        quantize(fully_connected(np.full((3, 8), np.nan, np.float32)), x)
    two = graph_of({"x": (2,), "y": (2,)}, {}, [(Binary(BinaryKind.ADD), "x y", "z", (2,))], "z")
    with pytest.raises(InputError, match=r"differ in their number of samples: \[3, 4\]"):
        quantize(two, [normal(3, 2), normal(4, 2)])
    overflow = fully_connected(np.full((1, 8), 3e38, np.float32))
    with pytest.raises(InputError, match="tensor 'y' becomes NaN or infinite"):
        quantize(overflow, np.full((2, 8), 3e38, np.float32))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["minmax", "mse"]), st.booleans())
def test_random_networks_stay_close_to_float(seed: int, method: str, per_channel: bool) -> None:
    rng = np.random.default_rng(seed)
    channels, filters = (int(v) for v in rng.integers(1, 6, 2))

    def random(*shape: int) -> Array:
        fan_in = max(int(np.prod(shape[1:])), 1)
        return np.float32(rng.normal(size=shape) / np.sqrt(fan_in) * rng.uniform(0.1, 3))

    shape = (filters, 6, 6)
    graph = graph_of(
        {"x": (channels, 6, 6)},
        {"w": random(filters, channels, 3, 3), "b": random(filters), "d": random(filters, 1, 3, 3),
         "f": random(7, filters)},
        [
            (Conv2D(padding=(1, 1, 1, 1), clamp=RELU), "x w b", "a", shape),
            (Conv2D(padding=(1, 1, 1, 1), groups=filters), "a d", "e", shape),
            (Unary(UnaryKind.HARDSWISH), "e", "h", shape),
            (Binary(BinaryKind(rng.choice(["add", "sub"]))), "a h", "s", shape),
            (Mean((1, 2)), "s", "m", (filters,)),
            (FullyConnected(), "m f", "y", (7,)),
        ], "y",
    )  # fmt: skip
    x = np.float32(rng.normal(size=(64, channels, 6, 6)) * rng.uniform(0.01, 100))
    expected = reference.run(graph, [x])[0]
    found = run_real(quantize(graph, x, method=method, per_channel=per_channel), x)[0]
    noise = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
    assert noise < 0.08


@pytest.mark.tool("sklearn")
def test_digits_stay_within_one_point_of_float() -> None:
    """Section 6, line 5 of the first issue: residual sum, depthwise and strided convolutions."""
    torch = pytest.importorskip("torch")
    datasets = pytest.importorskip("sklearn.datasets")
    from zeroskip.converters.frontends import pytorch
    from zeroskip.models import SmallResNet

    digits = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = np.float32(digits.images[order, None] / 16)
    labels = digits.target[order].astype(np.int64)
    train, test = slice(0, 1200), slice(1200, None)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # layers this small only lose by sharing
    model = SmallResNet(8, width=12)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    x, y = torch.from_numpy(images[train]), torch.from_numpy(labels[train])
    for _ in range(8):
        model.train()
        shuffled = torch.randperm(len(x))
        for start in range(0, len(x), 64):
            rows = shuffled[start : start + 64]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        scores = model(torch.from_numpy(images[test])).numpy()

    def accuracy(result: Array) -> float:
        return float(np.mean(result.argmax(axis=1) == labels[test]))

    graph = pytorch.load(model, images[:1])
    found = reference.run(graph, [images[test]])[0]
    assert np.abs(found - scores).max() < 1e-5 * np.abs(scores).max()
    assert accuracy(scores) > 0.95
    for method in ("minmax", "mse"):
        int8 = quantize(graph, images[:200], method=method)
        assert accuracy(run_real(int8, images[test])[0]) >= accuracy(scores) - 0.01
