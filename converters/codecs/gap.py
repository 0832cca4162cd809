"""Positions: Huffman-coded runs of zeros (Deep Compression, Han et al., ICLR 2016, section 4).

A run of the longest length, the escape, stores no element. Several escapes are tried.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from zeroskip.converters.codecs import bits
from zeroskip.converters.codecs.base import BoolArray, IntArray, Positions, RowSpans
from zeroskip.converters.codecs.huffman import RankReader, canonical_codes, code_lengths

ESCAPES: Final = (7, 15, 31, 63, 127, 255)


class Gap:
    code = 4
    name = "gap"

    def encode(self, mask: BoolArray, by_columns: bool) -> Positions | None:
        gaps, row = gaps_of(mask, by_columns)
        options = [_encode(gaps, row, mask.shape[0], escape, by_columns) for escape in ESCAPES]
        present = [option for option in options if option is not None]
        return min(present, key=Positions.size_with_tables, default=None)

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


def gaps_of(mask: BoolArray, by_columns: bool) -> tuple[IntArray, IntArray]:
    """(zeros before each element, row of each element); by columns each row starts afresh."""
    cols = mask.shape[1]
    flat = np.flatnonzero(mask)
    row = flat // cols
    if flat.size == 0:
        return flat, row
    previous = np.concatenate(([-1], flat[:-1]))
    if by_columns:
        first = np.concatenate(([True], row[1:] != row[:-1]))
        previous = np.where(first, row * cols - 1, previous)
    return flat - previous - 1, row


def with_escapes(gaps: IntArray, escape: int) -> tuple[IntArray, IntArray]:
    """(units, units per element): each gap as escapes and a rest below `escape`."""
    lengths = gaps // escape + 1
    units = np.full(int(lengths.sum()), escape, np.int64)
    units[np.cumsum(lengths) - 1] = gaps % escape
    return units, lengths


def _encode(
    gaps: IntArray, row: IntArray, rows: int, escape: int, by_columns: bool
) -> Positions | None:
    units, lengths = with_escapes(gaps, escape)
    symbols, indices, frequencies = np.unique(units, return_inverse=True, return_counts=True)
    if symbols.size < 2:
        return None
    code_length = code_lengths(frequencies)
    rank = np.argsort(code_length, kind="stable")
    counts = tuple(int(c) for c in np.bincount(code_length)[1:])
    codes, sorted_lengths = canonical_codes(counts)
    place = np.empty_like(rank)
    place[rank] = np.arange(rank.size)
    ranks = place[indices]
    unit_bits = sorted_lengths[ranks]
    row_bits = None
    if by_columns:
        unit_row = np.repeat(row, lengths)
        row_bits = np.bincount(unit_row, weights=unit_bits, minlength=rows).astype(np.int64)
    return Positions(
        bits.pack(codes[ranks], unit_bits),
        row_bits,
        gaps=symbols[rank].astype(np.uint8),
        gap_escape=escape,
        code_counts=counts,
    )
