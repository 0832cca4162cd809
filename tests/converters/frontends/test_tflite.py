"""What the TFLite front end makes of a model, and what it refuses.

That the result computes the right numbers is tested in tests/parity/test_tflite_reference.py.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tflite")

from tflite_models import Net, TensorSpec, random_inputs, reference_outputs, sparse_tensor

from zeroskip.converters import reference
from zeroskip.converters.frontends import tflite
from zeroskip.converters.ir import Conv2D, Graph, Mean, Quantize
from zeroskip.errors import ModelError, UnsupportedError


def kinds(graph: Graph) -> list[str]:
    return [op.name.rsplit("_", 1)[0] for op in graph.ops]


def refusal(model: bytes) -> str:
    with pytest.raises(UnsupportedError) as caught:
        tflite.load(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the graph --------------------------------------------------------------------------------


def test_a_file_gives_the_graph_its_name(tmp_path: Path) -> None:
    net = Net("int8", 0)
    model = net.build(net.softmax(net.input((1, 4))))
    path = tmp_path / "keywords.tflite"
    path.write_bytes(model)
    assert tflite.load(path).name == "keywords"
    assert tflite.load(path, name="other").name == "other"
    assert tflite.load(model).name == "model"


def test_ops_are_numbered_in_execution_order() -> None:
    net = Net("int8", 0)
    x = net.conv(net.input((1, 4, 4, 2)), 3, (3, 3))
    x = net.conv(x, 0, (3, 3), multiplier=1)
    graph = tflite.load(net.build(net.pool("MAX", x, (2, 2), (2, 2))))
    assert [op.name for op in graph.ops] == [
        "transpose_0", "conv2d_1", "depthwise_2", "max_pool_3", "transpose_4",
    ]  # fmt: skip
    depthwise = graph.ops[2].attributes
    assert isinstance(depthwise, Conv2D) and depthwise.groups == 3
    assert graph.tensors[graph.ops[1].inputs[1]].shape == (3, 2, 3, 3)
    assert graph.tensors[graph.ops[2].inputs[1]].shape == (3, 1, 3, 3)


def test_inputs_and_outputs_keep_the_source_layout() -> None:
    net = Net("int8", 0)
    graph = tflite.load(net.build(net.conv(net.input((1, 4, 5, 2)), 3, (1, 1))))
    assert graph.tensors[graph.inputs[0]].shape == (4, 5, 2)
    assert graph.tensors[graph.outputs[0]].shape == (4, 5, 3)


def test_one_channel_needs_no_transposition() -> None:
    net = Net("int8", 0)
    x = net.conv(net.input((1, 6, 5, 1)), 4, (6, 5), padding="valid")
    graph = tflite.load(net.build(net.dense(net.flatten(x), 3)))
    assert kinds(graph) == ["reshape", "conv2d", "reshape", "fully_connected"]


def test_flattening_for_a_matrix_permutes_its_columns_instead() -> None:
    net = Net("float32", 0)
    x = net.reshape(net.conv(net.input((1, 3, 2, 1)), 4, (1, 1)), (1, 1, 24))
    graph = tflite.load(net.build(net.dense(net.flatten(x), 3)))
    assert "transpose" not in kinds(graph)
    with_transposition = Net("float32", 0)
    x = with_transposition.conv(with_transposition.input((1, 3, 2, 1)), 4, (1, 1))
    x = with_transposition.flatten(x)
    y = with_transposition.dense(x, 3)
    graph = tflite.load(with_transposition.build(x, y))
    assert "transpose" in kinds(graph)


def test_a_matrix_right_behind_a_convolution_flattens_it() -> None:
    net = Net("int8", 0)
    x = net.conv(net.input((1, 3, 2, 1)), 4, (1, 1))
    graph = tflite.load(net.build(net.dense(x, 3)))
    assert kinds(graph) == ["reshape", "conv2d", "reshape", "fully_connected"]


def test_layouts_are_made_once() -> None:
    net = Net("int8", 0)
    x = net.input((1, 4, 5, 2))
    outputs = [net.conv(x, 2, (1, 1)) for _ in range(3)]
    graph = tflite.load(net.build(net.concat([outputs[0]], 3)))
    assert kinds(graph).count("transpose") == 2
    model = net.build(*outputs)
    assert kinds(tflite.load(model)).count("transpose") == 4  # one in, three out


def test_uint8_appears_only_at_the_ends() -> None:
    net = Net("uint8", 0)
    x = net.conv(net.input((1, 4, 4, 1), zero_point=100), 2, (2, 2))
    graph = tflite.load(net.build(net.unary("RELU", x)))
    assert graph.tensors[graph.inputs[0]].dtype == graph.tensors[graph.outputs[0]].dtype == "uint8"
    inside = graph.ops[0].output
    assert isinstance(graph.ops[0].attributes, Quantize)
    quantization = graph.tensors[inside].quantization
    assert quantization is not None and quantization.was_uint8 and quantization.zero_point == -28
    between = [op.output for op in graph.ops[:-1]]
    assert {graph.tensors[name].dtype for name in between} == {"int8"}


def test_integers_that_stay_the_same_are_not_converted() -> None:
    net = Net("uint8", 0)
    x = net.input((1, 9), scale=0.5, zero_point=128)
    y = net.activation((1, 9), 0.5, 0, "int8")
    net.op("QUANTIZE", [x], y)
    graph = tflite.load(net.build(y))
    assert kinds(graph) == ["quantize", "reshape"]
    values = np.arange(9, dtype=np.uint8)[None]
    np.testing.assert_array_equal(reference.run(graph, [values])[0], values.astype(np.int16) - 128)


def test_weights_are_shared_where_the_file_shares_them() -> None:
    net = Net("int8", 0)
    x = net.conv(net.input((1, 4, 4, 2)), 2, (3, 3))
    kind, inputs, _, options = net.file.operators[-1]
    y = net.activation(net.shape(x), 0.1)
    net.file.operator(kind, [x, *inputs[1:]], [y], options)
    graph = tflite.load(net.build(y))
    first, second = (op for op in graph.ops if op.kind == "conv2d")
    assert first.inputs[1:] == second.inputs[1:]


def test_equal_names_become_different() -> None:
    net = Net("int8", 0)
    y = net.softmax(net.conv(net.input((1, 1, 1, 3)), 2, (1, 1)))
    for spec in net.file.tensors:
        spec.name = "same"
    graph = tflite.load(net.build(y))
    assert len(graph.tensors) >= 5 and "same" in graph.tensors


def test_operators_that_only_compute_a_shape_are_left_out() -> None:
    """Keras' Flatten computes its shape with SHAPE, STRIDED_SLICE and PACK."""
    net = Net("int8", 0)
    x = net.conv(net.input((1, 2, 2, 1)), 3, (1, 1))
    shape = net.file.tensor(TensorSpec("shape", (4,), "int32"))
    net.op("SHAPE", [x], shape)
    packed = net.file.tensor(TensorSpec("packed", (2,), "int32"))
    net.op("PACK", [shape], packed)
    flat = net.op("RESHAPE", [x, packed], net.like(x, (1, 12)))
    graph = tflite.load(net.build(net.dense(flat, 2)))
    assert kinds(graph) == ["reshape", "conv2d", "reshape", "fully_connected"]


def test_means_leave_out_the_batch() -> None:
    net = Net("int8", 0)
    x = net.conv(net.input((1, 3, 4, 2)), 5, (1, 1))
    graph = tflite.load(net.build(net.mean(x, (0, 1, 2), False, True)))
    (op,) = (op for op in graph.ops if op.kind == "mean")
    assert isinstance(op.attributes, Mean) and op.attributes.axes == (1, 2)
    assert graph.tensors[op.output].shape == (5,)


# --- constants --------------------------------------------------------------------------------


def float16_model(net: Net, data: np.ndarray) -> int:
    """x * w.T with w stored as float16 behind DEQUANTIZE."""
    x = net.input((1, data.shape[1]))
    half = net.constant(data.astype(np.float16))
    weight = net.file.tensor(TensorSpec("w", data.shape, "float32"))
    net.op("DEQUANTIZE", [half], weight)
    return net.op("FULLY_CONNECTED", [x, weight], net.activation((1, len(data))), {})


def test_half_precision_weights_are_widened() -> None:
    net = Net("float32", 0)
    data = np.random.default_rng(0).normal(size=(3, 7))
    model = net.build(float16_model(net, data))
    x = random_inputs(model, 2, 0)
    graph = tflite.load(model)
    assert kinds(graph) == ["fully_connected"]
    np.testing.assert_allclose(
        reference.run(graph, x)[0], reference_outputs(model, x)[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_quantized_weights_of_float_models_are_widened(channels: int) -> None:
    net = Net("float32", 0)
    x = net.input((1, 7))
    scales = [0.1, 0.2, 0.3][:channels]
    data = np.arange(21, dtype=np.int8).reshape(3, 7)
    stored = net.constant(data, scales=scales, zero_points=[4] * channels, axis=0)
    weight = net.file.tensor(TensorSpec("w", (3, 7), "float32"))
    net.op("DEQUANTIZE", [stored], weight)
    y = net.op("FULLY_CONNECTED", [x, weight], net.activation((1, 3)), {})
    graph = tflite.load(net.build(y))
    found = graph.tensors[graph.ops[0].inputs[1]].data
    expected = np.float32(scales)[:, None] * (data - 4).astype(np.float32)
    np.testing.assert_array_equal(found, np.broadcast_to(expected, (3, 7)))


@pytest.mark.parametrize(
    "encoding",
    [
        {"compressed": (1,)},
        {"compressed": (0, 1), "order": (1, 0)},
        {"compressed": (1,), "blocks": {1: 4}},
        {"compressed": (0,), "blocks": {0: 2, 1: 4}},
        {"compressed": (), "blocks": {1: 8, 0: 3}},
    ],
)
def test_sparse_weights_without_densify(encoding: dict[str, Any]) -> None:
    net = Net("float32", 0)
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(6, 16)) * (rng.random((6, 16)) < 0.2)).astype(np.float32)
    weight = net.file.tensor(
        TensorSpec("w", data.shape, "float32", sparse=sparse_tensor(data, **encoding))
    )
    y = net.op("FULLY_CONNECTED", [net.input((1, 16)), weight], net.activation((1, 6)), {})
    graph = tflite.load(net.build(y))
    np.testing.assert_array_equal(graph.tensors[graph.ops[0].inputs[1]].data, data)


# --- refusals ---------------------------------------------------------------------------------


def test_unknown_operators_are_named_with_their_place() -> None:
    net = Net("float32", 0)
    x = net.conv(net.input((1, 4, 4, 2)), 3, (1, 1))
    y = net.op("COS", [x], net.like(x))
    message = refusal(net.build(y))
    assert f"operator 1 (COS -> 't{y}')" in message and "CONV_2D, DEPTHWISE_CONV_2D" in message


def single(dtype: str, kind: str, shape: tuple[int, ...], output: tuple[int, ...], *extra: Any,
           options: dict[str, Any] | None = None) -> bytes:  # fmt: skip
    net = Net(dtype, 0)
    inputs = [net.input(shape)]
    inputs += [net.constant(e) if isinstance(e, np.ndarray) else e for e in extra]
    return net.build(net.op(kind, inputs, net.like(inputs[0], output), options))


CONV = {"Padding": 1, "StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
FILTER = np.zeros((1, 1, 1, 2), np.float32)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: single("float32", "CONV_2D", (2, 4, 4, 2), (2, 4, 4, 1), FILTER, options=CONV),
            "(1, height, width, channels)",
        ),
        (
            lambda: single("float32", "CONV_2D", (1, 4, 4, 2), (1, 4, 4, 1), FILTER,
                           options=CONV | {"FusedActivationFunction": 4}),
            "fused activation TANH",
        ),
        (
            lambda: single("float32", "CONV_2D", (1, 4, 4, 2), (1, 4, 4, 1),
                           FILTER.astype(np.int8), options=CONV),
            "int8 weights",
        ),
        (
            lambda: single("float32", "FULLY_CONNECTED", (1, 2), (1, 3),
                           np.zeros((3, 2), np.float32), options={"WeightsFormat": 1}),
            "shuffled weights",
        ),
        (
            lambda: single("int8", "SOFTMAX", (1, 4), (1, 4), options={"Beta": 1.0}),
            "scale 1/256",
        ),
        (lambda: single("int8", "DEQUANTIZE", (1, 4), (1, 4)), "to float32"),
        (
            lambda: single("float32", "PAD", (1, 4), (2, 4), np.array([[1, 0], [0, 0]], np.int32)),
            "pads the batch",
        ),
        (
            lambda: single("float32", "MEAN", (1, 4), (4,), np.array([0], np.int32),
                           options={"KeepDims": False}),
            "batch axis only",
        ),
        (
            lambda: single("float32", "TRANSPOSE", (1, 4), (4, 1), np.array([1, 0], np.int32)),
            "moves the batch",
        ),
        (
            lambda: single("float32", "RESHAPE", (1, 4), (1, 2, 2), np.array([4, 1], np.int32)),
            "is not the output's",
        ),
        (lambda: single("float32", "RELU", (4096, 65535), (4096, 65535)), "the limit is"),
    ],
)  # fmt: skip
def test_refusals(model: Any, message: str) -> None:
    found = refusal(model())
    assert message in found
    assert "limit" in found or "operator 0 (" in found


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: single("float32", "RELU", (1, 4), (4,)), "must have one shape"),
        (lambda: single("float32", "RESHAPE", (1, 4), (1, 5)), "differ in size"),
        (
            lambda: single("float32", "CONV_2D", (1, 4, 4, 2), (1, 4, 4, 1), FILTER, options={}),
            "option Stride",
        ),
        (
            lambda: single("float32", "CONV_2D", (1, 4, 4, 2), (1, 3, 4, 1), FILTER, options=CONV),
            "output should be",
        ),
        (
            lambda: single("float32", "CONV_2D", (1, 4, 4, 2), (1, 4, 4, 1),
                           np.full_like(FILTER, np.inf), options=CONV),
            "infinities",
        ),
        (lambda: single("float32", "RELU6", (1, 70000), (1, 70000)), "1 to 65535"),
        (
            lambda: single("float32", "CONCATENATION", (1, 4), (1, 4), options={"Axis": 2}),
            "option Axis is 2",
        ),
        (
            lambda: single("float32", "LEAKY_RELU", (1, 4), (1, 4), options={"Alpha": math.nan}),
            "slope",
        ),
        (
            lambda: single("float32", "MEAN", (1, 4), (1, 2), np.array([1], np.int32)),
            "not the declared output",
        ),
    ],
)  # fmt: skip
def test_contradictions(model: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        tflite.load(model())


def test_int8_parts_of_different_scales_are_not_joined() -> None:
    net = Net("int8", 0)
    x, y = net.input((1, 4), scale=0.1), net.input((1, 4), scale=0.2)
    assert "one quantization throughout" in refusal(net.build(net.concat([x, y], 1)))


def test_int8_convolution_weights_have_no_zero_point() -> None:
    net = Net("int8", 0)
    y = net.conv(net.input((1, 4, 4, 2)), 3, (1, 1), per_channel=False)
    weight = net.file.operators[0][1][1]
    net.file.tensors[weight].zero_points = [3]
    assert "zero point 3" in refusal(net.build(y))


def test_wrong_number_of_weight_scales() -> None:
    net = Net("int8", 0)
    y = net.conv(net.input((1, 4, 4, 2)), 3, (1, 1))
    net.file.tensors[net.file.operators[0][1][1]].scales = [0.1, 0.2]
    net.file.tensors[net.file.operators[0][1][1]].zero_points = [0, 0]
    assert "2 scales" in refusal(net.build(y))


def test_activations_need_a_scale() -> None:
    net = Net("int8", 0)
    x = net.input((1, 4))
    y = net.unary("RELU", x)
    net.file.tensors[x].scales = net.file.tensors[x].zero_points = ()
    assert "0 scales" in refusal(net.build(y))


def test_constant_outputs_are_refused() -> None:
    net = Net("float32", 0)
    net.input((1, 4))
    assert "is a constant" in refusal(net.build(net.operand((1, 4))))


def test_arithmetic_on_constants_only_is_refused() -> None:
    net = Net("float32", 0)
    net.input((1, 4))
    y = net.binary("ADD", net.operand((1, 4)), net.operand((1, 4)))
    assert "both inputs are constants" in refusal(net.build(y))


def test_tensors_are_written_once_and_before_they_are_read() -> None:
    net = Net("float32", 0)
    x = net.input((1, 4))
    y = net.unary("RELU", x)
    net.file.operators *= 2
    with pytest.raises(ModelError, match="written twice"):
        tflite.load(net.build(y))
    net = Net("float32", 0)
    net.input((1, 4))
    with pytest.raises(ModelError, match="nothing has computed"):
        tflite.load(net.build(net.unary("RELU", net.activation((1, 4)))))


def test_many_references_to_one_vector_do_not_multiply_the_work() -> None:
    """Vectors may overlap, so a small file can claim a lot: 3,000 tensors share 64 kB of scales."""
    net = Net("int8", 0)
    net.file.tensors.append(TensorSpec("large", (1,), "int8", [1.0] * 16384, [0]))
    y = net.softmax(net.input((1, 4)))
    for _ in range(3000):
        net.file.tensors.append(TensorSpec("", (1,), "int8", [1.0], [0]))
    # The builder shares nothing; point the vectors of one scale at the large one instead.
    words = np.frombuffer(bytes(net.build(y)), "<u4").copy()
    ones = int(np.float32(1.0).view(np.uint32))
    (large,) = np.flatnonzero((words[:-1] == 16384) & (words[1:] == ones))
    small = np.flatnonzero((words[:-1] == 1) & (words[1:] == ones))
    at = np.arange(words.size)
    referring = (words % 4 == 0) & (words > 0) & np.isin(at + words // 4, small) & (at < large)
    assert referring.sum() >= 3000
    words[referring] = (large - at[referring]) * 4
    with pytest.raises(ModelError, match="more data than its size allows"):
        tflite.load(words.tobytes())
