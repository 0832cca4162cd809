"""EIE, simulated cycle by cycle on one fully connected layer (Han et al., ISCA 2016).

Rows are interleaved over processing elements: element k has rows i with i mod N = k. An entry of
a column is the number of zeros before it among the element's own rows and a codebook index; after
a full run of zeros an entry of value zero is stored as filler (section 3.2). The non-zero
activations are found by a tree of leading non-zero detectors and broadcast one a cycle, in order;
each goes into a queue of every element, and the broadcast waits while any queue is full (section
4). An element takes an activation from its queue, walks the column's entries, one
multiply-accumulate a cycle, and spends a cycle on a column that has none.

What is not modelled: reading pointers and entries ahead (wide enough, by the paper, never to
stall), and the depth of the pipeline, whose accumulator hazards are bypassed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zeroskip.boards.accelerators import Accelerator
from zeroskip.errors import InputError

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]

_DRAIN_CYCLES: Final = 4  # section 4: the four stages of an element's pipeline


@dataclass(frozen=True)
class Encoded:
    """The entries of all elements, column by column.

    `gaps` and `values` hold one entry each; entries of element k and column j are
    [pointers[k, j], pointers[k, j + 1]). `values` are the weights themselves, 0 for fillers:
    the codebook is what `np.unique` of them gives. `shape` is (rows, columns).
    """

    shape: tuple[int, int]
    elements: int
    gaps: IntArray
    values: IntArray
    pointers: IntArray

    @property
    def entries(self) -> IntArray:
        """(elements, columns): entries of each column, fillers included."""
        counts: IntArray = np.diff(self.pointers, axis=1)
        return counts

    @property
    def codebook(self) -> IntArray:
        """The distinct values stored, with 0 if there are fillers."""
        found: IntArray = np.unique(self.values)
        return found

    @property
    def fillers(self) -> int:
        return int((self.values == 0).sum())


def encode(weights: Array, elements: int, gap_bits: int = 4) -> Encoded:
    """Encode integer weights (rows, columns) for so many elements; zeros are left out."""
    rows, columns = weights.shape
    height = -(-rows // elements)
    padded = np.zeros((height * elements, columns), np.int64)
    padded[:rows] = weights
    # (element, column, own row): the order in which entries lie in an element's memory.
    own = padded.reshape(height, elements, columns).transpose(1, 2, 0)
    element, column, row = np.nonzero(own)
    group = element * columns + column
    first = np.ones(len(row), np.bool_)
    first[1:] = group[1:] != group[:-1]
    before = np.where(first, -1, np.concatenate(([0], row[:-1])) if len(row) else row)
    zeros = row - before - 1
    span = 1 << gap_bits  # zeros that a filler and the run before it stand for
    fillers = zeros // span
    entries = fillers + 1
    ends = np.cumsum(entries)
    gaps = np.full(int(ends[-1]) if len(ends) else 0, span - 1, np.int64)
    values = np.zeros_like(gaps)
    gaps[ends - 1] = zeros % span
    values[ends - 1] = own[element, column, row]
    counts = np.bincount(group, weights=entries, minlength=elements * columns).astype(np.int64)
    pointers = np.zeros((elements, columns + 1), np.int64)
    pointers[:, 1:] = np.cumsum(counts).reshape(elements, columns)
    pointers[1:, 0] = pointers[:-1, -1]
    return Encoded((rows, columns), elements, gaps, values, pointers)


def multiply(encoded: Encoded, activations: Array) -> IntArray:
    """The accumulators (rows,) that walking the entries gives for activations (columns,)."""
    rows, columns = encoded.shape
    height = -(-rows // encoded.elements)
    sums = np.zeros((encoded.elements, height), np.int64)
    counts = encoded.entries
    for k in range(encoded.elements):
        begin, end = int(encoded.pointers[k, 0]), int(encoded.pointers[k, -1])
        steps = encoded.gaps[begin:end] + 1
        ends = np.cumsum(steps)
        column = np.repeat(np.arange(columns), counts[k])
        starts = np.concatenate(([0], ends))[encoded.pointers[k, :-1] - begin]
        row = ends - starts[column] - 1
        products = encoded.values[begin:end] * activations.astype(np.int64)[column]
        np.add.at(sums[k], row, products)
    interleaved: IntArray = sums.T.reshape(-1)[:rows]
    return interleaved


@dataclass(frozen=True)
class Timing:
    """Cycles of one layer. `work` counts entries of broadcast columns, fillers included, in all
    elements; `broadcasts` the activations that were not zero."""

    elements: int
    clock_hz: int
    work: int
    broadcasts: int
    cycles: int

    @property
    def theoretical_us(self) -> float:
        """Work over peak throughput, as in Table IV."""
        return self.work / self.elements / self.clock_hz * 1e6

    @property
    def actual_us(self) -> float:
        return self.cycles / self.clock_hz * 1e6

    @property
    def load_balance(self) -> float:
        """1 - bubbles / cycles of all elements (section 6, figure 8)."""
        return self.work / (self.elements * self.cycles) if self.cycles else 1.0


def simulate(entries: IntArray, accelerator: Accelerator) -> Timing:
    """Broadcast columns whose entries per element are (elements, columns), in order."""
    elements, columns = entries.shape
    busy = np.maximum(entries, 1).T
    depth = accelerator.queue_depth
    # done[j % depth]: when each element was through with column j, which keeps its place in the
    # queue until then; the last depth of them.
    done = np.zeros((depth, elements), np.int64)
    free = np.zeros(elements, np.int64)
    broadcast = -1
    for j in range(columns):
        slot = j % depth
        broadcast += 1
        if j >= depth:
            broadcast = max(broadcast, int(done[slot].max()))
        free = np.maximum(free, broadcast + 1) + busy[j]
        done[slot] = free
    cycles = int(free.max()) + _DRAIN_CYCLES if columns else 0
    work = int(entries.sum())
    return Timing(elements, accelerator.clock_hz, work, columns, cycles)


@dataclass(frozen=True)
class LayerResult:
    """One fully connected layer on the accelerator, for one input.

    `energy_nj` is the published power of all elements and detectors over the cycles, at the
    activity that it was published for. `distinct` counts the values that the codebook would
    need, 0 included; `fits` says whether it has room for them. `exact` says whether the
    accumulators from the encoded entries are those of the dense product.
    """

    index: int
    name: str
    shape: tuple[int, int]
    timing: Timing
    macs: int
    fillers: int
    distinct: int
    fits: bool
    exact: bool
    energy_nj: float


def run_layer(
    index: int, name: str, weights: Array, activations: Array, accelerator: Accelerator
) -> LayerResult:
    """Run integer weights (rows, columns), zero being 0, on activations (columns,)."""
    if weights.ndim != 2 or activations.shape != (weights.shape[1],):
        raise InputError(f"weights {weights.shape} do not take activations {activations.shape}")
    encoded = encode(weights, accelerator.elements, accelerator.gap_bits)
    active = np.flatnonzero(activations)
    entries = encoded.entries[:, active]
    timing = simulate(entries, accelerator)
    sums = multiply(encoded, activations)
    expected = weights.astype(np.int64) @ activations.astype(np.int64)
    nonzero = int(np.count_nonzero(weights[:, active]))
    distinct = len(np.union1d(encoded.codebook, [0]))
    return LayerResult(
        index=index,
        name=name,
        shape=(weights.shape[0], weights.shape[1]),
        timing=timing,
        macs=nonzero,
        fillers=int(entries.sum()) - nonzero,
        distinct=distinct,
        fits=distinct <= 1 << accelerator.index_bits,
        exact=bool(np.array_equal(sums, expected)),
        energy_nj=accelerator.power_mw * timing.actual_us,
    )
