"""Positions: one bit per element."""

from __future__ import annotations

import numpy as np

from zeroskip.converters.codecs import bits
from zeroskip.converters.codecs.base import BoolArray, Positions, RowSpans


class Bitmask:
    code = 1
    name = "bitmask"

    def encode(self, mask: BoolArray, by_columns: bool) -> Positions:
        return Positions(np.packbits(mask.ravel()).tobytes())

    def decode(
        self, coded: Positions, shape: tuple[int, int], count: int, rows: RowSpans | None
    ) -> BoolArray:
        mask = bits.unpack(coded.stream, shape[0] * shape[1], 1).astype(np.bool_).reshape(shape)
        if int(mask.sum()) != count:
            raise ValueError(f"bitmask has {int(mask.sum())} ones for {count} elements")
        return mask
