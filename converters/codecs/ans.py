"""Positions and values by asymmetric numeral systems (Duda, arXiv 1311.2540), the smallest codecs.

rANS with a 32-bit state in [2^16, 2^32), 16-bit words and static probabilities. The encoder
works backwards, so that the decoder works forwards; it ends in the state that the encoder
started from, which the loader checks. Both loops are sequential: matrices over MAX_SYMBOLS are
left to Huffman codes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from zeroskip.converters.codecs.base import Array, BoolArray, IntArray, Positions, RowSpans, Values
from zeroskip.converters.codecs.packed import MAX_CODEBOOK

STATE_START: Final = 1 << 16
VALUE_BITS: Final = 12  # the frequencies of values add up to 2^12
MASK_BITS: Final = 16  # the probabilities of mask bits are in 1/2^16
MAX_SYMBOLS: Final = 1 << 21

Symbols = list[tuple[int, int]]  # (start, frequency) of each symbol


def encode_symbols(symbols: Symbols, bits: int) -> bytes:
    """The final state (u32), then 16-bit words in the order in which they are read."""
    state = STATE_START
    words: list[int] = []
    for start, frequency in reversed(symbols):
        if state >= frequency << (32 - bits):
            words.append(state & 0xFFFF)
            state >>= 16
        state = ((state // frequency) << bits) + state % frequency + start
    return state.to_bytes(4, "little") + np.array(words[::-1], "<u2").tobytes()


class Decoder:
    """The state machine of runtime_c/src/zs_weights.h, zs_ans_advance."""

    def __init__(self, stream: bytes, bits: int) -> None:
        if len(stream) < 4 or len(stream) % 2:
            raise ValueError(f"{len(stream)} bytes are no ANS stream")
        self._state = int.from_bytes(stream[:4], "little")
        self._words = iter(np.frombuffer(stream[4:], "<u2").tolist())
        self._bits = bits

    @property
    def slot(self) -> int:
        return self._state & ((1 << self._bits) - 1)

    def advance(self, start: int, frequency: int) -> None:
        self._state = frequency * (self._state >> self._bits) + self.slot - start
        if self._state < STATE_START:
            self._state = self._state << 16 | next(self._words, 0)

    def finish(self) -> None:
        if self._state != STATE_START or next(self._words, None) is not None:
            raise ValueError("ANS stream does not end in its first state")


def quantize_frequencies(counts: IntArray, total: int = 1 << VALUE_BITS) -> IntArray:
    """Positive integers that add up to `total`, close to the counts' proportions.

    The rest after rounding goes, unit by unit, where it saves most or costs least bits.
    """
    share = counts * (total / counts.sum())
    frequencies: IntArray = np.maximum(1, np.round(share)).astype(np.int64)
    while (rest := total - int(frequencies.sum())) != 0:
        step = 1 if rest > 0 else -1
        after = frequencies + step
        change = counts * (np.log2(np.maximum(after, 0.5)) - np.log2(frequencies))
        change[after < 1] = -np.inf
        frequencies[int(np.argmax(change))] += step
    return np.asarray(frequencies, np.int64)


class AnsValues:
    code = 3
    name = "ans"

    def encode(self, values: Array) -> Values | None:
        if values.size == 0 or values.size > MAX_SYMBOLS:
            return None
        symbols, indices, counts = np.unique(values, return_inverse=True, return_counts=True)
        if symbols.size > MAX_CODEBOOK:
            return None
        order = np.argsort(-counts, kind="stable")  # frequent first: the search is linear
        frequencies = quantize_frequencies(counts[order])
        starts = np.cumsum(frequencies) - frequencies
        place = np.empty_like(order)
        place[order] = np.arange(order.size)
        ranks = place[indices]
        coded = zip(starts[ranks].tolist(), frequencies[ranks].tolist(), strict=True)
        stream = encode_symbols(list(coded), VALUE_BITS)
        return Values(
            stream,
            np.zeros(values.size, np.int64),
            symbols[order],
            frequencies=tuple(int(f) for f in frequencies),
        )

    def decode(self, coded: Values, count: int, dtype: np.dtype[Any]) -> Array:
        assert coded.codebook is not None
        frequencies = np.array(coded.frequencies, np.int64)
        if int(frequencies.sum()) != 1 << VALUE_BITS or frequencies.size != coded.codebook.size:
            raise ValueError("frequencies do not add up, or not to the codebook")
        ends = np.cumsum(frequencies)
        decoder = Decoder(coded.stream, VALUE_BITS)
        indices = np.empty(count, np.int64)
        for i in range(count):
            index = int(np.searchsorted(ends, decoder.slot, side="right"))
            decoder.advance(int(ends[index] - frequencies[index]), int(frequencies[index]))
            indices[i] = index
        decoder.finish()
        return coded.codebook[indices].astype(dtype)


class AnsPositions:
    code = 5
    name = "ans"

    def encode(self, mask: BoolArray, by_columns: bool) -> Positions | None:
        if by_columns or mask.size > MAX_SYMBOLS:
            return None
        options = [_encode_mask(mask, None)]
        live = mask.any(axis=0)
        if not live.all():
            options.append(_encode_mask(mask, live))
        return min(options, key=Positions.size_with_tables)

    def decode(
        self, coded: Positions, shape: tuple[int, int], count: int, rows: RowSpans | None
    ) -> BoolArray:
        row_zero, zero = coded.probabilities
        mask = np.zeros(shape, np.bool_)
        decoder = Decoder(coded.stream, MASK_BITS)
        columns = np.arange(shape[1])
        if coded.live_columns is not None:
            columns = np.flatnonzero(coded.live_columns)
        for row in mask:
            if _next_bit(decoder, row_zero):
                for column in columns:
                    row[column] = _next_bit(decoder, zero)
        decoder.finish()
        if int(mask.sum()) != count:
            raise ValueError(f"mask has {int(mask.sum())} ones for {count} elements")
        return mask


def _encode_mask(mask: BoolArray, live: BoolArray | None) -> Positions:
    rows = mask.any(axis=1)
    inside = mask[rows] if live is None else mask[np.ix_(rows, live)]
    row_zero = _probability_of_zero(rows)
    zero = _probability_of_zero(inside)
    symbols: Symbols = []
    position = 0
    for is_live in rows.tolist():
        symbols.append(_bit_symbol(is_live, row_zero))
        if is_live:
            symbols += [_bit_symbol(bit, zero) for bit in inside[position].tolist()]
            position += 1
    return Positions(
        encode_symbols(symbols, MASK_BITS), probabilities=(row_zero, zero), live_columns=live
    )


def _probability_of_zero(bits: BoolArray) -> int:
    share = 1 - bits.mean() if bits.size else 0.5
    return int(np.clip(round(share * (1 << MASK_BITS)), 1, (1 << MASK_BITS) - 1))


def _bit_symbol(bit: bool, zero: int) -> tuple[int, int]:
    return (zero, (1 << MASK_BITS) - zero) if bit else (0, zero)


def _next_bit(decoder: Decoder, zero: int) -> bool:
    bit = decoder.slot >= zero
    decoder.advance(*_bit_symbol(bit, zero))
    return bit
