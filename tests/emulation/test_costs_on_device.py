"""Predicted cycles and decoding speed against emulated runs, on layers not fitted to."""

import sys
from pathlib import Path

import numpy as np
import pytest

from zeroskip.converters import costs
from zeroskip.emulation.layers import board_of

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
TOOLS = pytest.mark.tool("arm-none-eabi-gcc", "qemu-system-arm")


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch):
    """The modules fit_costs and decode of the folder benchmarks/."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import decode
    import fit_costs

    yield fit_costs, decode
    for name in ("decode", "fit_costs"):
        sys.modules.pop(name, None)


@TOOLS
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m0plus"])
def test_the_median_prediction_is_within_ten_percent(benchmarks, core: str) -> None:
    fit_costs, _ = benchmarks
    runs = fit_costs.run_all(fit_costs.random_layers(3, 40), board_of(core))
    found = fit_costs.errors(costs.load(core), runs)
    assert np.median([abs(error) for _, error in found]) <= 0.1


@TOOLS
@pytest.mark.parametrize("centroids", [16, 32, 64, 254])
def test_a_huffman_symbol_takes_at_most_16_cycles_on_an_m4(benchmarks, centroids: int) -> None:
    fit_costs, decode = benchmarks
    weights = fit_costs.sparse_int8((64, 512), 0.5, centroids, 5)
    layers = decode.pair(weights, "bitmask", "huffman", "x")
    run = fit_costs.run_all(layers[:1], board_of("cortex-m4"))[0]
    assert decode.per_symbol(run, 1) <= 16


@TOOLS
def test_a_fit_recovers_costs_and_is_never_negative(benchmarks) -> None:
    fit_costs, _ = benchmarks
    rng = np.random.default_rng(0)
    rows = []
    for a, b, c in rng.integers(1, 1000, (40, 3)):
        rows.append(({"a": float(a), "b": float(b), "c": float(c)}, 3.0 * a + 7 * b + 500))
    found = fit_costs.fit_one([({**counts, "one": 1.0}, cycles) for counts, cycles in rows])
    assert found["a"] == pytest.approx(3, rel=1e-3) and found["b"] == pytest.approx(7, rel=1e-3)
    assert found["one"] == pytest.approx(500, rel=1e-2)
    assert min(found.values()) >= 0
