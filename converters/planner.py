"""Which codec and layout each weight matrix gets.

`size`: the pair of codecs with the fewest bytes, stored by rows. Where more than half of the
weights are zero, dense positions are left out: an entropy code of the values can make them
as small as the others, but every zero would then be decoded and take scratch.

`speed`: the pair that decodes in the fewest estimated cycles, by `DECODE_CYCLES` below; the
smaller of equals. A fully connected layer whose input went through a ReLU is stored by columns,
so that the columns of zero activations are skipped unread (EIE, Han et al., ISCA 2016);
convolutions decode each filter once per inference, so their layout is always by rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy.typing as npt

from zeroskip.converters import codecs
from zeroskip.converters.codecs import Candidate, EncodedMatrix
from zeroskip.converters.ir import (
    Binary,
    Conv2D,
    FullyConnected,
    Graph,
    Op,
    Pool2D,
    Reshape,
    Transpose,
    Unary,
)


class Prefer(Enum):
    SIZE = "size"
    SPEED = "speed"


# Rough cycles of the portable decoder on a Cortex-M4: per position examined, per unit of a gap
# stream, per stored element and per Huffman bit. Guessed from the inner loops of
# runtime_c/src/zs_position_*.c and zs_value_*.c, not measured: they rank codecs, no more.
DECODE_CYCLES: Final = {
    "dense": 4.0,
    "bitmask position": 1.0,
    "bitmask": 14.0,
    "gap4 unit": 12.0,
    "block position": 10.0,
    "gap": 16.0,
    "ans position": 18.0,
    "raw": 7.0,
    "packed": 14.0,
    "huffman": 14.0,
    "huffman bit": 4.0,
    "ans": 60.0,
}


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
    by_columns = (
        prefer is Prefer.SPEED
        and isinstance(op.attributes, FullyConnected)
        and _rectified(graph, op.inputs[0])
    )
    options = list(codecs.candidates(matrix, weight.zero_point, by_columns))
    if 2 * int((matrix != weight.zero_point).sum()) < matrix.size:
        options = [e for e in options if e.positions != "dense"]
    if prefer is Prefer.SIZE:
        best = min(options, key=lambda e: e.bytes)
    else:
        best = min(options, key=lambda e: (decode_cycles(e), e.bytes))
    return Choice(best.encode(), {e.name: e.bytes for e in options})


def decode_cycles(encoded: Candidate | EncodedMatrix) -> float:
    """Estimated Cortex-M4 cycles to decode the whole matrix once."""
    c = DECODE_CYCLES
    if encoded.positions == "dense":
        cycles = c["dense"] * encoded.count
    elif encoded.positions == "bitmask":
        cycles = c["bitmask position"] * encoded.rows * encoded.cols + c["bitmask"] * encoded.count
    elif encoded.positions == "gap4":
        cycles = c["gap4 unit"] * encoded.position_bytes * 2
    elif encoded.positions == "block":
        cycles = c["block position"] * encoded.position_bytes * 8
    elif encoded.positions == "gap":
        cycles = c["gap"] * encoded.count + c["huffman bit"] * encoded.position_bytes * 8
    else:
        cycles = c["ans position"] * encoded.rows * encoded.cols
    cycles += c[encoded.values] * encoded.count
    if encoded.values == "huffman":
        cycles += c["huffman bit"] * encoded.value_bytes * 8
    return cycles


def _rectified(graph: Graph, name: str) -> bool:
    """Whether the tensor comes out of a ReLU, perhaps through pooling or reshaping."""
    producer = next((op for op in graph.ops if op.output == name), None)
    if producer is None:
        return False
    match producer.attributes:
        case Reshape() | Transpose():
            return _rectified(graph, producer.inputs[0])
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
