"""What a codec is: a pair of functions for positions, or for values, of stored elements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Positions:
    """Coded positions, and what else the codec's record holds. `row_units` counts the stream's
    units in each row (of 4 bits for gap4, else bits) where a row directory needs them."""

    stream: bytes
    row_units: IntArray | None = None
    block_bits: int = 0  # block: log2 of a block's columns
    gaps: Array | None = None  # gap: uint8, run of zeros by rank of its code
    gap_escape: int = 0  # gap: the run that stores no element
    code_counts: tuple[int, ...] = ()  # gap: codes of length 1, 2 ...
    probabilities: tuple[int, int] = (0, 0)  # ans: of an empty row, of a zero, in 1/65536
    live_columns: BoolArray | None = None  # ans: columns with elements, None for all

    @property
    def live_stream(self) -> bytes:
        """A bit per column, as stored."""
        return b"" if self.live_columns is None else np.packbits(self.live_columns).tobytes()

    def size_with_tables(self) -> int:
        """Bytes of stream and tables in the data section, and of counts in the record."""
        gaps = 0 if self.gaps is None else self.gaps.size
        return len(self.stream) + gaps + len(self.live_stream) + len(self.code_counts)


@dataclass(frozen=True)
class Values:
    """Coded values. `bits` is the length of each; a codebook comes with its parameters."""

    stream: bytes
    bits: IntArray = field(repr=False)
    codebook: Array | None = None
    index_bits: int = 0  # packed
    frequencies: tuple[int, ...] = ()  # ans: of each codebook entry, in 1/4096
    code_counts: tuple[int, ...] = ()  # huffman: codes of length 1, 2 ...


class PositionCodec(Protocol):
    """Where the stored elements of a matrix are."""

    code: int
    name: str

    def encode(self, mask: BoolArray, by_columns: bool) -> Positions | None:
        """Code the True elements of `mask` (rows, cols); None if this codec cannot."""

    def decode(
        self, coded: Positions, shape: tuple[int, int], count: int, rows: RowSpans | None
    ) -> BoolArray:
        """The mask again. Raises ValueError for a stream that does not fit."""


class ValueCodec(Protocol):
    """What the stored elements are."""

    code: int
    name: str

    def encode(self, values: Array) -> Values | None:
        """Code a vector of int8 or float32; None if this codec cannot."""

    def decode(self, coded: Values, count: int, dtype: np.dtype[Any]) -> Array:
        """The vector again. Raises ValueError for a stream that does not fit."""


@dataclass(frozen=True)
class RowSpans:
    """A row directory: per row its stored elements, gap4 units and huffman bits."""

    elements: IntArray
    units: IntArray
    bits: IntArray
