"""Predicted cycles of a layer, from counts and fitted costs per count.

A layer's cycles are the sum, over its position codec, its value codec and its kernel, of
count x cost: how many elements, codes, bits, tiles ... the C runtime goes through, which follows
from the weights and shapes, times cycles for each, from costs.toml. benchmarks/fit_costs.py fits
those to runs on emulated cores and says how far predictions are off. They are estimates of
estimates: the emulator's cycles are themselves a model (boards/cores/<core>.toml).

Costs are those of int8 kernels; for float32 layers they rank codecs, no more.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zeroskip.converters.codecs import EncodedMatrix
from zeroskip.converters.codecs.ans_values import Table
from zeroskip.converters.codecs.base import Mask, histogram
from zeroskip.converters.conv_counts import TWO_FILTERS, Counts, conv_counts
from zeroskip.converters.ir import (
    Conv2D,
    FullyConnected,
    Graph,
    Op,
    Pool2D,
)
from zeroskip.converters.passes import memory
from zeroskip.errors import InputError

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
Group = tuple[str, Counts]  # the name of a table of costs.toml, and counts for its keys

# Cores without costs of their own, and whose costs stand in for theirs.
STAND_INS: Final = {
    "cortex-m0": "cortex-m0plus",
    "cortex-m7": "cortex-m4",
    "cortex-m33": "cortex-m4",
    "cortex-m55": "cortex-m4",
}

_DENSE: Final = "fully connected, dense"
_FUSED: Final = "fully connected by columns, fused"
_CHUNK: Final = 16  # elements that a fully connected layer decodes at a time
_PEEK_BITS: Final = 25
_VALUE_TABLE_BITS: Final = {True: 9, False: 7}  # by whether there is the DSP extension


@dataclass(frozen=True)
class Costs:
    """Cycles per count on one core. `fitted_core` is another one where it stands in; `dsp` says
    whether it has the DSP extension, which some kernels need."""

    core: str
    fitted_core: str
    dsp: bool
    source: str
    median_error: float
    groups: Mapping[str, Mapping[str, float]]

    def __post_init__(self) -> None:
        if any(cost < 0 for table in self.groups.values() for cost in table.values()):
            raise InputError(f"costs of {self.core}: a cost is below 0")

    def cycles(self, *groups: Group) -> float:
        """The sum of count x cost."""
        return sum(
            count * self.groups[name].get(key, 0.0)
            for name, counts in groups
            for key, count in counts.items()
        )

    @property
    def provenance(self) -> str:
        """Where a cycle figure comes from, for people."""
        stand_in = "" if self.core == self.fitted_core else f", {self.core} itself is not fitted"
        return (
            f"estimated with costs fitted to emulated runs on {self.fitted_core}, median error "
            f"{100 * self.median_error:.0f} %{stand_in}"
        )


@cache
def load(core: str) -> Costs:
    """The costs of a core such as "cortex-m4". Raises InputError for an unknown one."""
    document = tomllib.loads(resources.files(__package__).joinpath("costs.toml").read_text())
    fitted = STAND_INS.get(core, core)
    if fitted not in document:
        known = ", ".join(sorted({*document, *STAND_INS}))
        raise InputError(f"no costs for core '{core}': costs are known for {known}")
    return parse(core, fitted, document[fitted])


def parse(core: str, fitted: str, table: Mapping[str, Any]) -> Costs:
    """A table of costs.toml."""
    groups = {name: dict(value) for name, value in table.items() if isinstance(value, dict)}
    return Costs(
        core, fitted, bool(table["dsp"]), table["source"], float(table["median_error"]), groups
    )


def layer_cycles(
    costs: Costs, graph: Graph, op: Op, encoded: EncodedMatrix, matrix: Array, active: float
) -> float:
    """Cycles of one run of a Conv2D or FullyConnected.

    `matrix` (rows, cols) are the weights as `encoded` stores them, transposed by columns; `active`
    is the fraction of the inputs that is not zero.
    """
    return costs.cycles(*layer_groups(graph, op, encoded, matrix, active, costs.dsp))


def layer_groups(
    graph: Graph, op: Op, encoded: EncodedMatrix, matrix: Array, active: float, dsp: bool
) -> tuple[Group, Group, Group]:
    """The counts of positions, values and kernel, on a core with the DSP extension or without."""
    mask = matrix != encoded.zero_point
    stored = np.ones_like(mask) if encoded.positions == "dense" else mask
    elements = stored.sum(axis=1)
    chunked = isinstance(op.attributes, FullyConnected)
    calls = float((elements // _CHUNK + 1).sum() if chunked else encoded.rows)
    runs = 1.0
    if isinstance(op.attributes, FullyConnected):
        inputs = encoded.rows if encoded.by_columns else encoded.cols
        runs = graph.tensors[op.inputs[0]].size / inputs
        runs *= active if encoded.by_columns else 1
    positions = _position_counts(encoded, stored) | {"call": calls}
    values = _value_counts(encoded, matrix[stored], dsp) | {"call": calls}
    kernel = kernel_counts(graph, op, encoded, mask, active, calls, dsp)
    if kernel[0] == TWO_FILTERS:
        positions = {}
    if kernel[0] in (_FUSED, _DENSE):
        positions = values = {}
    return (
        (f"position {encoded.positions}", {k: runs * n for k, n in positions.items()}),
        (f"value {encoded.values}", {k: runs * n for k, n in values.items()}),
        kernel,
    )


def _position_counts(e: EncodedMatrix, stored: BoolArray) -> Counts:
    size = e.rows * e.cols
    counts: Counts = {"matrix": 1, "element": e.count}
    bits = 8 * len(e.placed.stream)
    match e.positions:
        case "bitmask":
            counts["word"] = e.rows * -(-e.cols // _PEEK_BITS)
        case "gap4":
            counts["code"] = bits // 4
        case "block":
            block = 1 << e.placed.block_bits
            counts["live word"] = max(0, bits - size / block) / min(block, _PEEK_BITS)
        case "gap":
            gaps = Mask(stored, e.by_columns).gaps
            counts["code"] = e.count + float((gaps // e.placed.gap_escape).sum())
            counts["bit"] = bits
        case "ans":
            live = stored.any(axis=1).sum() * stored.any(axis=0).sum()
            counts["bit"] = float(live)
            counts["column"] = size
    return counts


def _value_counts(e: EncodedMatrix, elements: Array, dsp: bool) -> Counts:
    counts: Counts = {"matrix": 1, "element": e.count}
    if e.values == "huffman":
        assert e.coded.codebook is not None
        lengths = np.repeat(np.arange(1, len(e.coded.code_counts) + 1), e.coded.code_counts)
        found = histogram(elements)
        longer = np.isin(found.symbols, e.coded.codebook[lengths > _VALUE_TABLE_BITS[dsp]])
        counts["long"] = float(found.counts[longer].sum())
    elif e.values == "ans":
        table, _ = Table.parse(e.coded.table, elements.dtype)
        sizes, frequencies = np.array(table.classes, np.float64).T
        shares = sizes * frequencies / (sizes * frequencies).sum()
        inside = float(e.count * (shares * (sizes - 1) / 2).sum())
        counts["class"] = float(e.count * (shares * np.arange(shares.size)).sum())
        counts["index"] = inside
        counts["delta"] = inside if table.delta_bits else 0.0
    return counts


def kernel_counts(
    graph: Graph,
    op: Op,
    e: EncodedMatrix,
    mask: BoolArray,
    active: float,
    calls: float,
    dsp: bool,
) -> Group:
    """The kernel's table and counts; `calls` of the decoder are in each run of a matrix."""
    if isinstance(op.attributes, Conv2D):
        return conv_counts(graph, op, e.positions, mask, dsp)
    inputs, outputs = (e.rows, e.cols) if e.by_columns else (e.cols, e.rows)
    batch = graph.tensors[op.inputs[0]].size / inputs
    live = float(mask.sum())
    counts: Counts = {
        "layer": 1,
        "output": batch * outputs,
        "element": batch * live * (active if e.by_columns else 1),
        "call": batch * calls * (active if e.by_columns else 1),
    }
    if e.positions == "dense":
        examined = batch * mask.size * (active if e.by_columns else 1)
        counts |= {"examined": examined, "dropped": examined * (1 - live / mask.size)}
    plain = e.positions == "dense" and e.values == "raw" and e.zero_point == 0
    if plain and not e.by_columns:
        turns = outputs // 3 + outputs % 3  # rows three at a time, what is left one by one
        return _DENSE, {
            "layer": 1,
            "output": batch * outputs,
            "turn": batch * turns,
            "eight": batch * turns * (inputs // 8),
            "rest": batch * turns * (inputs % 8),
        }
    if e.by_columns and e.positions == "gap4" and e.values in ("raw", "packed"):
        if e.zero_point == 0:
            return _FUSED, _fused_counts(e, batch, inputs, outputs, live, active)
    if e.by_columns:
        return "fully connected by columns", counts | {"input": batch * inputs}
    return "fully connected by rows", counts | {"mac": batch * live * active}


def _fused_counts(
    e: EncodedMatrix, batch: float, inputs: int, outputs: int, live: float, active: float
) -> Counts:
    """Counts of runtime_c/src/zs_columns_s8.c."""
    taken = batch * active
    return {
        "layer": 1,
        "input": batch * inputs,
        "column": taken * inputs,
        "unit": taken * 2 * len(e.placed.stream),
        f"{e.values} element": taken * live,
        "output": batch * outputs,
    }


def other_group(graph: Graph, op: Op) -> Group | None:
    """Counts of an op without weights; None for one that takes no time."""
    kind = op.kind.lower()
    if memory.is_view(graph, op):
        return None
    output = graph.output_tensor(op)
    work = float(max(output.size, *(graph.tensors[name].size for name in op.inputs)))
    if isinstance(op.attributes, Pool2D) and not op.attributes.adaptive:
        work = float(output.size * np.prod(op.attributes.kernel))
    return "other", {kind: work}
