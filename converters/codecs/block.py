"""Positions: two-level bitmask, where a block of zeros costs one bit."""

from __future__ import annotations

from typing import Final

import numpy as np

from zeroskip.converters.codecs.base import BoolArray, IntArray, Positions, RowSpans

BLOCK_BITS: Final = (2, 3, 4, 5, 6)  # log2 of the blocks that are tried


class Block:
    code = 3
    name = "block"

    def encode(self, mask: BoolArray, by_columns: bool) -> Positions:
        return min((_encode(mask, b, by_columns) for b in BLOCK_BITS), key=lambda p: len(p.stream))

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


def _encode(mask: BoolArray, block_bits: int, by_columns: bool) -> Positions:
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
    stream = np.concatenate([live[:, :, None], cells], axis=2)[there]
    units: IntArray | None = there.sum(axis=(1, 2)) if by_columns else None
    return Positions(np.packbits(stream).tobytes(), units, block_bits=block_bits)
