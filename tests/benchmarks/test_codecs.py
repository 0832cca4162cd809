"""The codec benchmark: its draws are what it says, and codecs stay near the entropy bound."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "codecs.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("benchmark_codecs", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("per_tail", [False, True])
def test_lenet_layers_come_near_the_bound(bench: Any, per_tail: bool) -> None:
    results = list(bench.run(bench.LENET, lambda a, rng: bench.shared(a, rng, per_tail)))
    for kind, of_streams, of_all in (("Huffman", 1.03, 1.02), ("best", 1.01, 1.011)):
        assert sum(r.total[kind] for r in results) <= of_all * sum(r.bound for r in results)
        for r in results[:2]:
            assert r.stream[kind] <= of_streams * r.bound, (r.layer, kind)
    assert results[0].elements == pytest.approx(0.08 * 784 * 300, rel=0.01)


def test_a_convolution_of_vgg_has_the_published_entropy(bench: Any) -> None:
    (layer,) = (a for a in bench.VGG if a.name == "conv3_2")
    matrix = bench.with_entropy(layer, np.random.default_rng(0))
    counts = np.unique(matrix[matrix != 0], return_counts=True)[1]
    assert bench.entropy_bits(counts) / counts.sum() == pytest.approx(layer.entropy, abs=0.1)
    assert counts.size <= 256 and counts.sum() == pytest.approx(matrix.size * 0.24, rel=0.01)
    result = bench.measure(layer, matrix)
    assert result.stream["Huffman"] <= 1.10 * result.bound
    assert result.stream["best"] <= 1.005 * result.bound


def test_the_committed_table_is_that_of_the_script(bench: Any) -> None:
    text = bench.TABLE.read_text(encoding="utf-8")
    for layer in (*bench.LENET, *bench.VGG):
        assert f"| {layer.name} | {layer.rows * layer.cols:,} |" in text
