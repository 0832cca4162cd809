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
    """Coded positions. `row_units` counts the stream's units in each row, where the codec's
    row directory needs them (gap4), else it is None."""

    stream: bytes
    row_units: IntArray | None = None


@dataclass(frozen=True)
class Values:
    """Coded values. `bits` is the length of each; a codebook comes with its parameters."""

    stream: bytes
    bits: IntArray = field(repr=False)
    codebook: Array | None = None
    index_bits: int = 0  # packed
    code_counts: tuple[int, ...] = ()  # huffman: codes of length 1, 2 ...


class PositionCodec(Protocol):
    """Where the stored elements of a matrix are."""

    code: int
    name: str

    def encode(self, mask: BoolArray, by_columns: bool) -> Positions:
        """Code the True elements of `mask` (rows, cols)."""

    def decode(
        self, stream: bytes, shape: tuple[int, int], count: int, rows: RowSpans | None
    ) -> BoolArray:
        """The mask again. Raises ValueError for a stream that does not fit."""


class ValueCodec(Protocol):
    """What the stored elements are."""

    code: int
    name: str

    def encode(self, values: Array) -> Values | None:
        """Code a vector of int8 or float32; None if this codec cannot hold it."""

    def decode(self, coded: Values, count: int, dtype: np.dtype[Any]) -> Array:
        """The vector again. Raises ValueError for a stream that does not fit."""


@dataclass(frozen=True)
class RowSpans:
    """A row directory: per row its stored elements, gap4 units and huffman bits."""

    elements: IntArray
    units: IntArray
    bits: IntArray
