"""Positions: two-level bitmask, where a block of zeros costs one bit."""

from __future__ import annotations

from typing import Final

import numpy as np

from zeroskip.converters.codecs import bits
from zeroskip.converters.codecs.base import (
    BoolArray,
    IntArray,
    Mask,
    Positions,
    RowSpans,
    SimplePlan,
    stream_record_bytes,
)

BLOCK_BITS: Final = (2, 3, 4, 5, 6)  # log2 of the blocks that are tried
_CHUNK: Final = 1 << 24  # elements that are coded at a time


class Block:
    code = 3
    name = "block"

    def plan(self, mask: Mask) -> SimplePlan:
        units = [_row_units(mask, block_bits) for block_bits in BLOCK_BITS]
        best = min(range(len(units)), key=lambda i: int(units[i].sum()))
        size = bits.byte_count(int(units[best].sum()))
        return SimplePlan(
            size,
            lambda: Positions(_encode(mask.bits, BLOCK_BITS[best]), block_bits=BLOCK_BITS[best]),
            record_bytes=stream_record_bytes(size) + 1,
            row_units=units[best] if mask.by_columns else None,
        )

    def decode(
        self, coded: Positions, shape: tuple[int, int], count: int, rows: RowSpans | None
    ) -> BoolArray:
        stream = np.unpackbits(np.frombuffer(coded.stream, np.uint8)).astype(np.bool_)
        block = 1 << coded.block_bits
        mask = np.zeros(shape, np.bool_)
        at = 0
        for row in mask:
            for start in range(0, shape[1], block):
                if at >= stream.size:
                    raise ValueError("block mask ends too early")
                at += 1
                if stream[at - 1]:
                    part = stream[at : at + min(block, shape[1] - start)]
                    row[start : start + part.size] = part
                    at += part.size
        if int(mask.sum()) != count:
            raise ValueError(f"block mask has {int(mask.sum())} ones for {count} elements")
        return mask


def _row_units(mask: Mask, block_bits: int) -> IntArray:
    """Bits of each row: one per block, and those of the blocks that hold elements."""
    rows, cols = mask.shape
    blocks = -(-cols >> block_bits)
    column = (mask.flat - mask.rows * cols) >> block_bits
    block = mask.rows * blocks + column
    first = np.concatenate(([True], block[1:] != block[:-1])) if block.size else block == 0
    live = block[first]
    size = np.where(
        live % blocks == blocks - 1, cols - ((blocks - 1) << block_bits), 1 << block_bits
    )
    bits_of_live = np.bincount(live // blocks, weights=size, minlength=rows)
    return blocks + bits_of_live.astype(np.int64)


def _encode(mask: BoolArray, block_bits: int) -> bytes:
    step = max(1, _CHUNK // mask.shape[1])
    parts = [_stream(mask[at : at + step], block_bits) for at in range(0, mask.shape[0], step)]
    return np.packbits(np.concatenate(parts)).tobytes()


def _stream(mask: BoolArray, block_bits: int) -> BoolArray:
    """The bits of some rows."""
    rows, cols = mask.shape
    block = 1 << block_bits
    blocks = -(-cols // block)
    padded = np.zeros((rows, blocks * block), np.bool_)
    padded[:, :cols] = mask
    cells = padded.reshape(rows, blocks, block)
    live = cells.any(axis=2)
    there = np.zeros((rows, blocks, block + 1), np.bool_)  # bits that are written
    there[:, :, 0] = True
    there[:, :, 1:] = live[:, :, None]
    there[:, -1, 1 + cols - (blocks - 1) * block :] = False
    stream: BoolArray = np.concatenate([live[:, :, None], cells], axis=2)[there]
    return stream
