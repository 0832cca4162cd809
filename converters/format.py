"""Constants and number formats of the .zsk container; runtime_c/FORMAT.md is the authority.

A test holds the constants equal to the C runtime's.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from zeroskip.errors import FormatError

MAGIC: Final = b"ZSKP"
MAJOR: Final = 1
MINOR: Final = 1

# magic, major, minor, reserved, length, arena, tensors, ops, inputs, outputs, reserved,
# ops offset, names offset, data offset
HEADER: Final = struct.Struct("<4sBBHIIHHBBHIII")
TENSOR: Final = struct.Struct("<IBBhHHHH")  # location, dtype, rank, zero point, dimensions
IO: Final = struct.Struct("<HHf")  # tensor, reserved, scale
CONSTANT_FLAG: Final = 128  # in a tensor's rank
MAX_ARENA: Final = 1 << 26
MAX_WORK: Final = 1 << 30


class DType(IntEnum):
    INT8 = 0
    UINT8 = 1
    FLOAT32 = 2


class OpCode(IntEnum):
    CONV = 1
    FULLY_CONNECTED = 2
    BINARY = 3
    POOL = 4
    MEAN = 5
    PAD = 6
    CONCAT = 7
    SOFTMAX = 8
    TABLE = 9
    UNARY = 10
    CONVERT = 11
    TRANSPOSE = 12
    SLICE = 13


class PoolFlag(IntEnum):
    MAX = 1
    COUNT_PADDING = 2
    ADAPTIVE = 4


class Writer:
    """Builds a record, field by field."""

    def __init__(self) -> None:
        self._parts = bytearray()

    def u8(self, *values: int) -> None:
        self._parts += bytes(values)

    def raw(self, content: bytes) -> None:
        self._parts += content

    def f32(self, *values: float) -> None:
        self._parts += struct.pack(f"<{len(values)}f", *values)

    def var(self, *values: int) -> None:
        for value in values:
            if not 0 <= value < 1 << 32:
                raise FormatError(f"{value} does not fit an unsigned 32-bit field")
            while value > 127:
                self._parts.append(value & 127 | 128)
                value >>= 7
            self._parts.append(value)

    def svar(self, *values: int) -> None:
        for value in values:
            if not -(1 << 31) <= value < 1 << 31:
                raise FormatError(f"{value} does not fit a signed 32-bit field")
            self.var(value << 1 if value >= 0 else (-value << 1) - 1)

    def bytes(self) -> bytes:
        return bytes(self._parts)


class Reader:
    """Reads a record, field by field; raises FormatError past its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise FormatError("record ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def u8(self) -> int:
        return self.take(1)[0]

    def f32(self) -> float:
        value: float = struct.unpack("<f", self.take(4))[0]
        return value

    def var(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.u8()
            value |= (byte & 127) << shift
            if byte < 128:
                if value >= 1 << 32:
                    break
                return value
        raise FormatError("number over 32 bits")

    def svar(self) -> int:
        zigzag = self.var()
        return zigzag >> 1 if zigzag % 2 == 0 else -(zigzag >> 1) - 1

    def vars(self, count: int) -> tuple[int, ...]:
        return tuple(self.var() for _ in range(count))
