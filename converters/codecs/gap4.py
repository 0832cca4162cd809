"""Positions: 4-bit runs of zeros between stored elements.

EIE (Han et al., ISCA 2016, section 3) stores a filler element after its longest run; here the
longest run, 15, stores no element, so that it costs half a byte and never a value.
"""

from __future__ import annotations

import numpy as np

from zeroskip.converters.codecs import bits
from zeroskip.converters.codecs.base import BoolArray, Positions, RowSpans

ESCAPE = 15


class Gap4:
    code = 2
    name = "gap4"

    def encode(self, mask: BoolArray, by_columns: bool) -> Positions:
        rows, cols = mask.shape
        flat = np.flatnonzero(mask)
        previous = np.concatenate(([-1], flat[:-1]))
        if by_columns:  # each row starts afresh
            row = flat // cols
            first = np.concatenate(([True], row[1:] != row[:-1])) if flat.size else flat > 0
            previous = np.where(first, row * cols - 1, previous[: flat.size])
        gaps = flat - previous[: flat.size] - 1
        escapes, run = gaps // ESCAPE, gaps % ESCAPE
        lengths = escapes + 1
        units = np.full(int(lengths.sum()), ESCAPE, np.uint32)
        units[np.cumsum(lengths) - 1] = run
        row_units = np.bincount(flat // cols, weights=lengths, minlength=rows).astype(np.int64)
        return Positions(bits.pack(units, 4), row_units if by_columns else None)

    def decode(
        self, stream: bytes, shape: tuple[int, int], count: int, rows: RowSpans | None
    ) -> BoolArray:
        total = int(rows.units.sum()) if rows is not None else len(stream) * 2
        units = bits.unpack(stream, total, 4).astype(np.int64)
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
