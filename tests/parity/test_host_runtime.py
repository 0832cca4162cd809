"""The C runtime on the host equals the numpy oracle, bit for bit, on random graphs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph, random_inputs

from zeroskip.converters import container, reference
from zeroskip.converters.ir import Conv2D, FullyConnected, Graph
from zeroskip.converters.planner import Prefer
from zeroskip.errors import ModelError
from zeroskip.runtime import Model


def build(graph: Graph, prefer: Prefer = Prefer.SIZE) -> bytes | None:
    """The container, or None where the random scales cannot be represented."""
    try:
        return container.build(graph, prefer=prefer)
    except ModelError as error:
        assert "scale" in str(error) or "multiplier" in str(error) or "factor" in str(error)
        return None


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["int8", "float32"]), st.integers(1, 4))
def test_random_graphs_give_the_bits_of_the_oracle(seed: int, dtype: str, ops: int) -> None:
    graph = random_graph(seed, dtype, ops)
    x = random_inputs(graph, 2, seed)
    for prefer in Prefer:
        blob = build(graph, prefer)
        if blob is None:
            return
        expected = reference.run(graph, [x])[0]
        assert same_bits(np.asarray(Model(blob).run(x)), expected), (seed, dtype, prefer)


@pytest.mark.parametrize("io", ["uint8", "float32"])
def test_inputs_and_outputs_of_another_dtype(io: str) -> None:
    checked = 0
    for seed in range(80):
        graph = random_graph(seed, "int8", 2, io)
        blob = build(graph)
        if blob is not None:
            x = random_inputs(graph, 2, seed)
            expected = reference.run(graph, [x])[0]
            assert expected.dtype == io
            assert same_bits(np.asarray(Model(blob).run(x)), expected), (seed, io)
            checked += 1
    assert checked >= 40


def test_most_random_graphs_can_be_built() -> None:
    built = sum(build(random_graph(seed, "int8")) is not None for seed in range(100))
    assert built >= 70


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("prefer", list(Prefer))
def test_executed_macs_are_those_of_live_weights_and_live_inputs(
    dtype: str, prefer: Prefer
) -> None:
    """Convolutions skip zero channels and input rows where it pays, matrix products zero inputs;
    int8 matrices of raw weights, stored densely by rows, are multiplied whole."""
    checked = plain = 0
    for seed in range(60):
        graph = random_graph(seed, dtype, 3)
        blob = build(graph, prefer)
        if blob is None:
            continue
        x = random_inputs(graph, 1, seed)
        values = reference.run_all(graph, [x])
        _, macs = Model(blob).run_counted(x)
        weighted = iter(
            [op for op in graph.ops if isinstance(op.attributes, FullyConnected | Conv2D)]
        )
        for stored, executed in zip(container.describe(blob).ops, macs, strict=True):
            if stored.codec is None:
                assert executed == 0
                continue
            op = next(weighted)
            x_of_op = values[op.inputs[0]][0]
            if is_plain(graph, op, stored.codec):
                outputs = graph.tensors[op.inputs[1]].shape[0]
                assert executed == x_of_op.size * outputs
                plain += 1
            else:
                assert executed == expected_macs(graph, op, x_of_op)
            checked += 1
        assert next(weighted, None) is None
    assert checked >= 20
    assert plain == 0 if dtype == "float32" else plain > 0


def is_plain(graph: Graph, op, codec: str | None) -> bool:
    """Whether zs_op_fully_connected.c takes the rows as they are."""
    assert codec is not None
    return (
        isinstance(op.attributes, FullyConnected)
        and codec == "dense+raw"
        and graph.tensors[op.inputs[0]].dtype == "int8"
        and graph.tensors[op.inputs[1]].zero_point == 0
    )


def expected_macs(graph: Graph, op, x: np.ndarray) -> int:
    weight = graph.tensors[op.inputs[1]]
    live_weight = weight.data != weight.zero_point
    live = x != graph.tensors[op.inputs[0]].zero_point
    a = op.attributes
    if isinstance(a, FullyConnected):
        rows = live.reshape(-1, weight.shape[1])
        return int((rows.astype(int) @ live_weight.T.astype(int)).sum())
    out_h, out_w = graph.output_tensor(op).shape[1:]
    kernel_h, kernel_w = weight.shape[2:]
    pointwise = (kernel_h, kernel_w) == (1, 1) and a.stride == (1, 1) and a.padding[::2] == (0, 0)
    row_live = live.reshape(live.shape[0], 1, -1) if pointwise else live
    dtype = graph.tensors[op.inputs[0]].dtype
    row_live = skip_where_it_pays(row_live.any(axis=2), out_h, out_w, pointwise, dtype)
    per_group = weight.shape[0] // a.groups
    total = 0
    for o, c, ky, kx in np.argwhere(live_weight):
        channel = (o // per_group) * weight.shape[1] + c
        xs = np.arange(out_w) * a.stride[1] - a.padding[2] + kx * a.dilation[1]
        ys = np.arange(out_h) * a.stride[0] - a.padding[0] + ky * a.dilation[0]
        ys = ys[(ys >= 0) & (ys < x.shape[1])]
        used = row_live[channel, 0] * len(ys) if pointwise else row_live[channel, ys].sum()
        total += int(used) * int(((xs >= 0) & (xs < x.shape[2])).sum())
    return total


DROP_COST = 6
ROW_LIST_COST = {"int8": 20, "float32": 6}
"""What a tap costs to drop, and to list for each output row, in output pixels (zs_conv_kernel.h):
skipping has to save more."""


def skip_where_it_pays(
    row_live: np.ndarray, out_h: int, out_w: int, pointwise: bool, dtype: str
) -> np.ndarray:
    """Input rows (channel, y) that are not skipped: of those that are zero, all or none."""
    if pointwise:
        out_h, out_w = 1, out_h * out_w
    dead = ~row_live.any(axis=1)
    dead_rows = (~row_live[~dead]).sum()
    if dead_rows * out_w > row_live.size * ROW_LIST_COST[dtype]:
        return row_live
    if dead.sum() * out_h * out_w > len(dead) * DROP_COST:
        return np.repeat(~dead[:, None], row_live.shape[1], axis=1)
    return np.ones_like(row_live)
