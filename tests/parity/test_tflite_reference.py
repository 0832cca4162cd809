"""Every engine gives what TensorFlow Lite's reference kernels give, on generated models.

int8 and uint8: every element equal. float32: within rounding, since sums are taken in another
order. An engine is a function of a graph and its inputs; add one to ENGINES to have it tested.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tflite")
pytest.importorskip("tflite_runtime")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tflite_models import RANGES, Net, random_inputs, reference_outputs

from zeroskip.converters import container, reference
from zeroskip.converters.frontends import tflite
from zeroskip.converters.ir import Graph
from zeroskip.runtime import Model

Array = np.ndarray[Any, Any]
Engine = Callable[[Graph, Sequence[Array]], Sequence[Array]]
Draw = Callable[[st.SearchStrategy[Any]], Any]


def host_runtime(graph: Graph, inputs: Sequence[Array]) -> Sequence[Array]:
    outputs = Model(container.build(graph)).run(*inputs)
    return [outputs] if isinstance(outputs, np.ndarray) else outputs


ENGINES: dict[str, Engine] = {"oracle": reference.run, "host runtime": host_runtime}
INTEGERS = ("int8", "uint8")
DTYPES = (*INTEGERS, "float32")
EXAMPLES = 12
FEWEST = 6  # distinct models that must really have been compared, per case and dtype
SAMPLES = 3


def assert_equal(model: bytes, inputs: Sequence[Array], expected: Sequence[Array]) -> None:
    graph = tflite.load(model)
    for name, engine in ENGINES.items():
        outputs = engine(graph, inputs)
        assert len(outputs) == len(expected), name
        for got, want in zip(outputs, expected, strict=True):
            assert got.dtype == want.dtype and got.size == want.size, name
            flat = want.reshape(got.shape)
            if got.dtype == np.float32:
                largest = float(np.abs(flat).max(initial=1.0))
                np.testing.assert_allclose(got, flat, rtol=1e-5, atol=1e-5 * largest, err_msg=name)
            else:
                np.testing.assert_array_equal(got, flat, err_msg=name)


# --- cases: each draws a model ----------------------------------------------------------------


def draw_net(draw: Draw, dtype: str) -> Net:
    return Net(dtype, draw(st.integers(0, 2**32 - 1)))


def draw_input(draw: Draw, net: Net, shape: Sequence[int]) -> int:
    if net.dtype == "float32":
        return net.input(shape)
    low, high = RANGES[net.dtype]
    zero_point = draw(st.one_of(st.sampled_from([low, high, low + 128]), st.integers(low, high)))
    return net.input(shape, scale=draw(st.floats(0.004, 0.3)), zero_point=zero_point)


def draw_image(draw: Draw, net: Net, channels: int = 0) -> int:
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return draw_input(draw, net, (1, height, width, channels or draw(st.integers(1, 7))))


def draw_activation(draw: Draw) -> str:
    return str(draw(st.sampled_from(["none", "relu", "relu6", "relu_n1_to_1"])))


def draw_sparsity(draw: Draw) -> float:
    return float(draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])))


def draw_pair(draw: Draw, high: int) -> tuple[int, int]:
    return draw(st.integers(1, high)), draw(st.integers(1, high))


def draw_geometry(draw: Draw, net: Net, x: int, dilated: bool = True) -> dict[str, Any]:
    kernel, stride = draw_pair(draw, 3), draw_pair(draw, 3)
    # TFLite wants no stride with dilation in places; both occur separately.
    dilation = draw_pair(draw, 2) if dilated and stride == (1, 1) else (1, 1)
    size = net.shape(x)[1:3]
    fits = all((k - 1) * d < n for k, d, n in zip(kernel, dilation, size, strict=True))
    padding = draw(st.sampled_from(["same", "valid"])) if fits else "same"
    geometry = {"kernel": kernel, "stride": stride, "padding": padding}
    return geometry | ({"dilation": dilation} if dilated else {})


def draw_convolution(draw: Draw, net: Net, x: int, **fixed: Any) -> int:
    arguments = {
        "filters": draw(st.integers(1, 8)),
        "activation": draw_activation(draw),
        "sparsity": draw_sparsity(draw),
        "per_channel": draw(st.booleans()),
        # TFLite insists on a bias for CONV_2D.
        "bias": draw(st.booleans()) if "multiplier" in fixed else True,
    }
    return net.conv(x, **(arguments | draw_geometry(draw, net, x) | fixed))


def conv(draw: Draw, net: Net) -> int:
    return draw_convolution(draw, net, draw_image(draw, net))


def grouped_conv(draw: Draw, net: Net) -> int:
    groups = draw(st.integers(2, 3))
    x = draw_image(draw, net, groups * draw(st.integers(1, 3)))
    filters = groups * draw(st.integers(1, 3))
    return draw_convolution(draw, net, x, groups=groups, filters=filters)


def depthwise(draw: Draw, net: Net) -> int:
    return draw_convolution(draw, net, draw_image(draw, net), multiplier=draw(st.integers(1, 3)))


def sparse_conv(draw: Draw, net: Net) -> int:
    """Weights in TFLite's sparse encoding, behind DENSIFY."""
    if net.dtype == "uint8":  # which DENSIFY does not take
        net.dtype = "int8"
    channels, filters = 2 * draw(st.integers(1, 3)), 4 * draw(st.integers(1, 2))
    blocks = draw(st.sampled_from([{}, {3: 2}, {0: 4}, {0: 2, 3: 2}]))
    compressed = draw(st.sampled_from([(3,), (0, 3), (1, 2), (0, 1, 2, 3)]))
    order = draw(st.permutations(range(4)))
    sparse = {"compressed": compressed, "blocks": blocks, "order": order}
    sparsity = draw(st.sampled_from([0.5, 0.9]))
    x = draw_image(draw, net, channels)
    return draw_convolution(draw, net, x, filters=filters, sparsity=sparsity, sparse=sparse)


def fully_connected(draw: Draw, net: Net) -> int:
    shape = draw(st.sampled_from([(1, 23), (4, 9), (1, 3, 5), (1, 2, 3, 4), (1, 1, 1, 16)]))
    x = draw_input(draw, net, shape)
    width = draw(st.sampled_from([0, shape[-1]]))
    keep_dims = draw(st.booleans()) if width else False
    return net.dense(
        x, draw(st.integers(1, 12)), width=width or (9 if shape == (4, 9) else 0),
        activation=draw_activation(draw), sparsity=draw_sparsity(draw),
        bias=draw(st.booleans()), keep_dims=keep_dims,
    )  # fmt: skip


def arithmetic(draw: Draw, net: Net) -> int:
    kind = draw(st.sampled_from(["ADD", "SUB", "MUL"]))
    x = draw_image(draw, net)
    shape = net.shape(x)
    other = draw(
        st.sampled_from([shape, shape[3:], (1, *shape[1:3], 1), (1, 1, 1, shape[3]), (1,)])
    )
    y = draw_input(draw, net, other) if draw(st.booleans()) else net.operand(other)
    pair = [x, y] if draw(st.booleans()) else [y, x]
    return net.binary(kind, *pair, draw_activation(draw))


def average_pool(draw: Draw, net: Net) -> int:
    x = draw_image(draw, net)
    geometry = draw_geometry(draw, net, x, dilated=False)
    return net.pool("AVERAGE", x, **geometry, activation=draw_activation(draw))


def max_pool(draw: Draw, net: Net) -> int:
    x = draw_image(draw, net)
    geometry = draw_geometry(draw, net, x, dilated=False)
    return net.pool("MAX", x, **geometry, activation=draw_activation(draw))


def mean(draw: Draw, net: Net) -> int:
    axes = draw(st.sampled_from([(1, 2), (2, 1), (-3, -2), (3,), (1,), (1, 3), (0, 1, 2, 3)]))
    x = draw_image(draw, net)
    return net.mean(x, axes, keep_dims=draw(st.booleans()), same_scale=draw(st.booleans()))


def pad(draw: Draw, net: Net) -> int:
    pairs = [(0, 0)] + [tuple(draw(st.integers(0, 3)) for _ in range(2)) for _ in range(3)]
    return net.pad(draw_image(draw, net), pairs, value=draw(st.booleans()))


def softmax(draw: Draw, net: Net) -> int:
    shape = draw(st.sampled_from([(1, 2), (1, 50), (3, 7), (1, 3, 5), (1, 2, 3, 9), (1, 300)]))
    return net.softmax(draw_input(draw, net, shape), draw(st.sampled_from([0.5, 1.0, 2.0])))


def unary(draw: Draw, net: Net) -> int:
    kinds = ["LOGISTIC", "TANH", "RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU"]
    # Enough elements that nearly every one of 256 inputs occurs.
    x = draw_input(draw, net, (1, 5, 100, 2))
    return net.unary(draw(st.sampled_from(kinds)), x, alpha=draw(st.floats(0.01, 0.9)))


def rescaling(draw: Draw, net: Net) -> int:
    x = draw_input(draw, net, (1, 5, 100, 2))
    dtype = draw(st.sampled_from(DTYPES if net.dtype != "float32" else INTEGERS))
    y = net.quantize(x, dtype)
    return net.quantize(y, net.dtype) if draw(st.booleans()) and dtype != net.dtype else y


def concat(draw: Draw, net: Net) -> int:
    first = draw_image(draw, net)
    axis = draw(st.sampled_from([1, 2, 3, -1]))
    parts = [first]
    for _ in range(draw(st.integers(0, 2))):
        shape = list(net.shape(first))
        shape[axis] = draw(st.integers(1, 4))
        # TFLite rescales the parts of uint8 models only.
        part = draw_input(draw, net, shape) if net.dtype == "uint8" else net.like(first, shape)
        if net.dtype != "uint8":
            net.inputs.append(part)
        parts.append(part)
    return net.concat(parts, axis)


def rearrangement(draw: Draw, net: Net) -> int:
    """Reshapes and transpositions between spatial operators, where layouts change."""
    x = net.conv(draw_input(draw, net, (1, 4, 6, 2)), 3, (2, 2))
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            shapes = [(1, 6, 4, 3), (1, 72), (1, 1, 1, 72), (1, 2, 36), (1, 72, 1, 1), (1, 8, 9)]
            x = net.reshape(x, draw(st.sampled_from(shapes)))
        else:
            rank = len(net.shape(x))
            x = net.transpose(x, (0, *draw(st.permutations(range(1, rank)))))
    if len(net.shape(x)) == 4:
        x = net.conv(x, 2, (1, 1))
    return x


def residual_network(draw: Draw, net: Net) -> int:
    x = net.conv(draw_image(draw, net, 3), 4, (3, 3), activation="relu", sparsity=0.5)
    y = draw_convolution(draw, net, x, filters=4, stride=(1, 1), padding="same")
    y = net.conv(y, 4, (1, 1), sparsity=draw_sparsity(draw))
    x = net.binary("ADD", x, y, draw_activation(draw))
    x = net.mean(x, (1, 2), draw(st.booleans()), draw(st.booleans()))
    return net.softmax(net.dense(x, 5))


def separable_network(draw: Draw, net: Net) -> int:
    x = net.pad(draw_image(draw, net, 2), ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = net.conv(x, 6, (3, 3), padding="valid", activation="relu6", sparsity=0.8)
    x = net.conv(x, 0, (3, 3), multiplier=1, stride=draw_pair(draw, 2), activation="relu")
    x = net.conv(x, 5, (1, 1), sparsity=draw_sparsity(draw))
    x = net.pool(draw(st.sampled_from(["AVERAGE", "MAX"])), x, (1, 1), (2, 2))
    x = net.dense(net.flatten(x), 7, activation="relu", sparsity=draw_sparsity(draw))
    return net.unary("LOGISTIC", net.dense(x, 3))


def branching_network(draw: Draw, net: Net) -> int:
    x = draw_image(draw, net, 4)
    if net.dtype == "uint8":
        left, right = net.conv(x, 3, (1, 1)), net.conv(x, 2, (3, 3), sparsity=0.9)
    else:
        left, right = net.pool("MAX", x, (3, 3), (1, 1), "same"), x
    x = net.concat([left, right], 3)
    return net.dense(net.flatten(x), 4, sparsity=draw_sparsity(draw))


CASES: dict[str, Callable[[Draw, Net], int]] = {
    case.__name__: case
    for case in (
        conv, grouped_conv, depthwise, sparse_conv, fully_connected, arithmetic, average_pool,
        max_pool, mean, pad, softmax, unary, rescaling, concat, rearrangement, residual_network,
        separable_network, branching_network,
    )
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_generated_models(case: str, dtype: str) -> None:
    compared = set()

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def check(data: st.DataObject) -> None:
        net = draw_net(data.draw, dtype)
        model = net.build(CASES[case](data.draw, net))
        inputs = random_inputs(model, SAMPLES, len(compared))
        try:
            expected = reference_outputs(model, inputs)
        except (RuntimeError, ValueError):
            return  # TFLite refuses it
        assert_equal(model, inputs, expected)
        compared.add(model)

    check()
    assert len(compared) >= FEWEST


def test_enough_integer_models_are_compared() -> None:
    assert len(CASES) * len(INTEGERS) * FEWEST >= 200


@pytest.mark.parametrize("name", ["kws_int8", "ic_int8", "vww_int8", "ic_float32"])
def test_benchmark_models(data_root: Path, name: str) -> None:
    model = (data_root / "models" / f"mlperf_tiny_{name}.tflite").read_bytes()
    inputs = random_inputs(model, 8, seed=1)
    assert_equal(model, inputs, reference_outputs(model, inputs))


@pytest.mark.parametrize("engine", ENGINES)
def test_keyword_spotting_accuracy(data_root: Path, engine: str) -> None:
    """The stock model recognises the same 901 of 1,000 inputs as under TFLite."""
    data = np.load(data_root / "data" / "kws01.npz")
    graph = tflite.load((data_root / "models" / "mlperf_tiny_kws_int8.tflite").read_bytes())
    scores = ENGINES[engine](graph, [data["x"]])[0]
    assert int((scores.argmax(axis=-1) == data["y"]).sum()) == 901
