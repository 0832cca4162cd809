"""Offsets for buffers that live at known times, in as small an arena as is found quickly.

Buffers that live at the same time must not overlap. Finding the smallest arena is
NP-hard (dynamic storage allocation); like TensorFlow Lite Micro's planner this places buffers
greedily at the lowest free offset, here in several orders of which the best is kept, and then
tries to do with less by placing them at both ends of an arena of given size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

ALIGNMENT: Final = 4

_SLACKS: Final = (1.0, 1.02, 1.05, 1.1, 1.2)  # arenas to try, in bytes that live at once
_MOST_STEPS: Final = 1000


@dataclass(frozen=True)
class Buffer:
    """`size` bytes needed from op index `first` to op index `last`, both included."""

    name: str
    size: int
    first: int
    last: int


def place(buffers: Sequence[Buffer]) -> dict[str, int]:
    """Offsets for all buffers: the best of several greedy orders."""
    orders = (
        lambda b: (-b.size, b.first, b.name),
        lambda b: (b.first - b.last, -b.size, b.name),
        lambda b: (b.first, -b.size, b.name),
        lambda b: (b.last, -b.size, b.name),
        lambda b: (-b.size * (b.last - b.first + 1), b.first, b.name),
    )
    size = {b.name: align(b.size) for b in buffers}

    def height(offsets: Mapping[str, int]) -> int:
        return max(offsets[name] + size[name] for name in offsets)

    best = min((_place_in_order(sorted(buffers, key=order)) for order in orders), key=height)
    least = max(_live_bytes(buffers, b.first) for b in buffers)
    for slack in _SLACKS:
        limit = align(int(least * slack))
        found = _place_at_ends(buffers, limit) if limit < height(best) else None
        if found is not None:
            return found
    return best


def _live_bytes(buffers: Sequence[Buffer], index: int) -> int:
    return sum(align(b.size) for b in buffers if b.first <= index <= b.last)


def _place_at_ends(buffers: Sequence[Buffer], limit: int) -> dict[str, int] | None:
    """Offsets below `limit`: in order of time, each at the lowest or the highest free place.

    In a chain of layers neighbours then take opposite ends, whatever their sizes. A choice that
    leaves no place for a later buffer is taken back; after _MOST_STEPS there is no answer.
    """
    order = sorted(buffers, key=lambda b: (b.first, -b.size, b.name))
    offsets: list[int] = []
    options: list[list[int]] = [_ends(order, offsets, limit)]
    for _ in range(_MOST_STEPS):
        if options[-1]:
            offsets.append(options[-1].pop())
            if len(offsets) == len(order):
                return {b.name: at for b, at in zip(order, offsets, strict=True)}
            options.append(_ends(order, offsets, limit))
        else:
            options.pop()
            if not offsets:
                break
            offsets.pop()
    return None


def _ends(order: Sequence[Buffer], offsets: Sequence[int], limit: int) -> list[int]:
    """Where the next buffer of `order` can go: the highest and the lowest place, if any."""
    buffer = order[len(offsets)]
    taken = sorted(
        (at, at + align(other.size))
        for other, at in zip(order, offsets, strict=False)
        if other.last >= buffer.first and buffer.last >= other.first
    )
    size = align(buffer.size)
    places: list[int] = []
    low = 0
    for begin, end in [*taken, (limit, limit)]:
        if begin - low >= size:
            places += [low, begin - size]
        low = max(low, end)
    return sorted({places[0], places[-1]}, reverse=True) if places else []


def _place_in_order(buffers: Sequence[Buffer]) -> dict[str, int]:
    offsets: dict[str, int] = {}
    placed: list[tuple[int, Buffer]] = []
    for buffer in buffers:
        at = 0
        for offset, other in placed:  # ascending offsets
            apart = other.last < buffer.first or buffer.last < other.first
            if not apart and offset < at + align(buffer.size):
                at = max(at, offset + align(other.size))
        offsets[buffer.name] = at
        placed.append((at, buffer))
        placed.sort(key=lambda item: item[0])
    return offsets


def align(size: int) -> int:
    """The next multiple of ALIGNMENT bytes."""
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
