"""Positions: 4-bit runs of zeros between stored elements.

EIE (Han et al., ISCA 2016, section 3) stores a filler element after its longest run; here the
longest run, 15, stores no element, so that it costs half a byte and never a value.
"""

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
from zeroskip.converters.codecs.gap import with_escapes

ESCAPE = 15


class Gap4:
    code = 2
    name = "gap4"

    def plan(self, mask: Mask) -> SimplePlan:
        gaps = mask.gap_histogram
        units = int((gaps.counts * (gaps.symbols // ESCAPE + 1)).sum())
        size = bits.byte_count(4 * units)
        return SimplePlan(
            size,
            lambda: Positions(bits.pack(with_escapes(mask.gaps, ESCAPE), 4)),
            record_bytes=stream_record_bytes(size),
            row_units=mask.per_row(mask.gaps // ESCAPE + 1) if mask.by_columns else None,
        )

    def decode(
        self, coded: Positions, shape: tuple[int, int], count: int, rows: RowSpans | None
    ) -> BoolArray:
        total = int(rows.units.sum()) if rows is not None else len(coded.stream) * 2
        units = bits.unpack(coded.stream, total, 4).astype(np.int64)
        stored = units < ESCAPE
        ends = np.cumsum(units + stored)  # one past each stored element
        if rows is not None:  # restart at each row
            row = np.repeat(np.arange(shape[0]), rows.units)
            starts = np.cumsum(rows.units) - rows.units
            before = np.concatenate(([0], ends))[starts]
            ends = ends - before[row] + row * shape[1]
        positions = ends[stored][:count] - 1
        mask = np.zeros(shape[0] * shape[1], np.bool_)
        if positions.size != count or (count and int(positions.max()) >= mask.size):
            raise ValueError(f"runs do not place {count} elements in {shape[0]} x {shape[1]}")
        mask[positions] = True
        return mask.reshape(shape)
