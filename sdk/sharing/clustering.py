"""k-means of scalars, for weight sharing. numpy only.

Lloyd's iteration on sorted values: clusters are intervals, so one iteration is a binary search
of the k - 1 boundaries and differences of prefix sums, and O(n log n) in all comes from sorting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from zeroskip.errors import InputError, MissingToolError

INITS: Final = ("linear", "density", "forgy", "optimal")
MAX_CENTROIDS: Final = 256

_ITERATIONS: Final = 300
_OPTIMAL_CELLS: Final = 1 << 26  # of the n * k table of the exact algorithm, 16 bytes each

_Float64 = npt.NDArray[np.float64]
_Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Clustering:
    """k clusters of values (N,): `centroids` ascending (k,), `labels` (N,) in 0..k-1, and
    `inertia`, the sum of squared distances."""

    centroids: _Float64
    labels: _Int64
    inertia: float


def cluster(
    values: npt.ArrayLike, centroids: int, init: str = "linear", seed: int = 0
) -> Clustering:
    """Cluster scalars (N,) around at most `centroids` of them, N at least 1.

    `init`: "linear" (evenly spaced between the extremes), "density" (evenly spaced on the axis
    of the cumulative distribution), "forgy" (values drawn with `seed`), all three followed by
    Lloyd's iteration to convergence as in Han et al. 2016, section 3; or "optimal", the global
    minimum of the inertia (needs the package kmeans1d).

    With no more distinct values than `centroids`, the distinct values are the centroids.
    Raises InputError for bad arguments or values that are not finite.
    """
    data = np.asarray(values, np.float64).ravel()
    if init not in INITS:
        raise InputError(f"k-means init '{init}' must be one of {', '.join(INITS)}")
    if centroids < 1:
        raise InputError(f"k-means needs at least 1 centroid, not {centroids}")
    if not data.size:
        raise InputError("k-means needs at least one value")
    if not np.isfinite(data).all():
        raise InputError("k-means: the values hold NaN or infinity")
    distinct, inverse = np.unique(data, return_inverse=True)
    if distinct.size <= centroids:
        return Clustering(distinct, inverse.reshape(-1).astype(np.int64), 0.0)
    if init == "optimal":
        return _finish(data, _optimal(data, centroids))
    ordered = np.sort(data)
    return _finish(data, _lloyd(ordered, _start(ordered, distinct, centroids, init, seed)))


def _start(ordered: _Float64, distinct: _Float64, k: int, init: str, seed: int) -> _Float64:
    if init == "linear":
        return np.linspace(float(ordered[0]), float(ordered[-1]), k)
    if init == "density":
        # The middles of k slices of equal weight.
        ranks = ((np.arange(k) + 0.5) / k * ordered.size).astype(np.int64)
        return np.asarray(ordered[ranks])
    generator = np.random.default_rng(seed)
    return np.sort(generator.choice(distinct, size=k, replace=False))


def _lloyd(ordered: _Float64, start: _Float64) -> _Float64:
    """Iterate from `start` until the clusters stay the same."""
    # Centred, so that the prefix sums keep their precision.
    middle = float(ordered.mean())
    shifted = ordered - middle
    sums = np.concatenate([[0.0], np.cumsum(shifted)])
    centroids = np.sort(start) - middle
    before: _Int64 | None = None
    for _ in range(_ITERATIONS):
        edges = _edges(shifted, centroids)
        if before is not None and np.array_equal(edges, before):
            break
        before = edges
        counts = np.diff(edges)
        full = counts > 0
        centroids = centroids.copy()
        centroids[full] = np.diff(sums[edges])[full] / counts[full]
        if not full.all():
            centroids = _refill(shifted, centroids, edges, full)
    return centroids + middle


def _edges(ordered: _Float64, centroids: _Float64) -> _Int64:
    """Where each cluster begins, and N: (k + 1,)."""
    boundaries = (centroids[1:] + centroids[:-1]) / 2
    inside = np.searchsorted(ordered, boundaries, side="right")
    return np.concatenate([[0], inside, [ordered.size]]).astype(np.int64)


def _refill(
    ordered: _Float64, centroids: _Float64, edges: _Int64, full: npt.NDArray[np.bool_]
) -> _Float64:
    """Put the centroids of empty clusters on the values farthest from their own centroid."""
    distance = np.abs(ordered - np.repeat(centroids, np.diff(edges)))
    result = centroids[full]
    for _ in range(int((~full).sum())):
        worst = int(np.argmax(distance))
        result = np.append(result, ordered[worst])
        distance = np.minimum(distance, np.abs(ordered - ordered[worst]))
    return np.sort(result)


def _optimal(data: _Float64, k: int) -> _Float64:
    try:
        import kmeans1d
    except ImportError:
        raise MissingToolError(
            "k-means init 'optimal' needs kmeans1d; run: pip install 'zeroskip[sharing]'"
        ) from None
    if data.size * k > _OPTIMAL_CELLS:
        raise InputError(
            f"k-means init 'optimal' of {data.size} values and {k} centroids takes more than "
            f"{_OPTIMAL_CELLS >> 26} GB; use 'linear'"
        )
    return np.sort(np.asarray(kmeans1d.cluster(data, k).centroids, np.float64))


def _finish(data: _Float64, centroids: _Float64) -> Clustering:
    """Nearest centroids, without those that nobody is nearest to."""
    found = np.unique(centroids)
    labels = np.searchsorted((found[1:] + found[:-1]) / 2, data, side="left")
    used, labels = np.unique(labels, return_inverse=True)
    found = found[used]
    labels = labels.reshape(-1).astype(np.int64)
    return Clustering(found, labels, float(np.square(data - found[labels]).sum()))
