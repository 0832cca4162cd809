"""Fitted costs: complete, not negative, and near what the emulator says."""

import re
from pathlib import Path

import numpy as np
import pytest

from zeroskip import boards
from zeroskip.converters import budget, codecs, conv_counts, costs
from zeroskip.converters.ir import Conv2D, FullyConnected, Graph, Op, Quantization, Tensor
from zeroskip.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def layer(kind: str) -> tuple[Graph, Op]:
    rng = np.random.default_rng(0)
    shape = {"conv": (8, 6, 3, 3), "fc": (20, 60)}[kind]
    data = (rng.integers(-9, 10, shape) * (rng.random(shape) < 0.4)).astype(np.int8)
    q = Quantization((0.5,), 0)
    x, y = {"conv": ((6, 9, 9), (8, 9, 9)), "fc": ((60,), (20,))}[kind]
    attributes = Conv2D((1, 1), (1, 1), (1, 1, 1, 1)) if kind == "conv" else FullyConnected()
    tensors = (Tensor("x", x, "int8", q), Tensor("w", shape, "int8", q, data))
    both = {t.name: t for t in (*tensors, Tensor("y", y, "int8", q))}
    op = Op("layer", attributes, ("x", "w"), "y")
    return Graph("g", both, (op,), ("x",), ("y",)), op


@pytest.mark.parametrize("core", boards.core_names())
@pytest.mark.parametrize("kind", ["conv", "fc"])
def test_every_core_and_codec_has_costs(core: str, kind: str) -> None:
    fitted = costs.load(core)
    assert "estimated" in fitted.provenance
    assert (core in fitted.provenance.split(",")[-1]) == (core != fitted.fitted_core) or (
        core == fitted.fitted_core
    )
    names = {f"position {n}" for n in codecs.POSITIONS} | {f"value {n}" for n in codecs.VALUES}
    assert names < set(fitted.groups)
    graph, op = layer(kind)
    found = budget.options(graph, op, fitted)
    assert len(found) > 20 and all(option.cycles > 100 for option in found)


def test_active_inputs_matter_only_where_columns_can_be_skipped() -> None:
    graph, op = layer("fc")
    fitted = costs.load("cortex-m4")
    full = {o.encoded.name: o.cycles for o in budget.options(graph, op, fitted, 1.0)}
    half = {o.encoded.name: o.cycles for o in budget.options(graph, op, fitted, 0.5)}
    for name in full:
        saved = 1 - half[name] / full[name]
        assert (saved > 0.3) == name.endswith("by columns"), (name, saved)


def test_an_unknown_core_is_refused() -> None:
    with pytest.raises(InputError, match="no costs for core 'z80'"):
        costs.load("z80")


def test_negative_costs_are_refused() -> None:
    with pytest.raises(InputError, match="below 0"):
        costs.Costs("a", "a", False, "", 0.0, {"other": {"pad": -1.0}})


def test_constants_are_those_of_the_runtime() -> None:
    src = ROOT / "runtime_c" / "src"
    text = "".join(p.read_text() for p in sorted(src.glob("*.[ch]")))
    defined = dict(re.findall(r"^#define (\w+) (\d+)\b", text, re.MULTILINE))
    assert int(defined["CHUNK"]) == costs._CHUNK
    assert int(defined["TILE"]) == conv_counts._TILE
    assert int(defined["AT_ONCE"]) == conv_counts._DEPTHWISE_BLOCK
    assert int(defined["ZS_PEEK_BITS"]) == costs._PEEK_BITS
    for name, of_dsp in (
        ("ZS_VALUE_TABLE_BITS", costs._VALUE_TABLE_BITS),
        ("BLOCK", conv_counts._BLOCK),
    ):
        (found,) = re.findall(rf"^#define {name} \(ZS_DSP \? (\d+) : (\d+)\)", text, re.MULTILINE)
        assert tuple(map(int, found)) == (of_dsp[True], of_dsp[False])


def test_the_committed_error_is_that_of_the_table() -> None:
    table = (ROOT / "benchmarks" / "costs.md").read_text()
    for core in ("cortex-m4", "cortex-m3", "cortex-m0plus"):
        (percent,) = re.findall(rf"^\| {core} \| all \| \d+ \| ([\d.]+) %", table, re.MULTILINE)
        assert float(percent) == pytest.approx(100 * costs.load(core).median_error, abs=0.1)
        assert float(percent) <= 10


def test_balanced_gives_up_few_bytes_at_most_for_cycles() -> None:
    from zeroskip.converters import planner
    from zeroskip.converters.ir import FullyConnected, Graph, Op, Quantization, Tensor
    from zeroskip.converters.planner import Prefer

    rng = np.random.default_rng(3)
    for density in (0.02, 0.1, 0.5, 1.0):
        w = rng.normal(0, 30, (64, 200)).round().clip(-127, 127).astype(np.int8)
        w[rng.random(w.shape) >= density] = 0
        scale = Quantization((0.0625,), 0)
        tensors = (
            Tensor("x", (200,), "int8", scale), Tensor("w", w.shape, "int8", scale, w),
            Tensor("y", (64,), "int8", scale),
        )  # fmt: skip
        op = Op("fc", FullyConnected(), ("x", "w"), "y")
        graph = Graph("g", {t.name: t for t in tensors}, (op,), ("x",), ("y",))
        smallest, balanced = (
            planner.choose(graph, op, p).encoded for p in (Prefer.SIZE, Prefer.BALANCED)
        )
        cycles = planner._predictor(graph, op, w)
        assert smallest.bytes <= balanced.bytes <= planner.NEAR * smallest.bytes
        assert cycles(balanced) <= cycles(smallest)
