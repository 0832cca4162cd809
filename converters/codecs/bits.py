"""Bit streams, most significant bit first (runtime_c/FORMAT.md, section 2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def pack(values: Array, widths: Array | int) -> bytes:
    """Concatenate unsigned `values` of `widths` bits each (one width, or one per value)."""
    values = np.asarray(values, np.uint32).ravel()
    if values.size == 0:
        return b""
    lengths = np.broadcast_to(np.asarray(widths, np.int64), values.shape)
    longest = int(lengths.max())
    if longest == 0:
        return b""
    shifts = np.arange(longest - 1, -1, -1, dtype=np.uint32)
    bits = ((values[:, None] >> shifts) & 1).astype(np.uint8)
    if int(lengths.min()) != longest:
        bits = bits[np.arange(longest) >= (longest - lengths)[:, None]]
    return np.packbits(bits.ravel()).tobytes()


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
