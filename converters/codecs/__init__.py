"""Compressed weight matrices: position codec x value codec x layout.

One file per codec; the registries below are all there is. `candidates` gives the exact size of
every pair without encoding it. `encode` and `decode` are exact inverses, and the C runtime
decodes the same bits (tests/parity).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from zeroskip.converters.codecs import bits
from zeroskip.converters.codecs.ans_positions import AnsPositions
from zeroskip.converters.codecs.ans_values import AnsValues
from zeroskip.converters.codecs.base import (
    OFFSET_BYTES,
    Array,
    Elements,
    Histogram,
    IntArray,
    Mask,
    PositionCodec,
    PositionPlan,
    Positions,
    RowSpans,
    ValueCodec,
    ValuePlan,
    Values,
    histogram,
)
from zeroskip.converters.codecs.bitmask import Bitmask
from zeroskip.converters.codecs.block import Block
from zeroskip.converters.codecs.dense import Dense
from zeroskip.converters.codecs.gap import Gap
from zeroskip.converters.codecs.gap4 import Gap4
from zeroskip.converters.codecs.huffman import Huffman
from zeroskip.converters.codecs.packed import Packed
from zeroskip.converters.codecs.raw import Raw

POSITIONS: Final[dict[str, PositionCodec]] = {
    c.name: c for c in (Dense(), Bitmask(), Gap4(), Block(), Gap(), AnsPositions())
}
VALUES: Final[dict[str, ValueCodec]] = {
    c.name: c for c in (Raw(), Packed(), Huffman(), AnsValues())
}
POSITION_BY_CODE: Final = {codec.code: codec for codec in POSITIONS.values()}
VALUE_BY_CODE: Final = {codec.code: codec for codec in VALUES.values()}

MAX_DIRECTORY_BITS: Final = 24


@dataclass(frozen=True)
class Directory:
    """Row directory: bit widths of its three fields, and the stream."""

    widths: tuple[int, int, int]
    stream: bytes


@dataclass(frozen=True)
class EncodedMatrix:
    """A weight record of FORMAT.md and its streams. rows and cols are those stored."""

    positions: str
    values: str
    rows: int
    cols: int
    count: int
    max_row: int
    zero_point: int
    placed: Positions
    coded: Values
    directory: Directory | None = None

    record_bytes: int = 0  # codecs' part of the record, offsets of OFFSET_BYTES each

    @property
    def by_columns(self) -> bool:
        return self.directory is not None

    @property
    def name(self) -> str:
        """For reports, such as 'bitmask+huffman' or 'gap4+packed, by columns'."""
        return _pair_name(self.positions, self.values, self.by_columns)

    @property
    def stream_bytes(self) -> int:
        """Bytes in the data section: streams, codebook and directory."""
        directory = 0 if self.directory is None else len(self.directory.stream)
        return self.placed.data_bytes + self.coded.data_bytes + directory

    @property
    def bytes(self) -> int:
        """All that depends on the codecs: data section and record."""
        return self.stream_bytes + self.record_bytes

    @property
    def position_bytes(self) -> int:
        """Bytes of the position stream."""
        return len(self.placed.stream)

    @property
    def value_bytes(self) -> int:
        """Bytes of the value stream."""
        return len(self.coded.stream)


@dataclass(frozen=True)
class Candidate:
    """What a pair of codecs would make of a matrix. Sizes are those of `encode()`, exactly."""

    positions: str
    values: str
    zero_point: int
    mask: Mask
    position_plan: PositionPlan
    value_plan: ValuePlan

    @property
    def rows(self) -> int:
        """Rows and columns are those stored."""
        return self.mask.shape[0]

    @property
    def cols(self) -> int:
        return self.mask.shape[1]

    @property
    def by_columns(self) -> bool:
        return self.mask.by_columns

    @property
    def name(self) -> str:
        return _pair_name(self.positions, self.values, self.by_columns)

    @cached_property
    def count(self) -> int:
        return int(self._row_counts.sum())

    @property
    def max_row(self) -> int:
        return int(self._row_counts.max())

    @property
    def position_bytes(self) -> int:
        return self.position_plan.stream_bytes

    @property
    def value_bytes(self) -> int:
        return self.value_plan.stream_bytes

    @property
    def stream_bytes(self) -> int:
        """Bytes in the data section: streams, codebook and directory."""
        plans = (self.position_plan, self.value_plan)
        streams = sum(plan.stream_bytes + plan.table_bytes for plan in plans)
        return streams + (bits.byte_count(sum(self._widths) * self.rows) if self.by_columns else 0)

    @property
    def record_bytes(self) -> int:
        """The codecs' part of the record, offsets of OFFSET_BYTES each."""
        record = self.position_plan.record_bytes + self.value_plan.record_bytes
        return record + (3 + OFFSET_BYTES if self.by_columns else 0)

    @property
    def bytes(self) -> int:
        """All that depends on the codecs: data section and record."""
        return self.stream_bytes + self.record_bytes

    def encode(self) -> EncodedMatrix:
        """Make the streams. Raises ValueError for a row directory beyond the format's limit."""
        directory = None
        if self.by_columns:
            if max(self._widths) > MAX_DIRECTORY_BITS:
                raise ValueError(f"a row directory field needs {max(self._widths)} bits")
            fields = self._directory_fields
            stream = bits.pack(fields, np.broadcast_to(self._widths, fields.shape).ravel())
            directory = Directory(self._widths, stream)
        return EncodedMatrix(
            positions=self.positions,
            values=self.values,
            rows=self.rows,
            cols=self.cols,
            count=self.count,
            max_row=self.max_row,
            zero_point=self.zero_point,
            placed=self.position_plan.encode(),
            coded=self.value_plan.encode(),
            directory=directory,
            record_bytes=self.record_bytes,
        )

    @cached_property
    def _row_counts(self) -> IntArray:
        if self.positions == "dense":
            return np.full(self.rows, self.cols, np.int64)
        return self.mask.row_counts

    @cached_property
    def _directory_fields(self) -> IntArray:
        """(rows, 3): elements, position units, Huffman bits."""
        columns = (
            self._row_counts,
            self.position_plan.row_units,
            self.value_plan.row_bits(self.rows),
        )
        nothing = np.zeros(self.rows, np.int64)
        return np.stack([nothing if column is None else column for column in columns], axis=1)

    @cached_property
    def _widths(self) -> tuple[int, int, int]:
        elements, units, lengths = (int(c.max()).bit_length() for c in self._directory_fields.T)
        return (elements, units, lengths)


def candidates(
    matrix: Array,
    zero_point: int,
    by_columns: bool = False,
    *,
    positions: str | None = None,
    values: str | None = None,
    table: Histogram | None = None,
) -> Iterator[Candidate]:
    """Every codec pair that can hold `matrix` (rows, cols) of int8 or float32.

    `by_columns` stores the transposed matrix with a row directory, which ans cannot.
    `positions` and `values` restrict the codecs. `table` is the histogram that codebooks and
    codes are made for, if not the matrix's own; it must have all of its symbols.
    """
    stored = np.ascontiguousarray(matrix.T if by_columns else matrix)
    mask = Mask(stored != zero_point, by_columns)
    sparse = _sparse_elements(stored, mask)
    dense = _dense_elements(stored, mask, sparse.histogram)
    by_values: dict[tuple[str, bool], ValuePlan | None] = {}
    for position_name in POSITIONS if positions is None else (positions,):
        placed = POSITIONS[position_name].plan(mask)
        if placed is None:
            continue
        everything = position_name == "dense"
        for value_name in VALUES if values is None else (values,):
            if by_columns and value_name == "ans":
                continue
            key = (value_name, everything)
            if key not in by_values:
                elements = dense if everything else sparse
                by_values[key] = VALUES[value_name].plan(elements, table)
            plan = by_values[key]
            if plan is not None:
                yield Candidate(position_name, value_name, zero_point, mask, placed, plan)


def encode(
    matrix: Array, zero_point: int, positions: str, values: str, by_columns: bool = False
) -> EncodedMatrix | None:
    """Compress `matrix` (rows, cols) of int8 or float32, exactly.

    `by_columns` stores the transposed matrix with a row directory. Returns None if a codec
    cannot hold the matrix (a codebook of more than 256 values, ans by columns).
    """
    pairs = candidates(matrix, zero_point, by_columns, positions=positions, values=values)
    return next((pair.encode() for pair in pairs), None)


def _sparse_elements(stored: Array, mask: Mask) -> Elements:
    values = stored.ravel()[mask.flat]
    return Elements(lambda: values, histogram(values), lambda: mask.rows)


def _dense_elements(stored: Array, mask: Mask, live: Histogram) -> Elements:
    zeros = stored.size - mask.flat.size
    if zeros:
        zero = stored.ravel()[np.argmin(mask.bits.ravel())]
        live = live.plus(Histogram(np.array([zero], stored.dtype), np.array([zeros])))
    rows, cols = mask.shape
    return Elements(stored.ravel, live, lambda: np.repeat(np.arange(rows), cols))


def _pair_name(positions: str, values: str, by_columns: bool) -> str:
    return f"{positions}+{values}" + (", by columns" if by_columns else "")


def decode(encoded: EncodedMatrix, dtype: np.dtype[Any]) -> Array:
    """The matrix that was encoded, not transposed. Raises ValueError for malformed streams."""
    shape = (encoded.rows, encoded.cols)
    rows = None if encoded.directory is None else _row_spans(encoded.directory, encoded.rows)
    mask = POSITIONS[encoded.positions].decode(encoded.placed, shape, encoded.count, rows)
    matrix = np.full(shape, encoded.zero_point, dtype)
    matrix[mask] = VALUES[encoded.values].decode(encoded.coded, encoded.count, dtype)
    return matrix.T.copy() if encoded.by_columns else matrix


def _row_spans(directory: Directory, rows: int) -> RowSpans:
    total = sum(directory.widths)
    packed = bits.unpack(directory.stream, rows * total, 1).reshape(rows, total)
    columns = []
    at = 0
    for width in directory.widths:
        weights = (1 << np.arange(width - 1, -1, -1)).astype(np.int64)
        columns.append(packed[:, at : at + width].astype(np.int64) @ weights)
        at += width
    return RowSpans(*columns)
