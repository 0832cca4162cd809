"""What a codec is, and what it is given: the mask and the elements of a stored matrix.

A codec plans first: `plan` decides every parameter from counts and gives exact sizes. Only
`plan(...).encode()` makes the stream, so that comparing codecs is cheap. Where a size depends
on more than counts (the last word of an ANS stream), the plan encodes once and keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

OFFSET_BYTES: Final = 3  # of an offset in a record: exact in containers of 16 KiB to 2 MiB
_CHUNK: Final = 1 << 20  # elements that are widened at a time


@dataclass(frozen=True)
class Positions:
    """Coded positions, and what else the codec's record holds."""

    stream: bytes
    block_bits: int = 0  # block: log2 of a block's columns
    gaps: Array | None = None  # gap: uint8, run of zeros by rank of its code
    gap_escape: int = 0  # gap: the run that stores no element
    code_counts: tuple[int, ...] = ()  # gap: codes of length 1, 2 ...
    classes: tuple[int, int] = (1, 1)  # ans: row classes, column classes
    segment: int = 0  # ans: rows in a segment, 0 for all

    @property
    def data_bytes(self) -> int:
        """Bytes in the data section: stream and table."""
        return len(self.stream) + (0 if self.gaps is None else self.gaps.size)


@dataclass(frozen=True)
class Values:
    """Coded values; a codebook comes with its parameters."""

    stream: bytes
    codebook: Array | None = None
    index_bits: int = 0  # packed
    code_counts: tuple[int, ...] = ()  # huffman: codes of length 1, 2 ...
    table: bytes = b""  # ans: classes and codebook, as stored
    segment: int = 0  # ans: values in a segment, 0 for all

    @property
    def data_bytes(self) -> int:
        """Bytes in the data section: stream, and codebook or table."""
        codebook = 0 if self.codebook is None or self.table else self.codebook.nbytes
        return len(self.stream) + len(self.table) + codebook


@dataclass(frozen=True)
class Histogram:
    """Distinct values, ascending, and how often each occurs."""

    symbols: Array
    counts: IntArray

    def plus(self, other: Histogram) -> Histogram:
        """The histogram of both together."""
        symbols, place = np.unique(
            np.concatenate([self.symbols, other.symbols]), return_inverse=True
        )
        counts = np.zeros(symbols.size, np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return Histogram(symbols, counts)

    def within(self, table: Histogram) -> IntArray:
        """This histogram's count of each of `table`'s symbols, which include its own."""
        counts = np.zeros(table.symbols.size, np.int64)
        counts[np.searchsorted(table.symbols, self.symbols)] = self.counts
        return counts


class Mask:
    """The stored elements of a matrix of `shape`: True in `bits` (rows, cols)."""

    def __init__(self, bits: BoolArray, by_columns: bool) -> None:
        self.bits = bits
        self.by_columns = by_columns
        self.shape: tuple[int, int] = (bits.shape[0], bits.shape[1])

    @cached_property
    def flat(self) -> IntArray:
        """Index of each stored element in the flattened matrix."""
        return np.flatnonzero(self.bits)

    @cached_property
    def rows(self) -> IntArray:
        """Row of each stored element."""
        return np.repeat(np.arange(self.shape[0]), self.row_counts)

    @cached_property
    def row_counts(self) -> IntArray:
        """Stored elements of each row."""
        starts = np.arange(self.shape[0] + 1) * self.shape[1]
        return np.diff(np.searchsorted(self.flat, starts)).astype(np.int64)

    @cached_property
    def gaps(self) -> IntArray:
        """Zeros before each element; by columns each row starts afresh."""
        if self.flat.size == 0:
            return self.flat
        previous = np.concatenate(([-1], self.flat[:-1]))
        if self.by_columns:
            first = np.concatenate(([True], self.rows[1:] != self.rows[:-1]))
            previous = np.where(first, self.rows * self.shape[1] - 1, previous)
        gaps: IntArray = self.flat - previous - 1
        return gaps

    @cached_property
    def gap_histogram(self) -> Histogram:
        return Histogram(*np.unique(self.gaps, return_counts=True))

    def per_row(self, weights: IntArray) -> IntArray:
        """The sum over each row of a weight per stored element."""
        sums = np.bincount(self.rows, weights=weights, minlength=self.shape[0])
        return sums.astype(np.int64)


class Elements:
    """The values of the stored elements, row by row: a vector of int8 or float32."""

    def __init__(
        self, vector: Callable[[], Array], histogram: Histogram, rows: Callable[[], IntArray]
    ) -> None:
        self._vector = vector
        self._rows = rows
        self.histogram = histogram
        self.dtype = histogram.symbols.dtype
        self.count = int(histogram.counts.sum())

    @classmethod
    def of(cls, vector: Array) -> Elements:
        """Elements of one row."""
        return cls(lambda: vector, histogram(vector), lambda: np.zeros(vector.size, np.int64))

    def vector(self) -> Array:
        return self._vector()

    def mapped(self, symbols: Array, outcome: Array) -> Array:
        """outcome[i] for each element that equals symbols[i]; `symbols` ascend."""
        vector = self._vector()
        if vector.dtype != np.int8:
            return outcome[np.searchsorted(symbols, vector)]
        table = np.zeros(256, outcome.dtype)
        table[symbols.view(np.uint8)] = outcome
        return table[np.ascontiguousarray(vector).view(np.uint8)]

    def row_sums(self, rows: int, symbols: Array, weights: IntArray) -> IntArray:
        """The sum over each row of weights[i] per element that equals symbols[i]."""
        each = self.mapped(symbols, weights)
        return np.bincount(self._rows(), weights=each, minlength=rows).astype(np.int64)


def histogram(vector: Array) -> Histogram:
    """The histogram of int8 or float32 values."""
    if vector.dtype != np.int8:
        symbols, counts = np.unique(vector, return_counts=True)
        return Histogram(symbols, counts.astype(np.int64))
    bytes_ = np.ascontiguousarray(vector).view(np.uint8)
    counts = np.zeros(256, np.int64)
    for start in range(0, vector.size, _CHUNK):
        counts += np.bincount(bytes_[start : start + _CHUNK], minlength=256)
    counts = np.roll(counts, 128)  # from 0 ... 127, -128 ... -1 to ascending
    present = np.flatnonzero(counts)
    return Histogram((present - 128).astype(np.int8), counts[present])


class PositionPlan(Protocol):
    """Positions ready to be coded. `row_units` are the stream's units in each row (of 4 bits for
    gap4, else bits), where a row directory needs them; `record_bytes` those of the record."""

    @property
    def stream_bytes(self) -> int: ...
    @property
    def table_bytes(self) -> int: ...
    @property
    def record_bytes(self) -> int: ...
    @property
    def row_units(self) -> IntArray | None: ...

    def encode(self) -> Positions: ...


class ValuePlan(Protocol):
    """Values ready to be coded. `row_bits` gives the bits of each of `rows` rows, if a row
    directory needs them."""

    @property
    def stream_bytes(self) -> int: ...
    @property
    def table_bytes(self) -> int: ...
    @property
    def record_bytes(self) -> int: ...

    def row_bits(self, rows: int) -> IntArray | None: ...

    def encode(self) -> Values: ...


class PositionCodec(Protocol):
    """Where the stored elements of a matrix are."""

    code: int
    name: str

    def plan(self, mask: Mask) -> PositionPlan | None:
        """How the mask would be coded; None if this codec cannot."""

    def decode(
        self, coded: Positions, shape: tuple[int, int], count: int, rows: RowSpans | None
    ) -> BoolArray:
        """The mask again. Raises ValueError for a stream that does not fit."""


class ValueCodec(Protocol):
    """What the stored elements are."""

    code: int
    name: str

    def plan(self, elements: Elements, table: Histogram | None = None) -> ValuePlan | None:
        """How the elements would be coded; None if this codec cannot.

        `table` makes the codebook and codes those of this histogram, which has all symbols of
        the elements: of several matrices, say, that share one table.
        """

    def decode(self, coded: Values, count: int, dtype: np.dtype[Any]) -> Array:
        """The vector again. Raises ValueError for a stream that does not fit."""


@dataclass(frozen=True)
class RowSpans:
    """A row directory: per row its stored elements, gap4 units and huffman bits."""

    elements: IntArray
    units: IntArray
    bits: IntArray


@dataclass(frozen=True)
class SimplePlan:
    """A plan of sizes that are plain, and a function that makes the stream."""

    stream_bytes: int
    make: Callable[[], Positions]
    table_bytes: int = 0
    record_bytes: int = 0
    row_units: IntArray | None = None

    def encode(self) -> Positions:
        return self.make()


@dataclass(frozen=True)
class SimpleValuePlan:
    """The same for values; `bits_by_row` is called for a row directory."""

    stream_bytes: int
    make: Callable[[], Values]
    table_bytes: int = 0
    record_bytes: int = 0
    bits_by_row: Callable[[int], IntArray] | None = None

    def row_bits(self, rows: int) -> IntArray | None:
        return None if self.bits_by_row is None else self.bits_by_row(rows)

    def encode(self) -> Values:
        return self.make()


def var_bytes(*values: int) -> int:
    """Bytes of unsigned numbers as var (FORMAT.md)."""
    return sum(max(1, (value.bit_length() + 6) // 7) for value in values)


def stream_record_bytes(stream_bytes: int) -> int:
    """Bytes of a stream's offset and size in a record."""
    return OFFSET_BYTES + var_bytes(stream_bytes)
