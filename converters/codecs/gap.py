"""Positions: Huffman-coded runs of zeros (Deep Compression, Han et al., ICLR 2016, section 4).

A run of the longest length, the escape, stores no element. Several escapes are tried.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from zeroskip.converters.codecs import bits
from zeroskip.converters.codecs.base import (
    OFFSET_BYTES,
    Array,
    BoolArray,
    Histogram,
    IntArray,
    Mask,
    Positions,
    RowSpans,
    SimplePlan,
    stream_record_bytes,
    var_bytes,
)
from zeroskip.converters.codecs.huffman import Code, RankReader

ESCAPES: Final = (7, 15, 31, 63, 127, 255)


class Gap:
    code = 4
    name = "gap"

    def plan(self, mask: Mask) -> SimplePlan | None:
        options = [_plan(mask, escape) for escape in ESCAPES]
        present = [option for option in options if option is not None]
        return min(
            present, key=lambda p: p.stream_bytes + p.table_bytes + p.record_bytes, default=None
        )

    def decode(
        self, coded: Positions, shape: tuple[int, int], count: int, rows: RowSpans | None
    ) -> BoolArray:
        reader = RankReader(coded.code_counts, coded.stream)
        assert coded.gaps is not None
        if reader.size != coded.gaps.size:
            raise ValueError(f"{reader.size} codes for {coded.gaps.size} runs")
        mask = np.zeros(shape, np.bool_)
        # By columns each row starts afresh; otherwise runs cross rows, as in one long row.
        spans = [(0, count)] if rows is None else list(enumerate(rows.elements.tolist()))
        for row, elements in spans:
            position = row * shape[1]
            for _ in range(elements):
                while (gap := int(coded.gaps[reader.next()])) == coded.gap_escape:
                    position += gap
                position += gap
                if position >= mask.size:
                    raise ValueError(f"runs do not place {count} elements in {shape}")
                mask.flat[position] = True
                position += 1
        return mask


def with_escapes(gaps: IntArray, escape: int) -> Array:
    """Units: each gap as escapes and a rest below `escape`."""
    lengths = gaps // escape + 1
    units = np.full(int(lengths.sum()), escape, np.uint8)
    units[np.cumsum(lengths) - 1] = gaps % escape
    return units


def _unit_histogram(gaps: Histogram, escape: int) -> Histogram:
    """How often each unit occurs, from how often each gap does."""
    counts = np.bincount(gaps.symbols % escape, weights=gaps.counts, minlength=escape + 1)
    counts[escape] = (gaps.counts * (gaps.symbols // escape)).sum()
    present = np.flatnonzero(counts)
    return Histogram(present, counts[present].astype(np.int64))


def _plan(mask: Mask, escape: int) -> SimplePlan | None:
    units = _unit_histogram(mask.gap_histogram, escape)
    if units.symbols.size < 2:
        return None
    code = Code.of(units)
    size = bits.byte_count(int((code.lengths * units.counts).sum()))

    def make() -> Positions:
        sequence = with_escapes(mask.gaps, escape)
        return Positions(
            bits.pack(
                code.table(code.codes, escape + 1)[sequence],
                code.table(code.lengths, escape + 1)[sequence],
            ),
            gaps=code.symbols_by_rank.astype(np.uint8),
            gap_escape=escape,
            code_counts=code.counts,
        )

    row_units = None
    if mask.by_columns:
        length = code.table(code.lengths, escape + 1)
        row_units = mask.per_row(
            length[mask.gaps % escape] + mask.gaps // escape * int(length[escape])
        )
    return SimplePlan(
        size,
        make,
        table_bytes=units.symbols.size,
        record_bytes=stream_record_bytes(size)
        + var_bytes(units.symbols.size, *code.counts)
        + OFFSET_BYTES
        + 2,
        row_units=row_units,
    )
