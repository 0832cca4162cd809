"""What the convolution kernels of the C runtime go through, in counts.

For the cost model (costs.py): zs_conv_kernel.h, which sweeps lists of taps, and on cores with the
DSP extension zs_conv_dense_s8.h and zs_conv_depthwise_s8.h. No input row is assumed to be zero
throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zeroskip.converters.ir import Conv2D, Graph, Op

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
Counts = dict[str, float]  # what is counted -> how often

TWO_FILTERS: Final = "conv, two filters"
"""The kernel that takes dense weights as they are decoded, without positions."""

_TILE: Final = 4  # pixels computed at a time
_BLOCK: Final = {True: 64, False: 32}  # pixels requantised at a time, with and without DSP
_DEPTHWISE_BLOCK: Final = 64  # by the depthwise kernel


@dataclass(frozen=True)
class Axis:
    """A convolution along one axis."""

    size: int
    out: int
    kernel: int
    stride: int
    dilation: int
    pad: int

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each output's window starts."""
        return np.arange(self.out) * self.stride - self.pad

    @property
    def reads(self) -> BoolArray:
        """(out, kernel): whether a tap of an output's window lies inside the input."""
        at = self.starts[:, None] + np.arange(self.kernel) * self.dilation
        inside: BoolArray = (at >= 0) & (at < self.size)
        return inside

    @property
    def regions(self) -> tuple[Array, BoolArray]:
        """Lengths (n,) of runs of outputs that share a list of taps, and what those read
        (n, kernel): all outputs whose windows lie inside the input, others one by one."""
        reads = self.reads
        inner = reads.all(axis=1) & (self.starts >= 0)
        begins = np.flatnonzero(~(inner & np.roll(inner, 1)) | (np.arange(self.out) == 0))
        return np.diff([*begins, self.out]), reads[begins]


def conv_counts(
    graph: Graph, op: Op, positions: str, mask: BoolArray, dsp: bool
) -> tuple[str, Counts]:
    """The kernel that runs a Conv2D, and its counts.

    `mask` (O, C/groups * KH * KW) says which weights are not zero, `positions` is their codec and
    `dsp` whether the core has the DSP extension.
    """
    a = op.attributes
    assert isinstance(a, Conv2D)
    channels, in_h, in_w = graph.tensors[op.inputs[0]].shape
    outputs, out_h, out_w = graph.output_tensor(op).shape
    weights = graph.tensors[op.inputs[1]].shape
    pointwise = weights[2:] == (1, 1) and a.stride == (1, 1) and not any(a.padding)
    if pointwise:
        in_h, in_w, out_h, out_w = 1, in_h * in_w, 1, out_h * out_w
    y = Axis(in_h, out_h, weights[2], a.stride[0], a.dilation[0], a.padding[0])
    x = Axis(in_w, out_w, weights[3], a.stride[1], a.dilation[1], a.padding[2])
    whole = bool(y.reads.all() and x.reads.all())
    depthwise = a.groups == channels == outputs
    if dsp and depthwise and _is_three_by_three(y, x):
        return "depthwise 3x3", _depthwise_counts(channels, y, x)
    per_group = outputs // a.groups
    if (
        dsp
        and positions == "dense"
        and whole
        and a.stride[1] <= 2
        and out_w >= _TILE
        and per_group >= 2
    ):
        return TWO_FILTERS, _two_filter_counts(a.groups, per_group, mask.shape[1], y, x)
    counts = _list_counts(mask.reshape(weights), y, x, whole, _BLOCK[dsp])
    counts["input row"] = channels * in_h
    if positions == "dense":
        counts |= {"examined": mask.size, "dropped": float(mask.size - mask.sum())}
    return "depthwise" if depthwise else "pointwise" if pointwise else "conv", counts


def _list_counts(mask: BoolArray, y: Axis, x: Axis, whole: bool, block: int) -> Counts:
    """Counts of zs_conv_kernel.h; `mask` is (O, C/groups, KH, KW), `whole` whether all windows
    lie inside the input, and `block` how many pixels are requantised at a time."""
    outputs, group_in = mask.shape[:2]
    taps = mask.sum(axis=1)  # (O, KH, KW)
    heights, reads_y = y.regions
    widths, reads_x = x.regions
    used = np.einsum("oyx,by,cx->bc", taps, reads_y.astype(float), reads_x.astype(float))
    counts: Counts = dict.fromkeys(_LIST_KEYS, 0.0)
    counts |= {"layer": 1, "filter": outputs}
    for b, height in enumerate(heights):
        for c, width in enumerate(widths):
            down = width < _TILE and height > width
            lines, length = (width, height) if down else (height, width)
            tiles, singles = _split(int(length), block)
            step = x.stride if not down else 0
            kind = {1: "tap of neighbours", 2: "tap of every other"}.get(step, "tap of others")
            counts["list"] += outputs
            if whole:
                counts["whole tap"] += float(taps.sum())
            else:
                counts["kernel row"] += outputs * group_in * y.kernel
                counts["listed tap"] += float(taps.sum())
            counts["line"] += outputs * lines
            joined = max(1, block // length) if width == x.out and not down else 1
            counts["block"] += outputs * -(-lines // joined) * -(-length // block)
            counts["output"] += outputs * lines * length
            counts["tile"] += outputs * lines * tiles
            counts[kind] += used[b, c] * lines * tiles
            counts["single pixel"] += outputs * lines * singles
            counts["single tap"] += used[b, c] * lines * singles
    return counts


_LIST_KEYS: Final = (
    "list", "whole tap", "kernel row", "listed tap", "line", "block", "output",
    "tile",
    "tap of neighbours", "tap of every other", "tap of others", "single pixel", "single tap",
)  # fmt: skip


def _split(length: int, block: int) -> tuple[int, int]:
    """Tiles and single pixels of a line: a block shorter than a tile goes one by one."""
    rest = length % block
    tiles = length // block * (block // _TILE)
    return (tiles, rest) if rest < _TILE else (tiles + -(-rest // _TILE), 0)


def _two_filter_counts(groups: int, per_group: int, cols: int, y: Axis, x: Axis) -> Counts:
    """Counts of zs_conv_dense_s8.h."""
    filters = groups * per_group
    pairs = groups * -(-per_group // 2)
    tiles = -(-x.out // _TILE)
    return {
        "layer": 1,
        "column": cols,
        "filter": filters,
        "weight": filters * cols,
        "line": pairs * y.out,
        "output": filters * y.out * x.out,
        "tile": pairs * y.out * tiles,
        f"pair of taps, stride {x.stride}": pairs * y.out * tiles * -(-cols // 2),
    }


def _depthwise_counts(channels: int, y: Axis, x: Axis) -> Counts:
    """Counts of zs_conv_depthwise_s8.h: rows whose windows lie inside, perhaps but for their last
    column, and others."""
    right = _beyond(x) > 0
    whole = 0
    if x.pad == y.pad == 0:
        whole = max(0, min(y.out, (y.size - 3 - right + y.stride) // y.stride))
    counts: Counts = {
        "layer": 1,
        "channel": channels,
        "output": channels * y.out * x.out,
        "call": channels * -(-whole // max(1, _DEPTHWISE_BLOCK // x.out)),
        f"inner tile, stride {x.stride}": channels * whole * -(-x.out // _TILE),
        "last column": channels * whole * right,
        "edge row": 0.0,
        "edge tile row": 0.0,
    }
    for rows in y.reads.sum(axis=1)[whole:]:
        inner = x.out - _TILE * ((x.pad > 0) + right) if rows == 3 else 0
        tiles = -(-(x.out - inner) // _TILE) if inner >= _TILE else -(-x.out // _TILE)
        if inner >= _TILE:
            counts["call"] += channels
            counts[f"inner tile, stride {x.stride}"] += channels * -(-inner // _TILE)
        counts["edge row"] += channels
        counts["edge tile row"] += float(channels * rows * tiles)
    return counts


def _beyond(x: Axis) -> int:
    """Columns that the last window has beyond the input."""
    return (x.out - 1) * x.stride + 3 - x.pad - x.size


def _is_three_by_three(y: Axis, x: Axis) -> bool:
    """Whether zs_conv_depthwise_s8.h takes it."""
    return (
        (y.kernel, x.kernel, y.dilation, x.dilation) == (3, 3, 1, 1)
        and y.stride == x.stride <= 2
        and max(y.pad, x.pad, _beyond(x)) <= 1
        and x.out >= _TILE
        and x.size >= _TILE * x.stride
    )
