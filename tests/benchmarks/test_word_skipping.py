"""The benchmark of word skipping: its prototype fits the kernels, its counts are what it says."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeroskip import boards
from zeroskip.emulation.layers import Layer, sparse_int8, timing_of

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "word_skipping.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("benchmark_word_skipping", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_zero_pairs_are_those_of_a_plain_count(bench: Any) -> None:
    rng = np.random.default_rng(0)
    zero = rng.random((2, 3, 6, 9)) < 0.8
    weights = sparse_int8((4, 3, 3, 3), 0.5, 20, 1)
    both, pairs = 0, 0
    for row in weights.reshape(4, -1):
        taps = [np.unravel_index(i, (3, 3, 3)) for i in np.flatnonzero(row)]
        taps += taps[-1:] if len(taps) % 2 else []
        for a, b in zip(taps[::2], taps[1::2], strict=True):
            for n, y, x in np.ndindex(2, 4, 2):
                x = (0, 3)[x]  # 7 pixels: the second tile overlaps the first
                words = [zero[n, c, y + ky, x + kx : x + kx + 4].all() for c, ky, kx in (a, b)]
                both += all(words)
                pairs += 1
    assert 0 < both < pairs
    assert bench.zero_pairs(zero, weights)[1] == pytest.approx(both / pairs)


def test_arithmetic_is_that_of_the_core(bench: Any) -> None:
    lists, two = bench.KERNELS
    timing = timing_of(boards.load("mps2-an386"))
    assert lists.cycles(timing) == (16, 20, 11)
    assert two.cycles(timing) == (24, 28, 11)
    assert two.break_even(timing) == pytest.approx(4 / 17)


@pytest.mark.tool("arm-none-eabi-gcc", "qemu-system-arm")
def test_the_prototype_skips_and_gives_the_same_outputs(bench: Any) -> None:
    """`emulated` raises if outputs are not the host's."""
    layers = []
    for density in (1.0, 0.05):
        rng = np.random.default_rng(1)
        x = np.where(rng.random((8, 10, 12)) < density, rng.integers(1, 99, (8, 10, 12)), 0)
        for sparsity, positions in ((0.0, "dense"), (0.8, "gap4")):
            weights = sparse_int8((6, 8, 3, 3), sparsity, 50, 2)
            layers.append(Layer("", weights, positions, "raw", x.astype(np.int8), bench.PLAIN))
    full_dense, full_sparse, few_dense, few_sparse = bench.emulated(layers)
    for before, after in (full_dense, full_sparse):
        assert 1.05 * before < after < 1.3 * before
    for before, after in (few_dense, few_sparse):
        assert after < before


def test_a_kernel_that_has_changed_is_an_error(bench: Any) -> None:
    text = (ROOT / "runtime_c" / bench.HEADER).read_text()
    assert bench.prototype(text) != text
    with pytest.raises(ValueError, match="is there 0 times"):
        bench.prototype(text.replace("smlad r7, r11, r9, r7", "nop"))
