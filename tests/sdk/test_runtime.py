"""zeroskip.Model: batches, dtypes, threads, errors of the one tree."""

import threading
import time

import numpy as np
import pytest
from random_graphs import random_graph, random_inputs

import zeroskip
from zeroskip.converters import container, reference
from zeroskip.converters.ir import FullyConnected, Graph, Op, Quantization, Tensor
from zeroskip.errors import FormatError, InputError, ZeroSkipError
from zeroskip.runtime import Model


def identity(dtype: str = "int8", outputs: int = 1) -> Graph:
    """y = x for 4 elements; int8 with scale 0.5 and zero point 3."""
    q = Quantization((0.5,), 3) if dtype == "int8" else None
    one = np.eye(4).astype(dtype)
    tensors = [
        Tensor("x", (4,), dtype, q),
        Tensor("w", (4, 4), dtype, Quantization((1.0,), 0) if q else None, one),
        *(Tensor(f"y{i}", (4,), dtype, q) for i in range(outputs)),
    ]
    ops = tuple(Op(f"fc{i}", FullyConnected(), ("x", "w"), f"y{i}") for i in range(outputs))
    return Graph(
        "identity", {t.name: t for t in tensors}, ops, ("x",), tuple(o.output for o in ops)
    )


@pytest.fixture
def model() -> Model:
    return Model(container.build(identity()))


def test_ports(model: Model) -> None:
    (port,) = model.inputs
    assert (port.shape, port.dtype, port.scale, port.zero_point) == ((4,), np.int8, 0.5, 3)
    assert model.outputs == model.inputs
    assert model.op_count == 1 and model.arena_bytes >= 8


def test_integers_are_taken_as_they_are(model: Model) -> None:
    x = np.array([[-128, 0, 3, 127], [1, 2, 3, 4]])
    for dtype in (np.int8, np.int16, np.int64):
        y = model.run(x.astype(dtype))
        assert y.dtype == np.int8 and np.array_equal(y, x)


def test_floats_are_quantised_with_the_inputs_scale(model: Model) -> None:
    x = np.array([0.0, 0.25, -0.25, 1e9])  # 0.25 is half a step: rounds away from 0
    assert np.asarray(model.run(x)).tolist() == [3, 4, 2, 127]
    assert model.run(np.array([np.nan, -np.inf, 62.0, 62.3])).tolist() == [3, -128, 127, 127]
    assert model.outputs[0].dequantize(model.run(x))[1] == 0.5


@pytest.mark.parametrize("seed", range(20))
def test_quantisation_equals_the_runtimes_convert_op(seed: int) -> None:
    """Feeding floats to an int8 model, or to the same model behind a convert op."""
    try:
        inner = Model(container.build(random_graph(seed, "int8", 1, "float32")))
    except zeroskip.ZeroSkipError:
        pytest.skip("the random scales of this seed cannot be represented")
    graph = random_graph(seed, "int8", 1, "float32")
    quantized = graph.tensors[graph.ops[0].output]
    from zeroskip.runtime import Port

    port = Port(quantized.shape, np.dtype(np.int8), quantized.scale, quantized.zero_point)
    x = random_inputs(graph, 3, seed)
    values = reference.run_all(graph, [x])
    assert np.array_equal(port.quantize(x), values[quantized.name])
    assert inner.inputs[0].dtype == np.float32


def test_float32_model() -> None:
    model = Model(container.build(identity("float32")))
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert np.array_equal(model.run(x), x)
    assert np.array_equal(model.run(np.arange(4)), np.arange(4, dtype=np.float32))


def test_a_single_inference_has_no_batch_axis(model: Model) -> None:
    assert np.asarray(model.run(np.zeros(4, np.int8))).shape == (4,)
    assert np.asarray(model.run(np.zeros((1, 4), np.int8))).shape == (1, 4)
    assert np.asarray(model.run(np.zeros((0, 4), np.int8))).shape == (0, 4)


def test_several_outputs() -> None:
    model = Model(container.build(identity(outputs=2)))
    first, second = model.run(np.array([[1, 2, 3, 4]], np.int8))
    assert first.tolist() == second.tolist() == [[1, 2, 3, 4]]


def test_inputs_need_not_be_contiguous(model: Model) -> None:
    x = np.arange(32, dtype=np.int8).reshape(4, 8)[:, ::2]
    assert np.array_equal(model.run(x), x)
    assert np.array_equal(model.run(np.asfortranarray(x)), x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 5), np.int8), r"input 0 has shape \(2, 5\), the model takes \(N, 4\)"),
        (np.zeros((2, 4, 1), np.int8), "shape"),
        (np.zeros((), np.int8), "shape"),
        (np.full((1, 4), 200), "values from 200 to 200, the model takes int8: -128 to 127"),
        (np.zeros((1, 4), complex), "dtype complex128"),
        (np.array([["a"] * 4]), "dtype"),
    ],
)
def test_arrays_that_do_not_fit(model: Model, x: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.run(x)


def test_number_of_inputs(model: Model) -> None:
    with pytest.raises(InputError, match="1 inputs, got 2"):
        model.run(np.zeros(4), np.zeros(4))


def test_files(model: Model, tmp_path) -> None:
    path = tmp_path / "model.zsk"
    path.write_bytes(container.build(identity()))
    assert zeroskip.Model.load(path).run(np.zeros(4, np.int8)).tolist() == [0, 0, 0, 0]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FormatError, match=r"model\.zsk: not a \.zsk container"):
        Model.load(path)
    with pytest.raises(FileNotFoundError):
        Model.load(tmp_path / "missing.zsk")
    assert issubclass(FormatError, ZeroSkipError)


def test_another_major_version_is_named() -> None:
    blob = bytearray(container.build(identity()))
    blob[4] = 2
    with pytest.raises(FormatError, match="version"):
        Model(bytes(blob))


def test_a_model_is_shared_by_threads_and_the_lock_is_released() -> None:
    """Two threads run one model at once while a third keeps counting."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(400, 400)).astype(np.float32)
    tensors = [
        Tensor("x", (400,), "float32"),
        Tensor("w", weight.shape, "float32", None, weight),
        Tensor("y", (400,), "float32"),
    ]
    op = Op("fc", FullyConnected(), ("x", "w"), "y")
    model = Model(container.build(Graph("g", {t.name: t for t in tensors}, (op,), ("x",), ("y",))))
    x = rng.normal(size=(150, 400)).astype(np.float32)
    expected = model.run(x)
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(model.run(x))) for _ in range(2)]
    for thread in threads:
        thread.start()
    turns = 0
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.001)
        turns += 1  # with the lock held there would be a turn before and after a run only
    for thread in threads:
        thread.join()
    assert len(results) == 2 and all(np.array_equal(r, expected) for r in results)
    assert turns >= 10
