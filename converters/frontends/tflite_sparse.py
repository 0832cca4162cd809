"""TFLite's sparse tensor encoding (SparsityParameters in schema.fbs) made dense.

A tensor is stored as a tree with one level per dimension in `order`, block dimensions last.
A dense level has `size` children per node; a compressed one (CSR) has, for node p, children
indices[segments[p]:segments[p + 1]]. The leaves' values follow in depth-first order. Block
dimension k subdivides dimension blocks[k].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from zeroskip.converters.ir import Array, Shape
from zeroskip.errors import ModelError

MAX_DENSE_ELEMENTS: Final = 16 << 20


@dataclass(frozen=True)
class Level:
    """One level of the tree: dense of `size`, or compressed with segments and indices."""

    size: int
    segments: Array | None  # int64
    indices: Array | None  # int64


@dataclass(frozen=True)
class SparseLayout:
    order: tuple[int, ...]
    blocks: tuple[int, ...]
    levels: tuple[Level, ...]


def densify(values: Array, shape: Shape, layout: SparseLayout) -> Array:
    """The dense tensor of `shape`; elements that are not stored are 0.

    Raises ModelError when the description contradicts itself, the shape or the values. Memory
    stays within a few times the dense size, which is at most MAX_DENSE_ELEMENTS.
    """
    rank, depth = len(shape), len(shape) + len(layout.blocks)
    size = math.prod(shape)
    if size > MAX_DENSE_ELEMENTS:
        raise ModelError(f"a sparse tensor has {size} elements, the limit is {MAX_DENSE_ELEMENTS}")
    if (
        sorted(layout.order) != list(range(depth))
        or sorted(layout.order[:rank]) != list(range(rank))
        or len(layout.levels) != depth
        or any(not 0 <= b < rank for b in layout.blocks)
        or len(set(layout.blocks)) != len(layout.blocks)
    ):
        raise ModelError("the sparse layout does not fit the tensor's rank")
    extents = _extents(shape, layout)

    # Per level: each node's position in the level, which CSR segments count by.
    nodes = np.zeros(1, np.int64)
    coordinates: list[Array] = []
    for dimension, level in zip(layout.order, layout.levels, strict=True):
        nodes, parents, index = _children(nodes, level, extents[dimension], size)
        coordinates = [c[parents] for c in coordinates]
        coordinates.append(index)

    if nodes.size != values.size:
        raise ModelError(f"the sparse layout has {nodes.size} values, the buffer {values.size}")
    place = [np.zeros(nodes.size, np.int64) for _ in shape]
    for dimension, index in zip(layout.order, coordinates, strict=True):
        if dimension < rank:
            place[dimension] += index * _block(extents, layout, rank, dimension)
        else:
            place[layout.blocks[dimension - rank]] += index
    dense = np.zeros(shape, values.dtype)
    dense[tuple(place)] = values
    return dense


def _block(extents: list[int], layout: SparseLayout, rank: int, dimension: int) -> int:
    if dimension not in layout.blocks:
        return 1
    return extents[rank + layout.blocks.index(dimension)]


def _extents(shape: Shape, layout: SparseLayout) -> list[int]:
    """Length of each dimension of the blocked tensor: blocks of the original ones, block sizes."""
    outer, inner = list(shape), []
    by_dimension = dict(zip(layout.order, layout.levels, strict=True))
    for k, dimension in enumerate(layout.blocks):
        level = by_dimension[len(shape) + k]
        if level.segments is not None or level.size < 1 or shape[dimension] % level.size:
            raise ModelError(f"blocks of {level.size} do not divide dimension {dimension}")
        inner.append(level.size)
        outer[dimension] //= level.size
    return [*outer, *inner]


def _children(nodes: Array, level: Level, extent: int, limit: int) -> tuple[Array, Array, Array]:
    """(nodes of the next level, the parent of each by index, its coordinate)."""
    if level.segments is None or level.indices is None:
        if level.size != extent:
            raise ModelError(f"a dense dimension of {level.size} should have {extent}")
        if nodes.size * extent > limit:
            raise ModelError("the sparse layout stores more elements than the tensor has")
        parents = np.repeat(np.arange(nodes.size), extent)
        index = np.tile(np.arange(extent), nodes.size)
        return nodes[parents] * extent + index, parents, index
    segments, indices = level.segments, level.indices
    if nodes.size and int(nodes.max()) + 1 >= segments.size:
        raise ModelError("a compressed dimension has too few segments")
    starts, ends = segments[nodes], segments[nodes + 1]
    if np.any(starts < 0) or np.any(ends < starts) or np.any(ends > indices.size):
        raise ModelError("the segments of a compressed dimension are not in order")
    counts = ends - starts
    total = int(counts.sum())
    if total > limit:
        raise ModelError("the sparse layout stores more elements than the tensor has")
    parents = np.repeat(np.arange(nodes.size), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    position = starts[parents] + np.arange(total) - first
    index = indices[position]
    if index.size and not (int(index.min()) >= 0 and int(index.max()) < extent):
        raise ModelError(f"an index of a compressed dimension is outside 0..{extent - 1}")
    return position, parents, index
