"""Bit streams, most significant bit first (runtime_c/FORMAT.md, section 2)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_WIDTH: Final = 25  # a value and up to 7 bits before it fit 32 bits
_CHUNK: Final = 1 << 19  # values that are packed at a time


def pack(values: Array, widths: Array | int) -> bytes:
    """Concatenate unsigned `values` of `widths` bits each (one width, or one per value).

    Widths are 0 to 25. Each value is shifted to its place in a 32-bit window and its bytes are
    added to the stream's: bits do not overlap, so sums are unions.
    """
    values = np.asarray(values).ravel()
    lengths = np.broadcast_to(np.asarray(widths, np.uint8), values.shape)
    parts = []
    carry = used = 0  # the last byte so far and how many of its bits are taken
    for at in range(0, values.size, _CHUNK):
        length = lengths[at : at + _CHUNK].astype(np.int64)
        ends = used + np.cumsum(length)
        starts = ends - length
        total = int(ends[-1])
        shift = (32 - (starts & 7) - length).astype(np.uint64)
        window = values[at : at + _CHUNK].astype(np.uint64) << shift
        first = starts >> 3
        sums = np.zeros((total >> 3) + 5)
        for byte in range(4):
            weights = (window >> np.uint64(24 - 8 * byte)) & np.uint64(255)
            if weights.any():
                counted = np.bincount(first + byte, weights=weights, minlength=sums.size)
                sums += counted[: sums.size]
        stream = sums.astype(np.uint8)
        stream[0] |= carry
        used = total & 7
        carry = int(stream[total >> 3])
        parts.append(stream[: total >> 3].tobytes())
    return b"".join(parts) + (bytes([carry]) if used else b"")


def unpack(stream: bytes, count: int, width: int) -> Array:
    """The first `count` values of `width` bits as uint32. Raises ValueError if there are fewer."""
    if count * width > len(stream) * 8:
        raise ValueError(f"{len(stream)} bytes hold fewer than {count} values of {width} bits")
    if width == 0:
        return np.zeros(count, np.uint32)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), count=count * width)
    weights = (1 << np.arange(width - 1, -1, -1)).astype(np.uint32)
    result: Array = bits.reshape(count, width).astype(np.uint32) @ weights
    return result


def byte_count(bits: int) -> int:
    """Bytes that `bits` bits fill."""
    return (bits + 7) // 8
