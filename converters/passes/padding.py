"""Padded inputs of convolutions as tensors of their own, where that costs little memory.

A convolution then has no edges: all its pixels share one list of taps and fill whole tiles.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from zeroskip.converters.ir import Conv2D, Graph, Op, Pad, Tensor
from zeroskip.converters.passes import memory

MOST_GROWTH: Final = 0.3
"""Of the activations' arena, by padding."""


def pad_inputs(graph: Graph) -> Graph:
    """The graph with a Pad before each padded convolution, as long as the activations' arena
    grows by no more than MOST_GROWTH. The outputs are the same."""
    limit = (1 + MOST_GROWTH) * memory.plan(graph, {}).arena_bytes
    for op in graph.ops:
        if isinstance(op.attributes, Conv2D) and any(op.attributes.padding):
            padded = _pad_input(graph, op)
            if memory.plan(padded, {}).arena_bytes <= limit:
                graph = padded
    return graph


def without_padding(graph: Graph, conv: Op) -> Graph | None:
    """The graph with the Pad before a convolution left to its kernel, or None if there is none
    that only it needs and that pads with zeros."""
    if not isinstance(conv.attributes, Conv2D) or any(conv.attributes.padding):
        return None
    pad = graph.producer(conv.inputs[0])
    if pad is None or not isinstance(pad.attributes, Pad) or pad.attributes.value != 0:
        return None
    channels, vertical, horizontal = pad.attributes.padding
    alone = len(list(graph.consumers(pad.output))) == 1 and pad.output not in graph.outputs
    if not alone or channels != (0, 0) or graph.tensors[conv.inputs[1]].shape[2:] == (1, 1):
        return None
    undone = replace(
        conv,
        inputs=(pad.inputs[0], *conv.inputs[1:]),
        attributes=replace(conv.attributes, padding=(*vertical, *horizontal)),
    )
    return graph.with_ops(undone if op is conv else op for op in graph.ops if op is not pad)


def _pad_input(graph: Graph, op: Op) -> Graph:
    assert isinstance(op.attributes, Conv2D)
    x = graph.tensors[op.inputs[0]]
    top, bottom, left, right = op.attributes.padding
    channels, height, width = x.shape
    shape = (channels, height + top + bottom, width + left + right)
    padded = Tensor(graph.fresh(f"{op.output}, padded input"), shape, x.dtype, x.quantization)
    pad = Op(
        name=f"{op.name}_pad",
        inputs=(x.name,),
        output=padded.name,
        attributes=Pad(((0, 0), (top, bottom), (left, right))),
    )
    conv = replace(
        op,
        inputs=(padded.name, *op.inputs[1:]),
        attributes=replace(op.attributes, padding=(0, 0, 0, 0)),
    )
    at = graph.ops.index(op)
    return graph.with_ops((*graph.ops[:at], pad, conv, *graph.ops[at + 1 :]), (padded,))
