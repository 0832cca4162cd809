"""Values: codebook indices in length-limited canonical Huffman codes.

Optimal lengths under the limit come from the package-merge algorithm (Larmore and Hirschberg,
J. ACM 37, 1990), which is only run where Huffman's own exceeds the limit. The codebook is sorted
by code length, so that a code's rank among all codes is its index and the decoder needs no
symbol table: only how many codes each length has.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from zeroskip.converters.codecs import bits
from zeroskip.converters.codecs.base import (
    OFFSET_BYTES,
    Array,
    Elements,
    Histogram,
    IntArray,
    SimpleValuePlan,
    Values,
    stream_record_bytes,
    var_bytes,
)
from zeroskip.converters.codecs.packed import MAX_CODEBOOK

MAX_CODE_LENGTH: Final = 15


def code_lengths(frequencies: IntArray, limit: int = MAX_CODE_LENGTH) -> IntArray:
    """Optimal code length of each symbol, at most `limit`, for positive frequencies.

    Needs 2 to 2**limit symbols. Ties are broken by symbol, so the result is determined.
    """
    count = frequencies.size
    if not 2 <= count <= 1 << limit:
        raise ValueError(f"{count} symbols do not fit codes of at most {limit} bits")
    lengths = _unlimited_lengths(frequencies)
    return lengths if int(lengths.max()) <= limit else _package_merge(frequencies, limit)


def _unlimited_lengths(frequencies: IntArray) -> IntArray:
    """Huffman's algorithm; ties go to the older node, which keeps codes short."""
    count = frequencies.size
    heap = [(int(f), node) for node, f in enumerate(frequencies)]
    heapq.heapify(heap)
    parent = np.zeros(2 * count - 1, np.int64)
    for node in range(count, 2 * count - 1):
        a, b = heapq.heappop(heap), heapq.heappop(heap)
        parent[[a[1], b[1]]] = node
        heapq.heappush(heap, (a[0] + b[0], node))
    depth = np.zeros(2 * count - 1, np.int64)
    for node in range(2 * count - 3, -1, -1):
        depth[node] = depth[parent[node]] + 1
    return depth[:count]


def _package_merge(frequencies: IntArray, limit: int) -> IntArray:
    count = frequencies.size
    order = np.argsort(frequencies, kind="stable")
    leaves = [(int(frequencies[s]), (int(s),)) for s in order]
    packages: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(limit - 1):
        merged = sorted(leaves + packages, key=lambda item: item[0])
        packages = [
            (a[0] + b[0], a[1] + b[1]) for a, b in zip(merged[::2], merged[1::2], strict=False)
        ]
    lengths = np.zeros(count, np.int64)
    for _, symbols in sorted(leaves + packages, key=lambda item: item[0])[: 2 * count - 2]:
        np.add.at(lengths, list(symbols), 1)
    return lengths


@dataclass(frozen=True)
class Code:
    """A canonical code: of each symbol, ascending, its code and length."""

    symbols: Array
    lengths: IntArray
    codes: IntArray
    counts: tuple[int, ...]  # codes of length 1, 2 ...

    @classmethod
    def of(cls, histogram: Histogram) -> Code:
        """The optimal code. Needs 2 to 2^15 symbols."""
        lengths = code_lengths(histogram.counts)
        counts = tuple(int(c) for c in np.bincount(lengths)[1:])
        codes = np.empty_like(lengths)
        codes[np.argsort(lengths, kind="stable")] = canonical_codes(counts)[0]
        return cls(histogram.symbols, lengths, codes, counts)

    @property
    def symbols_by_rank(self) -> Array:
        """By length, then by value: the index of a symbol is the rank of its code."""
        return self.symbols[np.argsort(self.lengths, kind="stable")]

    def table(self, of_symbols: IntArray, size: int) -> Array:
        """A table of `size` entries by symbol, which are small integers here."""
        result = np.zeros(size, np.uint16)
        result[self.symbols] = of_symbols
        return result


def canonical_codes(counts: tuple[int, ...]) -> tuple[IntArray, IntArray]:
    """(codes, lengths) of all symbols in rank order, given the number of codes per length.

    Raises ValueError if the code is not complete (Kraft's sum is not 1).
    """
    codes: list[int] = []
    lengths: list[int] = []
    code = 0
    for length, count in enumerate(counts, start=1):
        code <<= 1
        codes.extend(range(code, code + count))
        lengths.extend([length] * count)
        code += count
    if not counts or code != 1 << len(counts):
        raise ValueError(f"code lengths {counts} do not make a complete code")
    return np.array(codes, np.int64), np.array(lengths, np.int64)


class RankReader:
    """Reads the ranks of canonical codes from a stream."""

    def __init__(self, counts: tuple[int, ...], stream: bytes) -> None:
        codes, lengths = canonical_codes(counts)
        pairs = zip(lengths.tolist(), codes.tolist(), strict=True)
        self.size = codes.size
        self._ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self._bits = np.unpackbits(np.frombuffer(stream, np.uint8)).tolist()
        self._at = 0

    def next(self) -> int:
        """Raises ValueError past the end of the stream."""
        word = length = 0
        while (length, word) not in self._ranks:
            if self._at == len(self._bits):
                raise ValueError("stream ends inside a code")
            word = word << 1 | self._bits[self._at]
            length += 1
            self._at += 1
        return self._ranks[length, word]


class Huffman:
    code = 2
    name = "huffman"

    def plan(self, elements: Elements, table: Histogram | None = None) -> SimpleValuePlan | None:
        table = table or elements.histogram
        if not 2 <= table.symbols.size <= MAX_CODEBOOK:
            return None
        code = Code.of(table)
        counts = elements.histogram.within(table)
        size = bits.byte_count(int((code.lengths * counts).sum()))

        def make() -> Values:
            codes = elements.mapped(code.symbols, code.codes.astype(np.uint16))
            lengths = elements.mapped(code.symbols, code.lengths.astype(np.uint8))
            return Values(bits.pack(codes, lengths), code.symbols_by_rank, code_counts=code.counts)

        return SimpleValuePlan(
            size,
            make,
            table_bytes=table.symbols.nbytes,
            record_bytes=stream_record_bytes(size)
            + var_bytes(table.symbols.size, *code.counts)
            + OFFSET_BYTES
            + 1,
            bits_by_row=lambda rows: elements.row_sums(rows, code.symbols, code.lengths),
        )

    def decode(self, coded: Values, count: int, dtype: np.dtype[Any]) -> Array:
        assert coded.codebook is not None
        reader = RankReader(coded.code_counts, coded.stream)
        if reader.size != coded.codebook.size:
            raise ValueError(f"{reader.size} codes for a codebook of {coded.codebook.size}")
        indices = np.fromiter((reader.next() for _ in range(count)), np.int64, count)
        return coded.codebook[indices].astype(dtype)
