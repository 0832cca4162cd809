"""Positions: one bit per element."""

from __future__ import annotations

import numpy as np

from zeroskip.converters.codecs import bits
from zeroskip.converters.codecs.base import (
    BoolArray,
    Mask,
    Positions,
    RowSpans,
    SimplePlan,
    stream_record_bytes,
)


class Bitmask:
    code = 1
    name = "bitmask"

    def plan(self, mask: Mask) -> SimplePlan:
        size = bits.byte_count(mask.shape[0] * mask.shape[1])
        return SimplePlan(
            size,
            lambda: Positions(np.packbits(mask.bits.ravel()).tobytes()),
            record_bytes=stream_record_bytes(size),
        )

    def decode(
        self, coded: Positions, shape: tuple[int, int], count: int, rows: RowSpans | None
    ) -> BoolArray:
        mask = bits.unpack(coded.stream, shape[0] * shape[1], 1).astype(np.bool_).reshape(shape)
        if int(mask.sum()) != count:
            raise ValueError(f"bitmask has {int(mask.sum())} ones for {count} elements")
        return mask
