"""Codebooks and code tables that several weight matrices share, where that is smaller.

One table for two matrices costs their indices what their distributions differ, and saves a
table. Groups of matrices are merged greedily, best pair first, by costs from histograms; a group
is kept if its encoded bytes are fewer than before. The container stores equal tables once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from zeroskip.converters.codecs import EncodedMatrix, candidates
from zeroskip.converters.codecs.ans_values import VALUE_BITS, Table
from zeroskip.converters.codecs.base import Array, Histogram, histogram
from zeroskip.converters.codecs.huffman import Code
from zeroskip.converters.codecs.packed import MAX_CODEBOOK

SHARING: Final = ("huffman", "ans")
_SLACK: Final = 16.0  # bytes by which entropies may mislead about codes


@dataclass(frozen=True, eq=False)  # a key, by identity
class _Group:
    """Matrices of one value codec and dtype, and the bytes of their indices and one table."""

    names: tuple[str, ...]
    codec: str
    counts: Histogram
    cost: float
    table_bytes: float

    @classmethod
    def of(cls, names: tuple[str, ...], codec: str, counts: Histogram) -> _Group:
        if codec == "huffman":
            code = Code.of(counts)
            bits = float((code.lengths * counts.counts).sum())
            # the codebook is shared, the number of codes of each length is in each record
            own = float(len(code.counts))
            table_bytes = float(counts.symbols.nbytes)
        else:
            table = Table.of(counts)
            order = np.argsort(table.codebook, kind="stable")
            saved = np.log2(table.frequencies[order])
            bits = float((counts.counts * (VALUE_BITS - saved)).sum())
            own, table_bytes = 0.0, float(table.size)
        cost = bits / 8 + table_bytes + own * len(names)
        return cls(names, codec, counts, cost, table_bytes)

    def gain(self, other: _Group) -> tuple[float, _Group | None]:
        """Bytes saved by one table for both, and the group of both, or None if none are."""
        if self.codec != other.codec or self.counts.symbols.dtype != other.counts.symbols.dtype:
            return 0.0, None
        both = self.counts.plus(other.counts)
        if both.symbols.size > MAX_CODEBOOK:
            return 0.0, None
        apart = _entropy_bytes(self.counts) + _entropy_bytes(other.counts)
        at_most = max(self.table_bytes, other.table_bytes) + _SLACK
        if _entropy_bytes(both) - apart > at_most:
            return 0.0, None
        merged = _Group.of(self.names + other.names, self.codec, both)
        return self.cost + other.cost - merged.cost, merged


def share(
    matrices: Mapping[str, Array], encoded: Mapping[str, EncodedMatrix]
) -> dict[str, EncodedMatrix]:
    """`encoded`, with tables shared where fewer bytes are stored.

    `matrices` (rows, cols) are what was encoded, by the same names. Codecs and positions stay.
    """
    result = dict(encoded)
    for group in _merged(matrices, encoded):
        before = [encoded[name] for name in group.names]
        after = [_with_table(matrices[name], encoded[name], group.counts) for name in group.names]
        if stored_bytes(after) < stored_bytes(before):
            result.update(zip(group.names, after, strict=True))
    return result


def stored_bytes(encoded: Iterable[EncodedMatrix]) -> int:
    """Bytes of several matrices in one container: equal tables are stored once."""
    total = 0
    tables: dict[bytes, int] = {}
    for e in encoded:
        total += e.bytes
        table = e.coded.table or (b"" if e.coded.codebook is None else e.coded.codebook.tobytes())
        total -= len(table)
        tables[table] = len(table)
    return total + sum(tables.values())


def _merged(matrices: Mapping[str, Array], encoded: Mapping[str, EncodedMatrix]) -> list[_Group]:
    """Groups of more than one matrix."""
    groups = [
        _Group.of((name,), e.values, _stored_values(matrices[name], e))
        for name, e in encoded.items()
        if e.values in SHARING
    ]
    gains = {(a, b): a.gain(b) for i, a in enumerate(groups) for b in groups[i + 1 :]}
    gains = {pair: found for pair, found in gains.items() if found[0] > 0}
    while gains:
        (a, b), (_, both) = max(gains.items(), key=lambda item: item[1][0])
        assert both is not None
        groups = [g for g in groups if g is not a and g is not b]
        gains = {pair: found for pair, found in gains.items() if a not in pair and b not in pair}
        for other in groups:
            found = both.gain(other)
            if found[0] > 0:
                gains[both, other] = found
        groups.append(both)
    return [group for group in groups if len(group.names) > 1]


def _stored_values(matrix: Array, encoded: EncodedMatrix) -> Histogram:
    dense = encoded.positions == "dense"
    return histogram(matrix.ravel() if dense else matrix[matrix != encoded.zero_point])


def _with_table(matrix: Array, e: EncodedMatrix, table: Histogram) -> EncodedMatrix:
    (pair,) = candidates(
        matrix, e.zero_point, e.by_columns, positions=e.positions, values=e.values, table=table
    )
    return pair.encode()


def _entropy_bytes(counts: Histogram) -> float:
    n = counts.counts.astype(np.float64)
    return float(-(n * np.log2(n / n.sum())).sum()) / 8
