"""Chains cut into parts: the same outputs from a smaller arena."""

from pathlib import Path

import numpy as np
import pytest
from random_graphs import random_graph, random_inputs

from zeroskip.conversion import build, convert, load_graph
from zeroskip.converters import container, reference
from zeroskip.converters.budget import Budget
from zeroskip.converters.ir import (
    RELU,
    Binary,
    BinaryKind,
    Conv2D,
    Graph,
    Op,
    Pool2D,
    PoolKind,
    Quantization,
    Tensor,
    Unary,
    UnaryKind,
)
from zeroskip.converters.passes import streaming
from zeroskip.converters.passes.padding import pad_inputs
from zeroskip.converters.passes.streaming import OP_BYTES, stream, stream_most
from zeroskip.errors import FitError
from zeroskip.runtime import Model

Q = Quantization((0.0625,), -3)


def network(dtype: str, channels: int, seed: int) -> Graph:
    """x -> conv -> depthwise, stride 2 -> pooling; a residual block whose sum is unary's input."""
    rng = np.random.default_rng(seed)
    q = Q if dtype == "int8" else None
    shapes = {"x": (3, 20, 20), "a": (channels, 20, 20), "b": (channels, 10, 10)}
    shapes |= {n: (channels, 10, 10) for n in "cdef"} | {"g": (channels, 1, 1)}
    tensors = {n: Tensor(n, shape, dtype, q) for n, shape in shapes.items()}

    def weights(name: str, *shape: int) -> tuple[str, str]:
        if dtype == "float32":
            data, bias = rng.normal(size=shape).astype("f4"), rng.normal(size=shape[0]).astype("f4")
            tensors[name] = Tensor(name, shape, dtype, data=data)
            tensors[f"{name} bias"] = Tensor(f"{name} bias", shape[:1], dtype, data=bias)
            return name, f"{name} bias"
        scales = tuple(float(s) for s in rng.uniform(0.001, 0.004, shape[0]).astype("f4"))
        biases = tuple(float(np.float32(s) * np.float32(0.0625)) for s in scales)
        data = rng.integers(-127, 128, shape).astype(np.int8)
        data[rng.random(shape) < 0.5] = 0
        bias = rng.integers(-500, 500, shape[0]).astype(np.int32)
        tensors[name] = Tensor(name, shape, dtype, Quantization(scales, 0), data)
        name_of_bias = f"{name} bias"
        tensors[name_of_bias] = Tensor(
            name_of_bias, shape[:1], "int32", Quantization(biases, 0), bias
        )
        return name, name_of_bias

    same = (1, 1, 1, 1)
    ops = (
        Op("first", Conv2D(padding=same), ("x", *weights("w1", channels, 3, 3, 3)), "a"),
        Op(
            "depthwise",
            Conv2D((2, 2), padding=(0, 1, 0, 1), groups=channels),
            ("a", *weights("w2", channels, 1, 3, 3)),
            "b",
        ),
        Op("conv", Conv2D(padding=same), ("b", *weights("w3", channels, channels, 3, 3)), "c"),
        Op("add", Binary(BinaryKind.ADD), ("c", "b"), "d"),
        Op("relu", Unary(UnaryKind.CLAMP, RELU), ("d",), "e"),
        Op("tanh", Unary(UnaryKind.TANH), ("e",), "f"),
        Op("pool", Pool2D(PoolKind.AVERAGE, (10, 10), (10, 10)), ("f",), "g"),
    )
    return Graph("network", tensors, ops, ("x",), ("g",))


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("channels", [16, 22])
@pytest.mark.parametrize("change", [stream, stream_most])
def test_parts_compute_the_same_in_less_memory(dtype: str, channels: int, change) -> None:
    graph = pad_inputs(network(dtype, channels, channels))
    cut = change(graph)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 3, 20, 20)).astype("f4")
    if dtype == "int8":
        x = rng.integers(-128, 128, x.shape).astype(np.int8)
    expected = reference.run(graph, [x])[0]
    before, after = (container.build(g) for g in (graph, cut))
    assert reference.run(cut, [x])[0].tobytes() == expected.tobytes()
    assert Model(after).run(x).tobytes() == expected.tobytes()
    arenas = [container.describe(b).arena_bytes for b in (before, after)]
    assert arenas[1] <= 0.9 * arenas[0]
    assert len(after) - len(before) <= arenas[0] - arenas[1] + 4 * OP_BYTES


def test_random_graphs_keep_their_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut wherever that does not cost memory, however little it gains."""
    monkeypatch.setattr(streaming, "LEAST_GAIN", 1.0)
    monkeypatch.setattr(streaming, "OP_BYTES", 0)
    changed = 0
    for seed in range(240):
        graph = pad_inputs(random_graph(seed, ("int8", "float32")[seed % 2], 7))
        for change in (stream, stream_most):
            cut = change(graph)
            if cut is not graph:
                x = random_inputs(graph, 2, seed)
                expected = reference.run(graph, [x])[0]
                assert Model(container.build(cut)).run(x).tobytes() == expected.tobytes()
                changed += 1
    assert changed >= 20


def test_a_graph_that_cannot_gain_stays_as_it_is() -> None:
    graph = network("int8", 4, 0)  # channels of a single part
    assert stream(graph) is graph


@pytest.mark.parametrize(("name", "limit"), [("kws", 17_000), ("ic", 46_000)])
def test_arenas_of_stock_models(data_root: Path, name: str, limit: int) -> None:
    path = data_root / "models" / f"mlperf_tiny_{name}_int8.tflite"
    plain, cut = (convert(path, prefer=prefer) for prefer in ("speed", "balanced"))
    assert container.describe(cut).arena_bytes <= limit < container.describe(plain).arena_bytes
    assert "concat" not in {op.op for op in container.describe(cut).ops}
    x = np.random.default_rng(0).integers(-128, 128, (2, *Model(cut).inputs[0].shape))
    x = x.astype(np.int8)
    assert Model(cut).run(x).tobytes() == Model(plain).run(x).tobytes()


def test_a_budget_takes_the_fastest_form_that_fits(data_root: Path) -> None:
    graph = load_graph(data_root / "models" / "mlperf_tiny_ic_int8.tflite")

    def arena(ram: int) -> int:
        budget = Budget(200_000, ram, "cortex-m4", 120_000_000)
        return container.describe(build(graph, budget=budget)).arena_bytes

    assert 50_000 < arena(64_000) <= 64_000
    assert arena(43_000) <= 43_000
    with pytest.raises(FitError, match="RAM"):
        arena(30_000)
