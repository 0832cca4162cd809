"""The memory plan: nothing alive overlaps, and it is small."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from zeroskip.converters import container
from zeroskip.converters.frontends import tflite
from zeroskip.converters.ir import (
    RELU,
    Binary,
    BinaryKind,
    Graph,
    Op,
    Quantization,
    Tensor,
    Unary,
    UnaryKind,
)
from zeroskip.converters.passes import memory
from zeroskip.converters.passes.memory import Buffer

# TensorFlow Lite Micro's arenas in bytes (measured, see benchmarks/mlperf_tiny.md).
TFLM_ARENA = {"ic": 54_996, "kws": 22_820, "vww": 100_708}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(1, 100), st.integers(0, 12), st.integers(0, 5)),
        min_size=1,
        max_size=25,
    )
)
def test_buffers_alive_together_do_not_overlap(cases: list[tuple[int, int, int]]) -> None:
    buffers = [Buffer(str(i), s, f, f + d) for i, (s, f, d) in enumerate(cases)]
    offsets = memory.place(buffers)
    for a in buffers:
        assert offsets[a.name] % memory.ALIGNMENT == 0
        for b in buffers:
            together = a.first <= b.last and b.first <= a.last
            if a.name != b.name and together:
                x, y = offsets[a.name], offsets[b.name]
                assert x + a.size <= y or y + b.size <= x


@pytest.mark.parametrize("seed", range(40))
def test_live_tensors_of_graphs_do_not_overlap(seed: int) -> None:
    graph = random_graph(seed, "int8", 4)
    plan = memory.plan(graph, {op.output: 40 for op in graph.ops if op.kind == "conv2d"})
    last = {n: len(graph.ops) for n in graph.outputs}
    for index, op in enumerate(graph.ops):
        for name in op.inputs:
            last.setdefault(name, 0)
            last[name] = max(last[name], index)
    alive = {name: plan.tensors[name] for name in graph.inputs}
    for index, op in enumerate(graph.ops):
        out = graph.tensors[op.output]
        start = plan.tensors[op.output]
        for name, offset in alive.items():
            size = graph.tensors[name].nbytes
            if last.get(name, -1) > index and op.kind != "reshape":
                assert start + out.nbytes <= offset or offset + size <= start, (op, name)
        alive[op.output] = start
        assert start + out.nbytes <= plan.arena_bytes


def q(scale: float = 0.1) -> Quantization:
    import numpy as np

    return Quantization((float(np.float32(scale)),), 0)


def test_element_wise_ops_write_over_an_input_nobody_needs() -> None:
    tensors = {n: Tensor(n, (1000,), "int8", q()) for n in "abcd"}
    ops = (
        Op("relu", Unary(UnaryKind.CLAMP, RELU), ("a",), "b"),
        Op("tanh", Unary(UnaryKind.TANH), ("b",), "c"),
        Op("add", Binary(BinaryKind.ADD), ("b", "c"), "d"),
    )
    plan = memory.plan(Graph("g", tensors, ops, ("a",), ("d",)), {})
    assert plan.tensors["a"] == plan.tensors["b"]  # relu in place
    assert plan.tensors["c"] != plan.tensors["b"]  # b is read again
    assert plan.arena_bytes == 2000


def test_an_input_that_is_an_output_is_kept() -> None:
    tensors = {n: Tensor(n, (100,), "int8", q()) for n in "ab"}
    ops = (Op("relu", Unary(UnaryKind.CLAMP, RELU), ("a",), "b"),)
    plan = memory.plan(Graph("g", tensors, ops, ("a",), ("a", "b")), {})
    assert plan.arena_bytes == 200


@pytest.mark.parametrize("model", sorted(TFLM_ARENA))
def test_arena_is_no_larger_than_tflms(model: str, data_root) -> None:
    graph = tflite.load(data_root / "models" / f"mlperf_tiny_{model}_int8.tflite")
    arena = container.describe(container.build(graph)).arena_bytes
    assert arena <= TFLM_ARENA[model]
    largest = max(
        sum(math.prod(graph.tensors[n].shape) for n in {op.inputs[0], op.output})
        for op in graph.ops
    )
    assert arena >= largest
