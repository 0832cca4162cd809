"""The memory plan: nothing alive overlaps, and it is small."""

import math
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from zeroskip.conversion import build
from zeroskip.converters import container, reference
from zeroskip.converters.format import HEADER
from zeroskip.converters.frontends import tflite
from zeroskip.converters.ir import (
    RELU,
    Binary,
    BinaryKind,
    Concat,
    FullyConnected,
    Graph,
    Op,
    Pad,
    Quantization,
    Slice,
    Tensor,
    Unary,
    UnaryKind,
)
from zeroskip.converters.passes import memory
from zeroskip.converters.passes.placement import ALIGNMENT, Buffer, place
from zeroskip.errors import FormatError
from zeroskip.runtime import Model

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
    offsets = place(buffers)
    for a in buffers:
        assert offsets[a.name] % ALIGNMENT == 0
        for b in buffers:
            together = a.first <= b.last and b.first <= a.last
            if a.name != b.name and together:
                x, y = offsets[a.name], offsets[b.name]
                assert x + a.size <= y or y + b.size <= x


@pytest.mark.parametrize("seed", range(60))
def test_live_tensors_of_graphs_do_not_overlap(seed: int) -> None:
    graph = random_graph(seed, "int8", 4)
    plan = memory.plan(graph, {op.output: 40 for op in graph.ops if op.kind == "conv2d"})
    last = {n: len(graph.ops) for n in graph.outputs}
    same: dict[str, set[str]] = {}  # tensors that a tensor holds or lies in
    for index, op in enumerate(graph.ops):
        same[op.output] = {op.output}
        if memory.is_view(graph, op) or op.output in plan.joined:
            for name in op.inputs:
                same[op.output] |= same.setdefault(name, {name})
            for name in same[op.output]:
                same[name] = same[op.output]
        for name in op.inputs:
            last[name] = max(last.get(name, 0), index)
    alive = {name: plan.tensors[name] for name in graph.inputs}
    for index, op in enumerate(graph.ops):
        out = graph.tensors[op.output]
        start = plan.tensors[op.output]
        for name, offset in alive.items():
            size = graph.tensors[name].nbytes
            if last.get(name, -1) > index and name not in same[op.output]:
                assert start + out.nbytes <= offset or offset + size <= start, (op, name)
        alive[op.output] = start
        assert start + out.nbytes <= plan.arena_bytes


def test_parts_of_a_whole_are_computed_in_place() -> None:
    shapes = {"x": (8, 4, 4), "a": (4, 4, 4), "b": (4, 4, 4), "c": (4, 4, 4), "d": (4, 4, 4)}
    tensors = {n: Tensor(n, shape, "int8", q()) for n, shape in (shapes | {"y": (8, 4, 4)}).items()}
    tanh = Unary(UnaryKind.TANH)
    ops = (
        Op("low", Slice((0, 0, 0)), ("x",), "a"),
        Op("high", Slice((4, 0, 0)), ("x",), "b"),
        Op("one", tanh, ("a",), "c"),
        Op("two", tanh, ("b",), "d"),
        Op("joined", Concat(0), ("c", "d"), "y"),
    )
    graph = Graph("g", tensors, ops, ("x",), ("y",))
    plan = memory.plan(graph, {})
    assert plan.arena_bytes == 128  # over the input, which nothing reads later
    assert plan.joined == {"y"}
    assert [op.op for op in container.describe(container.build(graph)).ops] == ["table", "table"]
    kept = memory.plan(Graph("g", tensors, ops, ("x",), ("x", "y")), {})
    assert kept.arena_bytes == 256 and kept.joined == {"y"}


def test_parts_may_be_computed_in_another_order_than_they_are_joined() -> None:
    """`early` must not take the second half of z, which is read after it is computed."""
    half = ("x", "view", "early", "late")
    tensors = {n: Tensor(n, (4, 4, 4), "int8", q()) for n in half}
    tensors |= {n: Tensor(n, (8, 4, 4), "int8", q()) for n in ("x2", "z", "sum", "y")}
    tanh = Unary(UnaryKind.TANH)
    ops = (
        Op("z", tanh, ("x2",), "z"),
        Op("view", Slice((0, 0, 0)), ("z",), "view"),
        Op("early", tanh, ("x",), "early"),
        Op("sum", Binary(BinaryKind.ADD), ("z", "z"), "sum"),
        Op("late", tanh, ("view",), "late"),
        Op("joined", Concat(0), ("late", "early"), "y"),
    )
    graph = Graph("g", tensors, ops, ("x", "x2"), ("sum", "y"))
    inputs = [np.arange(n, dtype=np.int8).reshape(1, -1, 4, 4) for n in (64, 128)]
    expected = reference.run(graph, inputs)
    found = Model(container.build(graph)).run(*inputs)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_graph_without_ops_needs_its_inputs() -> None:
    graph = Graph("g", {"x": Tensor("x", (5,), "int8", q())}, (), ("x",), ("x",))
    assert memory.live_bytes(graph, {}) == [8]
    blob = build(graph)
    assert container.describe(blob).arena_bytes == 8
    x = np.arange(5, dtype=np.int8)[None]
    assert np.array_equal(Model(blob).run(x), x)


@pytest.mark.parametrize("shift", [-4, 4])
def test_the_runtime_refuses_a_padded_input_elsewhere_in_its_output(shift: int) -> None:
    """Only an input that ends no earlier than its padded form is read before it is overwritten."""
    shapes = {"x": (3, 9, 9), "y": (3, 11, 11), "z": (3, 11, 11)}
    tensors = {n: Tensor(n, shape, "int8", q()) for n, shape in shapes.items()}
    ops = (
        Op("pad", Pad(((0, 0), (1, 1), (1, 1))), ("x",), "y"),
        Op("tanh", Unary(UnaryKind.TANH), ("y",), "z"),
    )
    blob = bytearray(container.build(Graph("g", tensors, ops, ("x",), ("z",))))
    at = blob.index((120).to_bytes(4, "little") + bytes([0, 3]), HEADER.size)
    blob[at : at + 4] = (120 + shift).to_bytes(4, "little")
    blob[12:16] = (364 + 4).to_bytes(4, "little")  # arena
    blob[-4:] = zlib.crc32(blob[:-4]).to_bytes(4, "little")
    if shift < 0:
        with pytest.raises(FormatError):
            Model(bytes(blob))
    else:
        Model(bytes(blob))


def test_a_part_that_would_keep_much_memory_for_long_is_copied() -> None:
    """U-Net's skip: the whole would live while the widest layers run."""
    sizes = {"x": 16, "skip": 64, "wide": 1000, "narrow": 16, "late": 400, "y": 464}
    tensors = {n: Tensor(n, (size,), "int8", q()) for n, size in sizes.items()}
    weights = {
        f"w {o}": Tensor(
            f"w {o}", (sizes[o], sizes[i]), "int8", q(), np.ones((sizes[o], sizes[i]), np.int8)
        )
        for i, o in (("x", "skip"), ("x", "wide"), ("wide", "narrow"), ("narrow", "late"))
    }
    ops = (
        *(
            Op(o, FullyConnected(), (i, f"w {o}"), o)
            for i, o in (("x", "skip"), ("x", "wide"), ("wide", "narrow"), ("narrow", "late"))
        ),
        Op("joined", Concat(0), ("skip", "late"), "y"),
    )
    plan = memory.plan(Graph("g", tensors | weights, ops, ("x",), ("y",)), {})
    assert plan.joined == frozenset()
    assert plan.arena_bytes <= 64 + 1000 + 16


def test_an_input_that_is_only_padded_lies_at_the_end_of_its_padded_form() -> None:
    tensors = {"x": Tensor("x", (3, 9, 9), "int8", q()), "y": Tensor("y", (3, 11, 11), "int8", q())}
    ops = (Op("pad", Pad(((0, 0), (1, 1), (1, 1))), ("x",), "y"),)
    plan = memory.plan(Graph("g", tensors, ops, ("x",), ("y",)), {})
    assert plan.tensors == {"x": 120, "y": 0}  # the first multiple of 4 from 363 - 243 on
    assert plan.arena_bytes == 364


def q(scale: float = 0.1) -> Quantization:
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
