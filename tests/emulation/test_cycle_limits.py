"""Estimated cycles that kernels must not exceed, watched like sizes."""

import sys
from pathlib import Path

import numpy as np
import pytest

from zeroskip import boards
from zeroskip.bench import SHAPES
from zeroskip.conversion import build, convert
from zeroskip.converters.ir import Conv2D, FullyConnected
from zeroskip.emulation import emulate
from zeroskip.emulation.layers import Layer, activations, board_of, run_all, sparse_int8
from zeroskip.runtime import Model

TOOLS = pytest.mark.tool("arm-none-eabi-gcc", "qemu-system-arm")
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@TOOLS
def test_sparse_layers_on_an_m4() -> None:
    shape = SHAPES[0]
    x = activations(shape.inputs, 1.0, 2)
    limits = {0.8: 1_600_000, 0.9: 900_000, 0.95: 520_000}
    layers = [
        Layer(f"{s}", sparse_int8(shape.weights, s, 200, 1), "gap4", "raw", x, shape.attributes)
        for s in limits
    ]
    columns = sparse_int8((300, 784), 0.92, 200, 1)
    active = activations((784,), 0.35, 3)
    layers.append(Layer("columns", columns, "gap4", "raw", active, FullyConnected(), True))
    for run, limit in zip(
        run_all(layers, board_of("cortex-m4")), (*limits.values(), 150_000), strict=True
    ):
        assert limit / 2 < run.cycles <= limit, run.layer.name


@TOOLS
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m3", "cortex-m0plus"])
def test_zero_rows_make_no_convolution_slow(core: str) -> None:
    """Lists without the taps of zero rows, one for each output row, cost more than they saved: M4
    took 2.6 times the cycles."""
    full = activations((16, 18, 18), 1.0, 2)
    rows = full.copy()
    rows[np.random.default_rng(0).random((16, 18)) < 0.6] = 0
    conv = Conv2D((1, 1), (1, 1), (0, 0, 0, 0))
    layers = []
    for sparsity, codec in ((0.0, "dense"), (0.9, "gap4")):
        weights = sparse_int8((16, 16, 3, 3), sparsity, 200, 1)
        layers += [Layer(codec, weights, codec, "raw", x, conv) for x in (full, rows)]
    runs = run_all(layers, board_of(core))
    for without, with_zeros in zip(runs[::2], runs[1::2], strict=True):
        assert with_zeros.cycles <= 1.05 * without.cycles, with_zeros.layer.name


@TOOLS
@pytest.mark.parametrize(
    ("name", "board", "limit"),
    [
        ("kws", "mps2-an386", 8_960_000),
        ("ic", "mps2-an386", 35_700_000),
        ("vww", "mps2-an386", 12_000_000),
        ("kws", "raspberry-pi-pico", 30_000_000),
        ("vww", "raspberry-pi-pico", 50_000_000),
    ],
)
def test_stock_models(data_root: Path, name: str, board: str, limit: int) -> None:
    blob = convert(data_root / "models" / f"mlperf_tiny_{name}_int8.tflite")
    assert cycles(blob, board) <= limit


@TOOLS
@pytest.mark.parametrize(
    ("board", "limit"), [("mps2-an386", 8_000_000), ("raspberry-pi-pico", 25_000_000)]
)
def test_a_pruned_model(
    data_root: Path, board: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from mlperf_tiny import pruned_ic

    sys.modules.pop("mlperf_tiny")
    graph = pruned_ic(data_root / "models", 0.9)
    assert cycles(build(graph), board) <= limit


@TOOLS
def test_a_dense_autoencoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from mlperf_tiny import ad_shaped

    sys.modules.pop("mlperf_tiny")
    assert cycles(build(ad_shaped(), prefer="speed"), "mps2-an386") <= 715_000


def cycles(blob: bytes, board: str) -> int:
    shape = Model(blob).inputs[0].shape
    result = emulate(blob, boards.load(board), [activations((1, *shape), 1.0, 0)])
    assert result.matches_host and result.cycles is not None
    return result.cycles
