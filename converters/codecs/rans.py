"""Asymmetric numeral systems (Duda, arXiv 1311.2540), range variant, static probabilities.

The state is 32 bits in [2^16, 2^32), words have 16. The encoder works backwards, so that the
decoder works forwards; it ends in the state that the encoder started from, which the loader
checks. A sequence may be cut into segments with a state each, which the decoder reads one after
the other: they are the lanes of the numpy encoder.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from zeroskip.converters.codecs.base import Array

STATE_START: Final = 1 << 16
BYTES_PER_SEGMENT: Final = 4096  # against 6 bytes or so that a segment costs
MIN_SEGMENTS: Final = 16  # below, a loop over single symbols is as fast

Words = npt.NDArray[np.uint32]


def segments_for(stream_bytes: float) -> int:
    """How many segments to cut a sequence into that takes about so many bytes."""
    wanted = int(stream_bytes // BYTES_PER_SEGMENT)
    return wanted if wanted >= MIN_SEGMENTS else 1


def encode_symbols(frequencies: Array, starts: Array, bits: int) -> bytes:
    """One segment: the final state (u32), then words in the order in which they are read.

    Symbol i takes the slots [starts[i], starts[i] + frequencies[i]) of 2^bits.
    """
    state = STATE_START
    words: list[int] = []
    up = 32 - bits
    for frequency, start in zip(frequencies[::-1].tolist(), starts[::-1].tolist(), strict=True):
        if state >> up >= frequency:
            words.append(state & 0xFFFF)
            state >>= 16
        state = ((state // frequency) << bits) + state % frequency + start
    return state.to_bytes(4, "little") + np.array(words[::-1], "<u2").tobytes()


class LaneEncoder:
    """Encodes many segments at once. A lane that has no symbol in a step has the frequency 2^bits
    and start 0, which leave its state as it is."""

    def __init__(self, lanes: int, bits: int) -> None:
        self._state: Words = np.full(lanes, STATE_START, np.uint32)
        self._bits = bits
        self._lanes: list[Array] = []
        self._words: list[Array] = []

    def push(self, frequencies: Iterable[Words], starts: Iterable[Words]) -> None:
        """Steps, the last symbols first: of each lane the symbol's frequency and start."""
        state, up = self._state, np.uint32(32 - self._bits)
        total = np.uint32(1 << self._bits)
        quotient = np.empty_like(state)
        full = np.empty(state.shape, np.bool_)
        for frequency, start in zip(frequencies, starts, strict=True):
            np.right_shift(state, up, out=quotient)
            np.greater_equal(quotient, frequency, out=full)
            lanes = full.nonzero()[0]
            if lanes.size:
                emitted = state[lanes]
                self._lanes.append(lanes)
                self._words.append(emitted.astype(np.uint16))
                state[lanes] = emitted >> np.uint32(16)
            np.floor_divide(state, frequency, out=quotient)
            # quotient * total + state % frequency + start, modulo 2^32
            np.multiply(quotient, total - frequency, out=quotient)
            np.add(state, quotient, out=state)
            np.add(state, start, out=state)

    def finish(self) -> bytes:
        """All segments, one after the other."""
        lanes = np.concatenate([np.zeros(0, np.int64), *self._lanes[::-1]])
        words = np.concatenate([np.zeros(0, np.uint16), *self._words[::-1]])
        count = np.bincount(lanes, minlength=self._state.size)
        starts = np.cumsum(count + 2) - count  # of a lane's words, behind the 2 of its state
        stream = np.empty(int(count.sum()) + 2 * count.size, "<u2")
        stream[starts - 2] = self._state & np.uint32(0xFFFF)
        stream[starts - 1] = self._state >> np.uint32(16)
        order = np.argsort(lanes, kind="stable")
        rank = np.arange(lanes.size) - np.repeat(np.cumsum(count) - count, count)
        stream[starts[lanes[order]] + rank] = words[order]
        return stream.tobytes()


class Decoder:
    """The state machine of runtime_c/src/zs_weights.h: zs_ans_load, zs_ans_advance."""

    def __init__(self, stream: bytes, bits: int) -> None:
        if len(stream) % 2:
            raise ValueError(f"{len(stream)} bytes are no ANS stream")
        self._words = iter(np.frombuffer(stream, "<u2").tolist())
        self._mask = (1 << bits) - 1
        self._bits = bits
        self._state = STATE_START

    def segment(self) -> None:
        """Begin a segment. Raises ValueError if the one before did not end as it must."""
        if self._state != STATE_START:
            raise ValueError("ANS segment does not end in its first state")
        self._state = next(self._words, 0) | next(self._words, 0) << 16

    @property
    def slot(self) -> int:
        return self._state & self._mask

    def advance(self, start: int, frequency: int) -> None:
        self._state = frequency * (self._state >> self._bits) + (self._state & self._mask) - start
        if self._state < STATE_START:
            self._state = self._state << 16 | next(self._words, 0)

    def finish(self) -> None:
        if self._state != STATE_START or next(self._words, None) is not None:
            raise ValueError("ANS stream does not end in its first state")
