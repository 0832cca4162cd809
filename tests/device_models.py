"""Small containers for tests on emulated boards, and containers of reference models."""

from functools import cache
from pathlib import Path

import numpy as np
from random_graphs import random_graph, random_inputs

from zeroskip.converters import container
from zeroskip.converters.frontends import tflite
from zeroskip.converters.ir import Array, Conv2D, FullyConnected, Graph, Op, Tensor
from zeroskip.errors import ModelError


@cache
def small_model(number: int, dtype: str = "int8") -> tuple[bytes, Array, Graph]:
    """The `number`th random graph that can be built and has weights, three inputs for it."""
    for seed in range(10_000):
        graph = random_graph(seed, dtype, 4)
        if not any(isinstance(op.attributes, Conv2D | FullyConnected) for op in graph.ops):
            continue
        try:
            blob = container.build(graph)
        except ModelError:
            continue
        if number == 0:
            return blob, random_inputs(graph, 3, seed), graph
        number -= 1
    raise AssertionError("no such graph")


def wide_container(inputs: int, outputs: int) -> bytes:
    """One float32 layer: about 4 * inputs * outputs bytes of flash, 4 * inputs of RAM."""
    weight = np.random.default_rng(0).normal(size=(outputs, inputs)).astype(np.float32)
    tensors = (
        Tensor("x", (inputs,), "float32"),
        Tensor("w", weight.shape, "float32", None, weight),
        Tensor("y", (outputs,), "float32"),
    )
    op = Op("layer", FullyConnected(), ("x", "w"), "y")
    return container.build(Graph("wide", {t.name: t for t in tensors}, (op,), ("x",), ("y",)))


@cache
def reference_container(data_root: Path, name: str) -> bytes:
    """One of the MLPerf Tiny models as a container."""
    return container.build(tflite.load(data_root / "models" / f"mlperf_tiny_{name}_int8.tflite"))


def random_int8(shape: tuple[int, ...], count: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return rng.integers(-128, 128, (count, *shape)).astype(np.int8)
