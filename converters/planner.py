"""Which codec and layout each weight matrix gets.

`size`: the pair of codecs with the fewest bytes, stored by rows. Where more than half of the
weights are zero, dense positions are left out: an entropy code of the values can make them
as small as the others, but every zero would then be decoded and take scratch.

`balanced`, the default of `zeroskip convert`: of the pairs within 5 % of those bytes the one with
the fewest predicted cycles. ANS codes are the smallest and by far the slowest to decode; what they
save is often not worth it.

`speed`: the pair and layout with the fewest predicted cycles on a Cortex-M4 (costs.py); the
smaller of equals. A fully connected layer may be stored by columns, so that the columns of zero
activations are skipped unread (EIE, Han et al., ISCA 2016); convolutions decode each filter once
per inference, so their layout is always by rows.

budget.py chooses for a whole model under limits of flash, RAM and latency.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy.typing as npt

from zeroskip.converters import codecs, costs
from zeroskip.converters.codecs import EncodedMatrix
from zeroskip.converters.ir import (
    Binary,
    Concat,
    Conv2D,
    FullyConnected,
    Graph,
    Op,
    Pool2D,
    Reshape,
    Slice,
    Transpose,
    Unary,
)


class Prefer(Enum):
    SIZE = "size"
    BALANCED = "balanced"
    SPEED = "speed"


SPEED_CORE: Final = "cortex-m4"
NEAR: Final = 1.05  # of the fewest bytes: what `balanced` may take
# The share of inputs that are not zero, where a ReLU came before and nothing was measured.
ACTIVE_AFTER_RELU: Final = 0.5


@dataclass(frozen=True)
class Choice:
    """A weight matrix as it will be stored, and how many bytes the alternatives need."""

    encoded: EncodedMatrix
    alternatives: dict[str, int]


def choose(graph: Graph, op: Op, prefer: Prefer) -> Choice:
    """The codec and layout of the weights of a Conv2D or FullyConnected."""
    weight = graph.tensors[op.inputs[1]]
    assert weight.data is not None
    matrix: npt.NDArray[Any] = weight.data.reshape(weight.shape[0], -1)
    sparse = 2 * int((matrix != weight.zero_point).sum()) < matrix.size
    cycles = _predictor(graph, op, matrix)
    if prefer is not Prefer.SPEED:
        options = list(codecs.candidates(matrix, weight.zero_point))
        if sparse:
            options = [e for e in options if e.positions != "dense"]
        fewest = min(e.bytes for e in options)
        limit = NEAR * fewest if prefer is Prefer.BALANCED else fewest
        near = [e.encode() for e in options if e.bytes <= limit]
        best = near[0] if len(near) == 1 else min(near, key=lambda e: (cycles(e), e.bytes))
        return Choice(best, {e.name: e.bytes for e in options})
    layouts = (False, True) if isinstance(op.attributes, FullyConnected) else (False,)
    encoded = [e.encode() for c in layouts for e in codecs.candidates(matrix, weight.zero_point, c)]
    best = min(encoded, key=lambda e: (cycles(e), e.bytes))
    return Choice(best, {e.name: e.bytes for e in encoded})


def active_inputs(graph: Graph, name: str) -> float:
    """The share of a tensor's elements that are not zero: measured, or else assumed."""
    measured = graph.tensors[name].active
    if measured is not None:
        return measured
    return ACTIVE_AFTER_RELU if _rectified(graph, name) else 1.0


def _predictor(graph: Graph, op: Op, matrix: npt.NDArray[Any]) -> Callable[[EncodedMatrix], float]:
    fitted = costs.load(SPEED_CORE)
    active = active_inputs(graph, op.inputs[0])

    def cycles(e: EncodedMatrix) -> float:
        stored = matrix.T if e.by_columns else matrix
        return costs.layer_cycles(fitted, graph, op, e, stored, active)

    return cycles


def _rectified(graph: Graph, name: str) -> bool:
    """Whether the tensor comes out of a ReLU, perhaps through pooling or reshaping."""
    producer = graph.producer(name)
    if producer is None:
        return False
    match producer.attributes:
        case Reshape() | Slice() | Transpose() | Concat():
            return all(_rectified(graph, name) for name in producer.inputs)
        case Pool2D(clamp=clamp):
            return clamp.low == 0 or _rectified(graph, producer.inputs[0])
        case Conv2D(clamp=clamp) | FullyConnected(clamp=clamp) | Binary(clamp=clamp):
            return clamp.low == 0 or _starts_at_zero_point(graph, name)
        case Unary(clamp=clamp):
            return clamp.low == 0
        case _:
            return False


def _starts_at_zero_point(graph: Graph, name: str) -> bool:
    """An int8 tensor with zero point -128 has no negative values: a ReLU left that range."""
    tensor = graph.tensors[name]
    return tensor.dtype == "int8" and tensor.zero_point == -128
