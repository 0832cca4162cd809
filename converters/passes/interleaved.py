"""Convolutions that read images with channels last as they lie in memory.

An image (H, W, C) is a plane (1, H, W * C), and a convolution over its channels is one over that
plane, with kernels C times as wide at C times the horizontal stride. The transposed copy, as
large as the image, is not made; kernels for other strides than 1 and 2 are slower on cores with
the DSP extension, so it is for those who lack the RAM.
"""

from __future__ import annotations

from dataclasses import replace

from zeroskip.converters.ir import MAX_DIM, Conv2D, Graph, Op, Pad, Reshape, Transpose
from zeroskip.converters.passes.editor import Editor

_CHANNELS_FIRST = Transpose((2, 0, 1))


def read_interleaved(graph: Graph) -> Graph:
    """The graph without the transposed copies of images that only one convolution reads, padded
    (passes/padding.py) or not; the same graph if there are none. The outputs are the same."""
    for op in graph.ops:
        if op.attributes == _CHANNELS_FIRST:
            graph = _without_copy(Editor(graph), op) or graph
    return graph


def _without_copy(e: Editor, transpose: Op) -> Graph | None:
    reader = e.only_reader(transpose.output)
    pad = reader if reader is not None and isinstance(reader.attributes, Pad) else None
    conv = reader if pad is None else e.only_reader(pad.output)
    if conv is None or not isinstance(conv.attributes, Conv2D):
        return None
    a, weight = conv.attributes, e.tensor(conv.inputs[1])
    if a.groups != 1 or a.dilation[1] != 1:
        return None
    image = e.tensor(transpose.inputs[0])
    rows, columns, channels = image.shape
    name = e.fresh(f"{image.name}, plane")
    plane = replace(image, name=name, shape=(1, rows, columns * channels))
    reshape = Op(transpose.name, Reshape(), transpose.inputs, name)
    changes: dict[str, Op | None] = {transpose.output: reshape}
    read = plane
    if pad is not None:
        assert isinstance(pad.attributes, Pad)
        of_channels, vertical, (left, right) = pad.attributes.padding
        if of_channels != (0, 0):
            return None
        sides = (left * channels, right * channels)
        shape = (1, rows + sum(vertical), columns * channels + sum(sides))
        read = replace(e.tensor(pad.output), name=e.fresh(f"{name}, padded"), shape=shape)
        attributes = replace(pad.attributes, padding=((0, 0), vertical, sides))
        changes[pad.output] = Op(pad.name, attributes, (name,), read.name)
    top, bottom, left, right = a.padding
    stride = (a.stride[0], a.stride[1] * channels)
    padding = (top, bottom, left * channels, right * channels)
    filters, _, height, width = weight.shape
    if max(*read.shape, *stride, *padding, width * channels) > MAX_DIM:
        return None
    assert weight.data is not None
    data = weight.data.transpose(0, 2, 3, 1).reshape(filters, 1, height, width * channels)
    name = e.fresh(f"{weight.name}, interleaved")
    wide = replace(weight, name=name, shape=data.shape, data=data)
    changes[conv.output] = replace(
        conv,
        inputs=(read.name, wide.name, *conv.inputs[2:]),
        attributes=replace(a, stride=stride, padding=padding),
    )
    return e.edit(changes, (plane, read, wide))
