"""Classes of rows and columns by how much of them is stored.

Rows and columns are first put into at most 64 groups of like density, so that the search works
on a small table of counts whatever the matrix. Groups go to classes so that the mask takes the
fewest bits: an optimal cut of the densities of each side (dynamic programming), then both sides
in turn to the class where a group is cheapest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from zeroskip.converters.codecs.base import IntArray, Mask

GROUPS: Final = 64
ROUNDS: Final = 4

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Classes:
    """The class of each row and column, and of each pair of classes its elements and those
    that are stored (row classes, column classes)."""

    rows: IntArray
    cols: IntArray
    area: IntArray
    ones: IntArray


def classify(mask: Mask, most: int) -> Iterator[Classes]:
    """A division for each number of row classes and of column classes up to `most`."""
    cols = mask.shape[1]
    col_counts = np.bincount(mask.flat - mask.rows * cols, minlength=cols)
    row_group, col_group = _groups(mask.row_counts), _groups(col_counts)
    width = int(col_group.max()) + 1
    height = int(row_group.max()) + 1
    pairs = row_group[mask.rows] * width + col_group[mask.flat - mask.rows * cols]
    ones = np.bincount(pairs, minlength=height * width).reshape(height, width)
    table = _Table(ones, np.bincount(row_group), np.bincount(col_group))
    seen = set()
    for r in range(1, min(most, height) + 1):
        for c in range(1, min(most, width) + 1):
            of_rows, of_cols = table.divide(r, c)
            key = (of_rows.tobytes(), of_cols.tobytes())
            if key not in seen:
                seen.add(key)
                area, stored = table.counts(of_rows, of_cols)
                yield Classes(of_rows[row_group], of_cols[col_group], area, stored)


def _groups(counts: IntArray) -> IntArray:
    """A group for each line: ascending count, empty lines apart, at most GROUPS in all."""
    distinct, level = np.unique(counts, return_inverse=True)
    if distinct.size <= GROUPS:
        return level.astype(np.int64)
    below = np.searchsorted(np.sort(counts), distinct)  # lines of smaller count
    first = int((counts == 0).sum())
    quantile = (below - first) * (GROUPS - 1) // max(1, counts.size - first)
    group = np.where(distinct == 0, 0, quantile + 1)
    return _numbered(group[level])


def _numbered(labels: IntArray) -> IntArray:
    """The same division with labels 0, 1, 2 ..."""
    return np.asarray(np.unique(labels, return_inverse=True)[1], np.int64)


class _Table:
    """Counts of stored elements by row group and column group, and the lines of each group."""

    def __init__(self, ones: IntArray, rows: IntArray, cols: IntArray) -> None:
        self._ones = ones
        self._rows = rows
        self._cols = cols

    def counts(self, of_rows: IntArray, of_cols: IntArray) -> tuple[IntArray, IntArray]:
        """(elements, stored elements) of each pair of classes."""
        by_row, by_col = _members(of_rows), _members(of_cols)
        area = np.outer(by_row @ self._rows, by_col @ self._cols)
        return area, by_row @ self._ones @ by_col.T

    def divide(self, row_classes: int, col_classes: int) -> tuple[IntArray, IntArray]:
        """The class of each row group and column group."""
        rows, cols = self._rows, self._cols
        of_rows = _cut(self._ones.sum(axis=1), rows * int(cols.sum()), row_classes)
        of_cols = _cut(self._ones.sum(axis=0), cols * int(rows.sum()), col_classes)
        if row_classes == 1 or col_classes == 1:
            return of_rows, of_cols
        for _ in range(ROUNDS):
            of_rows = _assign(self._ones, rows, cols, of_rows, of_cols)
            of_cols = _assign(self._ones.T, cols, rows, of_cols, of_rows)
        return of_rows, of_cols


def _members(classes: IntArray) -> IntArray:
    """(classes, groups): 1 where a group is in a class."""
    members: IntArray = (classes == np.arange(int(classes.max()) + 1)[:, None]).astype(np.int64)
    return members


def _bits(ones: FloatArray, area: FloatArray) -> FloatArray:
    """Bits of an area with so many ones at their own probability."""
    p = np.clip(ones / np.maximum(area, 1), 1e-12, 1 - 1e-12)
    result: FloatArray = -ones * np.log2(p) - (area - ones) * np.log2(1 - p)
    return result


def _cut(ones: IntArray, area: IntArray, classes: int) -> IntArray:
    """Groups in ascending density cut into so many runs of the fewest bits."""
    n = ones.size
    sums = np.concatenate(([0.0], np.cumsum(ones)))
    areas = np.concatenate(([0.0], np.cumsum(area)))
    cost = np.full((n + 1, n + 1), np.inf)  # of the groups begin ... end - 1 as one class
    for begin in range(n):
        ends = np.arange(begin + 1, n + 1)
        cost[begin, ends] = _bits(sums[ends] - sums[begin], areas[ends] - areas[begin])
    best = cost[0]
    cuts = []
    for _ in range(classes - 1):
        options = best[:, None] + cost
        cuts.append(np.argmin(options, axis=0))
        best = options.min(axis=0)
    edges = [n]
    for cut in cuts[::-1]:
        edges.append(int(cut[edges[-1]]))
    inner = np.array(edges[:0:-1], np.int64)
    return np.searchsorted(inner, np.arange(n), side="right").astype(np.int64)


def _assign(
    ones: IntArray, lines: IntArray, others: IntArray, current: IntArray, of_others: IntArray
) -> IntArray:
    """Each group of lines to the class where it takes the fewest bits, as things stand."""
    members, other = _members(current), _members(of_others)
    widths = other @ others
    stored = ones @ other.T  # (groups, other classes)
    size = np.outer(lines, widths)
    p = (members @ stored) / np.maximum(1, members @ size)
    p = np.clip(p, 1e-12, 1 - 1e-12)
    share = (members @ lines) / lines.sum()
    cost = -stored @ np.log2(p).T - (size - stored) @ np.log2(1 - p).T
    cost -= np.outer(lines, np.log2(share))
    return _numbered(np.argmin(cost, axis=1))
