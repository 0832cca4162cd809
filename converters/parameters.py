"""Biases and requantisation in as few bytes as they need; FORMAT.md, section 3.

Both are arrays of one number per output channel, written as fields of any number of bits around
a base, with a common left shift where low bits are all zero. The shortest form is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from zeroskip.converters.format import Reader, Writer
from zeroskip.converters.ir import Array
from zeroskip.errors import FormatError

PACKED: Final = 128
SOME_STORED: Final = 64
_LARGEST_OFFSET: Final = 3  # bytes that the offset of data takes, or more: it is not known yet

_Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Form:
    """A record, which the offset of its data ends if there is any."""

    head: bytes
    data: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of record and data together, as far as they are known."""
        return len(self.head) + len(self.data) + (_LARGEST_OFFSET if self.data else 0)


def pack(values: npt.ArrayLike, bits: int) -> bytes:
    """The low `bits` (0 to 32) of each value, one after the other, from the least significant
    bit of each byte on; unused bits of the last byte are 0."""
    return np.packbits(_bits(np.asarray(values, np.int64), bits), bitorder="little").tobytes()


def packed_size(count: int, bits: int) -> int:
    """Bytes of `count` fields."""
    return (count * bits + 7) // 8


def bias_form(bias: Array | None) -> Form:
    """The shortest record of biases (O,), int32 or float32."""
    if bias is None or not bias.any():
        return Form(bytes([0]))
    if bias.dtype == np.float32:
        bits = np.ascontiguousarray(bias).view(np.int32).astype(np.int64)
        options = [_whole_bytes(bits, 4), _masked(bits, 0, 0, 32)]
    else:
        wide = bias.astype(np.int64)
        options = [
            _whole_bytes(wide, -(-_signed_bits(wide) // 8)),
            _plain(wide),
            _masked(wide, *_fields(wide[wide != 0])),
        ]
    return min(options, key=lambda form: form.size)


def _whole_bytes(values: _Int64, width: int) -> Form:
    return Form(bytes([width]), pack(values, 8 * width))


def _plain(bias: _Int64) -> Form:
    shift, base, bits = _fields(bias)
    return Form(_packed_head(bits, shift, base), pack((bias >> shift) - base, bits))


def _masked(bias: _Int64, shift: int, base: int, bits: int) -> Form:
    """With a mask of what is not zero."""
    stored = bias[bias != 0]
    data = pack(bias != 0, 1) + pack((stored >> shift) - base, bits)
    return Form(_packed_head(bits | SOME_STORED, shift, base), data)


def _packed_head(form: int, shift: int, base: int) -> bytes:
    w = Writer()
    w.u8(PACKED | form, shift)
    w.svar(base)
    return w.bytes()


def _fields(values: _Int64) -> tuple[int, int, int]:
    """(shift, base, bits): each value is (base + a field of so many bits, signed) << shift."""
    shift = _common_zeros(values)
    short = values >> shift
    bits = int(short.max() - short.min()).bit_length()
    if bits == _signed_bits(short):
        return shift, 0, bits
    return shift, int(short.min()) + (1 << bits >> 1), bits


def _signed_bits(values: _Int64) -> int:
    return max(int(values.max()), -int(values.min()) - 1).bit_length() + 1


def _common_zeros(values: _Int64) -> int:
    """Low bits, 31 at most, that are zero in all values."""
    united = int(np.bitwise_or.reduce(values))
    return min((united & -united).bit_length() - 1, 31) if united else 0


def scale_form(multiplier: Array, shift: Array) -> Form:
    """The shortest record of int32 multipliers (O,) or (1,) and as many shifts."""
    m, s = multiplier.astype(np.int64), shift.astype(np.int64)
    whole = Form(bytes([int(m.size > 1)]), pack(m, 32) + pack(s, 8))
    left = _common_zeros(m)
    short = m >> left
    base = int(short.min())
    bits = int(short.max() - base).bit_length()
    shift_bits = int(s.max() - s.min()).bit_length()
    shift_base = int(s.min()) + (1 << shift_bits >> 1)
    w = Writer()
    w.u8(PACKED | bits, left | shift_bits << 5)
    w.var(base)
    w.svar(shift_base)
    # One stream: the first shift follows the last bit of the last multiplier.
    fields = np.concatenate([_bits(short - base, bits), _bits(s - shift_base, shift_bits)])
    packed = Form(w.bytes(), np.packbits(fields, bitorder="little").tobytes())
    return min(packed, whole, key=lambda form: form.size)


def _bits(values: _Int64, bits: int) -> npt.NDArray[np.uint8]:
    return (values[:, None] >> np.arange(bits) & 1).astype(np.uint8).ravel()


def read_bias_size(r: Reader, data: bytes, channels: int) -> int:
    """Skip a bias record; the bytes of its data."""
    form = r.u8()
    if form < PACKED:
        if form:
            r.var()
        return form * channels
    bits, masked = form & 63, bool(form & SOME_STORED)
    r.u8()
    r.svar()
    if not bits and not masked:
        return 0
    offset = r.var()
    if not masked:
        return packed_size(channels, bits)
    size = packed_size(channels, 1)
    if offset + size > len(data):
        raise FormatError("damaged container: data outside its section")
    mask = np.unpackbits(
        np.frombuffer(data, np.uint8, size, offset), count=channels, bitorder="little"
    )
    return size + packed_size(int(mask.sum()), bits)


def read_scale_size(r: Reader, channels: int) -> int:
    """Skip a requantisation record's scales; the bytes of their data."""
    form = r.u8()
    if form < PACKED:
        r.var()
        return 5 * (channels if form else 1)
    bits = (form & 127) + (r.u8() >> 5)
    r.var()
    r.svar()
    if bits:
        r.var()
    return packed_size(channels, bits)
