"""Values: codebook indices in length-limited canonical Huffman codes.

Optimal lengths under the limit come from the package-merge algorithm (Larmore and Hirschberg,
J. ACM 37, 1990). The codebook is sorted by code length, so that a code's rank among all codes
is its index and the decoder needs no symbol table: only how many codes each length has.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from zeroskip.converters.codecs import bits
from zeroskip.converters.codecs.base import Array, IntArray, Values
from zeroskip.converters.codecs.packed import MAX_CODEBOOK

MAX_CODE_LENGTH: Final = 15


def code_lengths(frequencies: IntArray, limit: int = MAX_CODE_LENGTH) -> IntArray:
    """Optimal code length of each symbol, at most `limit`, for positive frequencies.

    Needs 2 to 2**limit symbols. Ties are broken by symbol, so the result is determined.
    """
    count = frequencies.size
    if not 2 <= count <= 1 << limit:
        raise ValueError(f"{count} symbols do not fit codes of at most {limit} bits")
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

    def encode(self, values: Array) -> Values | None:
        symbols, indices, frequencies = np.unique(values, return_inverse=True, return_counts=True)
        if not 2 <= symbols.size <= MAX_CODEBOOK:
            return None
        lengths = code_lengths(frequencies)
        rank = np.argsort(lengths, kind="stable")  # codebook order: by length, then by value
        counts = tuple(int(c) for c in np.bincount(lengths)[1:])
        codes, sorted_lengths = canonical_codes(counts)
        place = np.empty_like(rank)
        place[rank] = np.arange(rank.size)
        ranks = place[indices]
        value_bits = sorted_lengths[ranks]
        stream = bits.pack(codes[ranks], value_bits)
        return Values(stream, value_bits, symbols[rank], code_counts=counts)

    def decode(self, coded: Values, count: int, dtype: np.dtype[Any]) -> Array:
        assert coded.codebook is not None
        reader = RankReader(coded.code_counts, coded.stream)
        if reader.size != coded.codebook.size:
            raise ValueError(f"{reader.size} codes for a codebook of {coded.codebook.size}")
        indices = np.fromiter((reader.next() for _ in range(count)), np.int64, count)
        return coded.codebook[indices].astype(dtype)
