"""Weight scales that keep weight sharing.

Shared weights (Han et al. 2016, "Deep Compression") come from a small codebook of centroids.
If each output channel had a scale of its own, one centroid would become a different integer in
each channel and the tensor would no longer have a small codebook. So:

* A tensor whose non-zero weights have at most 256 distinct values, each used four times on
  average or more, gets one scale for the whole tensor.
* A tensor whose channels are multiples of one such codebook (shared weights with a batch-norm
  folded in, which scales each channel) gets scales with the same multiples: equal centroids
  become equal integers again.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from zeroskip.converters.ir import Array

MAX_CENTROIDS: Final = 256
USES_PER_CENTROID: Final = 4
_TOLERANCE: Final = 1e-6  # relative; folding rounds twice to 2**-24
_MOST_DISTINCT: Final = 0.8  # of the non-zero weights of a channel, on average
_MATCHES_TO_EXTEND: Final = 3

_Float64 = npt.NDArray[np.float64]


def codebook_scales(weight: Array, largest: int) -> _Float64 | None:
    """One scale per output channel of float weights (O, ...), such that the largest centroid
    maps to `largest`; None when the weights come from no codebook."""
    rows = weight.astype(np.float64).reshape(weight.shape[0], -1)
    values = rows[rows != 0]
    if not values.size:
        return None
    distinct = np.unique(values)
    limit = min(MAX_CENTROIDS, values.size // USES_PER_CENTROID)
    if distinct.size <= limit:
        return np.full(len(rows), np.abs(distinct).max() / largest)
    factors = _factors([np.unique(row[row != 0]) for row in rows], int(values.size), limit)
    if factors is None:
        return None
    multiples, top = factors
    return multiples * top / largest


def _factors(rows: list[_Float64], nonzeros: int, limit: int) -> tuple[_Float64, float] | None:
    """(|factor| per row, largest centroid) with row = factor * centroids; None if there is no
    such codebook of at most `limit` values. `rows` hold the distinct non-zero values."""
    if limit < 2 or sum(row.size for row in rows) > _MOST_DISTINCT * nonzeros:
        return None
    order = sorted(range(len(rows)), key=lambda i: -rows[i].size)
    codebook = rows[order[0]]
    if codebook.size > limit:
        return None
    factors = np.ones(len(rows))
    waiting = [i for i in order[1:] if rows[i].size]
    while waiting:
        left: list[int] = []
        for i in waiting:
            match = _match(rows[i], codebook)
            if match is None:
                left.append(i)
                continue
            factors[i] = abs(match)
            codebook = _extended(codebook, rows[i] / match)
            if codebook.size > limit:
                return None
        if len(left) == len(waiting):
            return None
        waiting = left
    return factors, float(np.abs(codebook).max())


def _known(values: _Float64, codebook: _Float64) -> npt.NDArray[np.bool_]:
    """Which of the values (any shape) are in the ascending codebook, within the tolerance."""
    above = np.clip(np.searchsorted(codebook, values), 0, codebook.size - 1)
    below = np.maximum(above - 1, 0)
    error = np.minimum(np.abs(values - codebook[above]), np.abs(values - codebook[below]))
    return np.asarray(error <= _TOLERANCE * np.abs(values))


def _match(row: _Float64, codebook: _Float64) -> float | None:
    """The factor that makes `row` a part of the codebook, or nearly: large centroids first."""
    reference = row[np.argmax(np.abs(row))]
    centroids = codebook[np.argsort(-np.abs(codebook), kind="stable")]
    candidates = reference / centroids
    hits = _known(row / candidates[:, None], codebook).sum(axis=1)
    best = int(np.argmax(hits))  # the first of equals
    if hits[best] < row.size and hits[best] < max(_MATCHES_TO_EXTEND, 0.6 * row.size):
        return None
    return float(candidates[best])


def _extended(codebook: _Float64, values: _Float64) -> _Float64:
    return np.sort(np.concatenate([codebook, values[~_known(values, codebook)]]))
