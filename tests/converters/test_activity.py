"""Measured activations: their shares, and what the planner makes of them."""

from dataclasses import replace

import numpy as np
import pytest

from zeroskip.converters import planner
from zeroskip.converters.ir import (
    RELU,
    FullyConnected,
    Graph,
    Op,
    Quantization,
    Tensor,
)
from zeroskip.converters.passes.activity import SAMPLES, measure_activity
from zeroskip.errors import InputError

INPUTS, HIDDEN = 64, 200


@pytest.fixture
def graph() -> Graph:
    """A diagonal layer, so that its ReLU lets through what is positive, and a sparse one."""
    rng = np.random.default_rng(0)
    q = Quantization((1.0,), 0)
    first = np.zeros((HIDDEN, INPUTS), np.int8)
    first[np.arange(HIDDEN), np.arange(HIDDEN) % INPUTS] = 1
    second = rng.integers(-8, 9, (100, HIDDEN)) * (rng.random((100, HIDDEN)) < 0.3)
    tensors = [
        Tensor("x", (INPUTS,), "int8", q),
        Tensor("w", first.shape, "int8", q, first),
        Tensor("h", (HIDDEN,), "int8", Quantization((1.0,), -128)),
        Tensor("v", second.shape, "int8", q, second.astype(np.int8)),
        Tensor("y", (100,), "int8", q),
    ]
    ops = (
        Op("1", FullyConnected(RELU), ("x", "w"), "h"),
        Op("2", FullyConnected(), ("h", "v"), "y"),
    )
    return Graph("g", {t.name: t for t in tensors}, ops, ("x",), ("y",))


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_shares_are_those_of_the_first_samples(graph: Graph, dtype: type) -> None:
    x = np.full((SAMPLES + 4, INPUTS), -3, dtype)
    x[: SAMPLES // 2, :16] = 5
    x[:SAMPLES, 32:] = 0
    x[SAMPLES:] = 7  # not looked at
    measured = measure_activity(graph, x).tensors
    assert measured["x"].active == 0.5
    hidden = (np.arange(HIDDEN) % INPUTS < 16).mean() / 2
    assert measured["h"].active == pytest.approx(hidden)
    assert measured["w"].active is None and graph.tensors["h"].active is None


def test_the_planner_goes_by_columns_where_few_inputs_are_active(graph: Graph) -> None:
    def layout(active: float | None) -> bool:
        tensors = graph.tensors | {"h": replace(graph.tensors["h"], active=active)}
        chosen = planner.choose(replace(graph, tensors=tensors), graph.ops[1], planner.Prefer.SPEED)
        return chosen.encoded.by_columns

    assert layout(0.02) and not layout(1.0)
    assert planner.active_inputs(graph, "h") == planner.ACTIVE_AFTER_RELU


def test_data_that_does_not_fit_is_refused(graph: Graph) -> None:
    with pytest.raises(InputError, match=r"calibration data for input 'x' is float64"):
        measure_activity(graph, np.zeros((3, INPUTS + 1)))
