"""Scratch memory of convolutions and matrix-vector products; FORMAT.md, section 4."""

from __future__ import annotations

from zeroskip.converters.codecs import EncodedMatrix
from zeroskip.converters.ir import Conv2D, Graph, Op
from zeroskip.converters.passes.placement import align


def scratch_bytes(graph: Graph, op: Op, encoded: EncodedMatrix) -> int:
    """Bytes of scratch of a Conv2D or FullyConnected with these weights."""
    if isinstance(op.attributes, Conv2D):
        return _conv_bytes(graph, op, encoded.max_row)
    return 4 * encoded.cols if encoded.by_columns else 0


def most_scratch(graph: Graph) -> dict[str, int]:
    """Bytes of scratch of each Conv2D, by its output, if all its weights are stored."""
    found = {}
    for op in graph.ops:
        if isinstance(op.attributes, Conv2D):
            weight = graph.tensors[op.inputs[1]]
            found[op.output] = _conv_bytes(graph, op, weight.size // weight.shape[0])
    return found


def _conv_bytes(graph: Graph, op: Op, taps: int) -> int:
    a = op.attributes
    assert isinstance(a, Conv2D)
    x = graph.tensors[op.inputs[0]]
    kernel = graph.tensors[op.inputs[1]].shape[2:]
    wide = x.dtype == "float32"
    pointwise = kernel == (1, 1) and a.stride == (1, 1) and a.padding[::2] == (0, 0)
    rows = x.shape[0] * (1 if pointwise else x.shape[1])
    parts = (2 * taps, (4 if wide else 2) * taps, (12 if wide else 8) * taps, (rows + 7) // 8)
    return sum(map(align, parts))
