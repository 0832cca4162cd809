"""Compressed weight matrices: position codec x value codec x layout.

One file per codec; the registries below are all there is. `encode` and `decode` are exact
inverses, and the C runtime decodes the same bits (tests/parity).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from zeroskip.converters.codecs import bits
from zeroskip.converters.codecs.ans import AnsPositions, AnsValues
from zeroskip.converters.codecs.base import (
    Array,
    BoolArray,
    PositionCodec,
    Positions,
    RowSpans,
    ValueCodec,
    Values,
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

    @property
    def by_columns(self) -> bool:
        return self.directory is not None

    @property
    def name(self) -> str:
        """For reports, such as 'bitmask+huffman' or 'gap4+packed, by columns'."""
        return f"{self.positions}+{self.values}" + (", by columns" if self.by_columns else "")

    @property
    def stream_bytes(self) -> int:
        """Bytes in the data section: streams, codebook and directory."""
        codebook = self.coded.codebook
        return (
            len(self.placed.stream)
            + (self.placed.gaps.size if self.placed.gaps is not None else 0)
            + len(self.placed.live_stream)
            + len(self.coded.stream)
            + (codebook.nbytes if codebook is not None else 0)
            + (len(self.directory.stream) if self.directory is not None else 0)
        )


def encode(
    matrix: Array, zero_point: int, positions: str, values: str, by_columns: bool = False
) -> EncodedMatrix | None:
    """Compress `matrix` (rows, cols) of int8 or float32, exactly.

    `by_columns` stores the transposed matrix with a row directory. Returns None if a codec
    cannot hold the matrix (a codebook of more than 256 values, ans by columns).
    """
    stored = np.ascontiguousarray(matrix.T if by_columns else matrix)
    mask: BoolArray = (
        np.ones(stored.shape, np.bool_) if positions == "dense" else stored != zero_point
    )
    coded = VALUES[values].encode(stored[mask])
    if coded is None or (by_columns and values == "ans"):
        return None
    placed = POSITIONS[positions].encode(mask, by_columns)
    if placed is None:
        return None
    elements = mask.sum(axis=1)
    directory = None
    if by_columns:
        directory = _directory(mask, placed, coded, huffman=values == "huffman")
    return EncodedMatrix(
        positions=positions,
        values=values,
        rows=stored.shape[0],
        cols=stored.shape[1],
        count=int(mask.sum()),
        max_row=int(elements.max()),
        zero_point=zero_point,
        placed=placed,
        coded=coded,
        directory=directory,
    )


def candidates(matrix: Array, zero_point: int, by_columns: bool = False) -> Iterator[EncodedMatrix]:
    """Every codec pair that can hold the matrix."""
    for positions in POSITIONS:
        for values in VALUES:
            encoded = encode(matrix, zero_point, positions, values, by_columns)
            if encoded is not None:
                yield encoded


def decode(encoded: EncodedMatrix, dtype: np.dtype[Any]) -> Array:
    """The matrix that was encoded, not transposed. Raises ValueError for malformed streams."""
    shape = (encoded.rows, encoded.cols)
    rows = None if encoded.directory is None else _row_spans(encoded.directory, encoded.rows)
    mask = POSITIONS[encoded.positions].decode(encoded.placed, shape, encoded.count, rows)
    matrix = np.full(shape, encoded.zero_point, dtype)
    matrix[mask] = VALUES[encoded.values].decode(encoded.coded, encoded.count, dtype)
    return matrix.T.copy() if encoded.by_columns else matrix


def _directory(mask: BoolArray, placed: Positions, coded: Values, huffman: bool) -> Directory:
    elements = mask.sum(axis=1).astype(np.int64)
    units = placed.row_units if placed.row_units is not None else np.zeros_like(elements)
    row = np.repeat(np.arange(mask.shape[0]), elements)
    lengths = np.bincount(row, weights=coded.bits, minlength=mask.shape[0]).astype(np.int64)
    fields = np.stack([elements, units, lengths if huffman else np.zeros_like(elements)], axis=1)
    widths = [int(column.max()).bit_length() for column in fields.T]
    if max(widths) > MAX_DIRECTORY_BITS:
        raise ValueError(f"a row directory field needs {max(widths)} bits")
    stream = bits.pack(fields, np.broadcast_to(widths, fields.shape).ravel())
    return Directory((widths[0], widths[1], widths[2]), stream)


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
