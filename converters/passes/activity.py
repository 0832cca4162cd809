"""How many activations are not zero, measured on calibration data.

The planner weighs matrix-vector products by columns, which skip zero activations, against those
by rows with it (EIE, Han et al. 2016, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from zeroskip.converters import numerics
from zeroskip.converters.ir import Array, Graph, Tensor
from zeroskip.converters.numerics import INT8_MAX, INT8_MIN
from zeroskip.converters.passes.calibrate import activations, check_data

SAMPLES: Final = 16  # a tensor has many elements, so a few tell


def measure_activity(graph: Graph, calibration: Array | Sequence[Array]) -> Graph:
    """The graph with `Tensor.active` of every activation, from the first SAMPLES samples.

    `calibration`: an array (N, *shape) per graph input; real numbers, or integers as an int8
    input takes them. Raises InputError when the data does not fit the graph.
    """
    several = [calibration] if isinstance(calibration, np.ndarray) else list(calibration)
    checked = check_data(graph, several)
    inputs = [
        _as_taken(graph.tensors[name], array[:SAMPLES], np.asarray(given).dtype.kind in "iu")
        for name, array, given in zip(graph.inputs, checked, several, strict=True)
    ]
    nonzero: dict[str, int] = {}
    for values in activations(graph, inputs):
        for name, array in values.items():
            found = int(np.count_nonzero(array != graph.tensors[name].zero_point))
            nonzero[name] = nonzero.get(name, 0) + found
    tensors = dict(graph.tensors)
    for name, count in nonzero.items():
        total = tensors[name].size * len(inputs[0])
        tensors[name] = replace(tensors[name], active=count / total)
    return replace(graph, tensors=tensors)


def _as_taken(tensor: Tensor, x: Array, integers: bool) -> Array:
    if tensor.dtype != "int8":
        return x.astype(tensor.dtype)
    if integers:
        return np.clip(x, INT8_MIN, INT8_MAX).astype(np.int8)
    real = numerics.quantize_f32(x, tensor.scale, tensor.zero_point, INT8_MIN, INT8_MAX)
    return real.astype(np.int8)
