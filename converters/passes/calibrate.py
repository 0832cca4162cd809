"""Value ranges of activations from calibration data: minimum and maximum, or clipped ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from zeroskip.converters import reference
from zeroskip.converters.ir import Array, Graph
from zeroskip.errors import InputError

_BINS: Final = 2048
_BATCH_BYTES: Final = 64 << 20  # of activations held at once
_STEPS: Final = 255  # int8 has 256 levels
_FRACTIONS_ONE_SIDE: Final = 100
_FRACTIONS_TWO_SIDES: Final = 25
_SMALLEST_FRACTION: Final = 0.2

_Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Range:
    """Real values from `low` to `high`, zero included."""

    low: float = 0.0
    high: float = 0.0

    def __or__(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))


def check_data(graph: Graph, calibration: Array | Sequence[Array]) -> list[Array]:
    """Calibration data as one float32 array (N, *shape) per graph input.

    Raises InputError when the data does not fit the graph or is not finite.
    """
    several = [calibration] if isinstance(calibration, np.ndarray) else list(calibration)
    if len(several) != len(graph.inputs):
        raise InputError(
            f"model '{graph.name}' has {len(graph.inputs)} inputs, "
            f"the calibration data has {len(several)} arrays"
        )
    arrays: list[Array] = []
    for name, given in zip(graph.inputs, several, strict=True):
        shape = graph.tensors[name].shape
        array = np.asarray(given)
        if array.dtype.kind not in "fiu" or array.shape[1:] != shape or not len(array):
            raise InputError(
                f"calibration data for input '{name}' is {array.dtype} of shape {array.shape}; "
                f"it must be numbers of shape (N, {', '.join(map(str, shape))}) with N >= 1"
            )
        array = array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise InputError(f"calibration data for input '{name}' holds NaN or infinity")
        arrays.append(array)
    if len({len(array) for array in arrays}) != 1:
        counts = [len(array) for array in arrays]
        raise InputError(f"calibration arrays differ in their number of samples: {counts}")
    return arrays


def activations(graph: Graph, inputs: Sequence[Array]) -> Iterator[Mapping[str, Array]]:
    """The activations of a graph by name, in batches."""
    names = (*graph.inputs, *(op.output for op in graph.ops))
    sample_bytes = sum(graph.tensors[name].nbytes for name in names)
    count = min(max(_BATCH_BYTES // sample_bytes, 1), 256)
    for start in range(0, len(inputs[0]), count):
        yield reference.run_all(graph, [array[start : start + count] for array in inputs])


def observe(graph: Graph, inputs: Sequence[Array]) -> dict[str, Range]:
    """The range of each activation of a float graph over the inputs.

    Raises InputError when an activation becomes NaN or infinite.
    """
    ranges: dict[str, Range] = {}
    for values in activations(graph, inputs):
        for name, array in values.items():
            low, high = float(array.min()), float(array.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise InputError(f"tensor '{name}' becomes NaN or infinite on the calibration data")
            seen = Range(min(low, 0.0), max(high, 0.0))
            ranges[name] = ranges[name] | seen if name in ranges else seen
    return ranges


def clip(
    graph: Graph, inputs: Sequence[Array], group: Mapping[str, str], ranges: Mapping[str, Range]
) -> dict[str, Range]:
    """Ranges, by group, that minimise the mean squared error of 8-bit quantisation.

    `group` maps tensors to the group whose range they share; `ranges` has each group's full
    range. The search is a grid over how far each end moves in, on a histogram of 2048 bins
    without exact zeros, which every range represents exactly.
    """
    counts: dict[str, _Float64] = {root: np.zeros(_BINS) for root in ranges}
    for values in activations(graph, inputs):
        for name, array in values.items():
            root = group.get(name)
            if root is None or ranges[root].low == ranges[root].high:
                continue
            full = ranges[root]
            histogram, _ = np.histogram(array[array != 0], bins=_BINS, range=(full.low, full.high))
            counts[root] += histogram
    return {root: _best_clip(counts[root], full) for root, full in ranges.items()}


def _best_clip(counts: _Float64, full: Range) -> Range:
    if full.low == full.high or not counts.any():
        return full
    edges = np.linspace(full.low, full.high, _BINS + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    used = counts > 0
    centres, weights = centres[used], counts[used]
    two_sided = full.low < 0 < full.high
    count = _FRACTIONS_TWO_SIDES if two_sided else _FRACTIONS_ONE_SIDE
    fractions = np.linspace(1.0, _SMALLEST_FRACTION, count)
    best, best_error = full, np.inf
    for low_fraction in fractions if full.low < 0 else fractions[:1]:
        low = full.low * low_fraction
        high = full.high * (fractions if full.high > 0 else fractions[:1])[:, None]
        scale = (high - low) / _STEPS
        zero = np.rint(-low / scale)
        q = np.clip(np.rint(centres / scale) + zero, 0, _STEPS)
        errors = (((q - zero) * scale - centres) ** 2) @ weights
        index = int(np.argmin(errors))
        if errors[index] < best_error:
            best, best_error = Range(float(low), float(high[index, 0])), float(errors[index])
    return best
