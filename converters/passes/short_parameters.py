"""Scales and biases that take few bytes, for the quantiser.

A layer's multiplier is input scale * weight scale / output scale. The weight scale is ours to
choose: a little larger, it makes the multiplier a number of few significant bits, and weights a
little coarser (by 2**-7 of their step at most for 8 bits) but never clipped. Where the scales of
channels carry the multiples of one codebook, the weights keep the integers that the exact scales
give, and multipliers are rounded to more bits instead.

A bias is finer than anything that leaves the layer: its unit is that of the sum, thousands of
which make one step of the output. On a grid of 1/16 of a step its low bits are zero. That is
the last step of a conversion, as removing constant channels changes biases.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from zeroskip.converters import lowering
from zeroskip.converters.ir import Array, Conv2D, FullyConnected, Graph, Op, Tensor

MULTIPLIER_BITS: Final = 8
CODEBOOK_MULTIPLIER_BITS: Final = 16
BIAS_STEPS: Final = 16  # of the grid of biases, in one step of the output

_LARGEST_INPUT: Final = 255  # less its zero point
_INT32_MAX: Final = (1 << 31) - 1

_Float64 = npt.NDArray[np.float64]


def raised(scales: _Float64, input_scale: float, output_scale: float) -> _Float64:
    """The least weight scales (O,) >= `scales`, as float32 values, whose multipliers have
    MULTIPLIER_BITS significant bits, to the precision of float32."""
    return _rounded(scales, input_scale, output_scale, MULTIPLIER_BITS, np.ceil)


def nearest(scales: _Float64, input_scale: float, output_scale: float) -> _Float64:
    """The nearest such scales for CODEBOOK_MULTIPLIER_BITS."""
    return _rounded(scales, input_scale, output_scale, CODEBOOK_MULTIPLIER_BITS, np.rint)


def _rounded(
    scales: _Float64, input_scale: float, output_scale: float, bits: int, how: np.ufunc
) -> _Float64:
    ratio = input_scale / output_scale
    fraction, power = np.frexp(scales * ratio)
    # A multiplier that is short but for the rounding of its scale to float32 stays as it is.
    whole = how(fraction * 2.0**bits * (1 - 2.0**-22))
    short = np.ldexp(whole / 2.0**bits, power) / ratio
    return np.asarray(short.astype(np.float32), np.float64)


def round_biases(graph: Graph) -> Graph:
    """The int8 graph with biases that are multiples of a power of two, the largest that is not
    over 1/BIAS_STEPS of an output step for any channel of the layer."""
    ops: list[Op] = []
    added: list[Tensor] = []
    names = set(graph.tensors)
    for op in graph.ops:
        rounded = None
        if isinstance(op.attributes, Conv2D | FullyConnected) and len(op.inputs) > 2:
            rounded = _rounded_bias(graph, op)
        if rounded is not None:
            bias = graph.tensors[op.inputs[2]]
            name = f"{bias.name}.rounded"
            while name in names:
                name += "_"
            names.add(name)
            added.append(replace(bias, name=name, data=rounded))
            op = replace(op, inputs=(*op.inputs[:2], name))
        ops.append(op)
    return graph.with_ops(ops, added)


def _rounded_bias(graph: Graph, op: Op) -> Array | None:
    """The bias on its grid; None if it stays, as it must where a sum could leave int32."""
    weight, bias = graph.tensors[op.inputs[1]], graph.tensors[op.inputs[2]].data
    assert weight.data is not None and bias is not None
    if bias.dtype != np.int32:
        return None
    p = lowering.weighted(graph, op)
    multiplier = float(np.ldexp(p.multiplier.astype(np.float64), p.shift - 31).max())
    if not 0 < multiplier * BIAS_STEPS <= 0.5:
        return None
    grid = 2.0 ** np.floor(-np.log2(multiplier * BIAS_STEPS))
    rounded = np.rint(bias / grid) * grid
    centred = np.abs(weight.data.astype(np.float64) - weight.zero_point)
    sums = centred.reshape(len(bias), -1).sum(axis=1) * _LARGEST_INPUT + np.abs(rounded)
    if np.array_equal(rounded, bias) or (sums >= _INT32_MAX).any():
        return None
    return np.asarray(rounded.astype(np.int32))
