"""Positions by asymmetric numeral systems: a bit per element, with the probability of its row's
and column's class.

Trained masks are uneven: inputs that see nothing, outputs that use little. Rows and columns are
put into up to four classes by how much they store, and each pair of classes has a probability of
zero of its own; 0 stands for a pair that stores nothing and costs nothing. A row's class is coded
in the stream, the columns' classes are a packed map before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from zeroskip.converters.codecs import bits
from zeroskip.converters.codecs.base import (
    Array,
    BoolArray,
    IntArray,
    Mask,
    Positions,
    RowSpans,
    stream_record_bytes,
    var_bytes,
)
from zeroskip.converters.codecs.density import Classes, classify
from zeroskip.converters.codecs.rans import Decoder, LaneEncoder, encode_symbols, segments_for

MASK_BITS: Final = 16
ONE: Final = 1 << MASK_BITS
MAX_CLASSES: Final = 4
_CHUNK: Final = 1 << 22  # symbols that are looked up at a time


@dataclass(frozen=True)
class Model:
    """Probabilities in 1/65536, and the classes they are for.

    `thresholds` (row classes - 1,) are where the slots of row classes 1, 2 ... start; `zeros`
    (row classes, column classes) the probability of a zero, or 0 for a pair without elements.
    """

    thresholds: IntArray
    zeros: IntArray
    rows: IntArray  # class of each row
    cols: IntArray

    @classmethod
    def of(cls, mask: Mask, classes: Classes) -> Model:
        area = classes.area.astype(np.float64)
        share = np.divide(area - classes.ones, area, out=np.zeros(area.shape), where=area > 0)
        zeros = np.clip(np.round(share * ONE), 1, ONE - 1).astype(np.int64)
        zeros = np.where(classes.ones == 0, 0, zeros)
        lines = np.bincount(classes.rows, minlength=zeros.shape[0])
        ends = np.round(np.cumsum(lines)[:-1] / lines.sum() * ONE).astype(np.int64)
        for i in range(ends.size):  # each class takes at least one slot
            least = int(ends[i - 1]) + 1 if i else 1
            ends[i] = np.clip(ends[i], least, ONE - ends.size + i)
        return cls(ends, zeros, classes.rows, classes.cols)

    @property
    def shape(self) -> tuple[int, int]:
        """(row classes, column classes)."""
        return (self.zeros.shape[0], self.zeros.shape[1])

    @cached_property
    def stored(self) -> bytes:
        """What comes before the ANS stream."""
        table = np.concatenate([self.thresholds, self.zeros.ravel()]).astype("<u2")
        return bytes(table.tobytes()) + bits.pack(self.cols, column_bits(self.shape[1]))

    def row_symbols(self) -> tuple[IntArray, IntArray]:
        """(frequency, start) of the class of each row."""
        edges = np.concatenate(([0], self.thresholds, [ONE]))
        return np.diff(edges)[self.rows], edges[self.rows]

    def bits_of(self, classes: Classes) -> float:
        """The stream's length by Shannon, and that of what comes before it."""
        zero = np.where(self.zeros == 0, ONE, self.zeros) / ONE
        one = np.where(self.zeros == 0, ONE, ONE - self.zeros) / ONE
        elements = classes.ones * np.log2(one) + (classes.area - classes.ones) * np.log2(zero)
        rows = np.log2(self.row_symbols()[0] / ONE)
        return 8.0 * len(self.stored) - float(elements.sum()) - float(rows.sum())


def column_bits(classes: int) -> int:
    """Width of a column's class in the map."""
    return (classes - 1).bit_length()


@dataclass(frozen=True)
class _Plan:
    mask: Mask
    model: Model
    estimate: float  # bytes

    @cached_property
    def coded(self) -> Positions:
        """The last word of a stream depends on more than counts, so its size is that of this."""
        rows = self.mask.shape[0]
        wanted = segments_for(self.estimate)
        segment = 0 if wanted == 1 else -(-rows // wanted)
        if segment == 0:
            stream = _sequence(self.mask.bits, self.model)
        else:
            stream = _lanes(self.mask.bits, self.model, segment)
        return Positions(self.model.stored + stream, classes=self.model.shape, segment=segment)

    @property
    def stream_bytes(self) -> int:
        return len(self.coded.stream)

    @property
    def table_bytes(self) -> int:
        return 0

    @property
    def record_bytes(self) -> int:
        return stream_record_bytes(self.stream_bytes) + 1 + var_bytes(self.coded.segment)

    @property
    def row_units(self) -> IntArray | None:
        return None

    def encode(self) -> Positions:
        return self.coded


class AnsPositions:
    code = 5
    name = "ans"

    def plan(self, mask: Mask) -> _Plan | None:
        if mask.by_columns:
            return None
        options = []
        for classes in classify(mask, MAX_CLASSES):
            model = Model.of(mask, classes)
            options.append((model.bits_of(classes) / 8, model))
        estimate, model = min(options, key=lambda option: option[0])
        return _Plan(mask, model, estimate)

    def decode(
        self, coded: Positions, shape: tuple[int, int], count: int, rows: RowSpans | None
    ) -> BoolArray:
        (row_classes, col_classes), stream = coded.classes, coded.stream
        words = np.frombuffer(stream, "<u2", row_classes - 1 + row_classes * col_classes)
        edges = [0, *words[: row_classes - 1].tolist(), ONE]
        zeros = words[row_classes - 1 :].reshape(row_classes, col_classes)
        width = column_bits(col_classes)
        at = 2 * words.size
        cols = bits.unpack(stream[at:], shape[1], width)
        if int(cols.max()) >= col_classes:
            raise ValueError(f"column class {int(cols.max())} of {col_classes}")
        decoder = Decoder(stream[at + bits.byte_count(width * shape[1]) :], MASK_BITS)
        mask = np.zeros(shape, np.bool_)
        for row in range(shape[0]):
            if row % (coded.segment or shape[0]) == 0:
                decoder.segment()
            of_row = 0
            if row_classes > 1:
                of_row = int(np.searchsorted(edges[1:-1], decoder.slot, side="right"))
                decoder.advance(edges[of_row], edges[of_row + 1] - edges[of_row])
            probabilities = zeros[of_row][cols]
            live = np.flatnonzero(probabilities)
            for col, zero in zip(live.tolist(), probabilities[live].tolist(), strict=True):
                if decoder.slot >= zero:
                    mask[row, col] = True
                    decoder.advance(zero, ONE - zero)
                else:
                    decoder.advance(0, zero)
        decoder.finish()
        if int(mask.sum()) != count:
            raise ValueError(f"mask has {int(mask.sum())} ones for {count} elements")
        return mask


def _bit_symbols(mask: BoolArray, zeros: Array) -> tuple[Array, Array]:
    """(frequency, start) of each bit; those that are not coded take all slots."""
    start = np.where(mask, zeros, 0).astype(np.uint32)
    frequency = np.where(mask, ONE - zeros, np.where(zeros == 0, ONE, zeros)).astype(np.uint32)
    return frequency, start


def _sequence(mask: BoolArray, model: Model) -> bytes:
    """All rows in one segment."""
    zeros = model.zeros[model.rows[:, None], model.cols]
    frequency, start = _bit_symbols(mask, zeros)
    there = zeros > 0
    if model.shape[0] > 1:
        row_frequency, row_start = model.row_symbols()
        frequency = np.hstack([row_frequency[:, None], frequency])
        start = np.hstack([row_start[:, None], start])
        there = np.hstack([np.ones((mask.shape[0], 1), np.bool_), there])
    return encode_symbols(frequency[there], start[there], MASK_BITS)


def _lanes(mask: BoolArray, model: Model, segment: int) -> bytes:
    """Segments of so many rows, in parallel: a step is one column of a row of each segment."""
    rows, cols = mask.shape
    lanes = -(-rows // segment)
    row_frequency, row_start = model.row_symbols()
    encoder = LaneEncoder(lanes, MASK_BITS)
    step = max(1, _CHUNK // lanes)
    for k in range(segment - 1, -1, -1):
        zeros = np.zeros((model.shape[1], lanes), np.int64)  # lanes without such a row: no symbol
        part = mask[k::segment]
        zeros[:, : part.shape[0]] = model.zeros[model.rows[k::segment]].T
        for end in range(cols, 0, -step):
            begin = max(0, end - step)
            block = np.zeros((end - begin, lanes), np.bool_)
            block[:, : part.shape[0]] = part[:, begin:end].T
            live = zeros[model.cols[begin:end]]
            used = live.any(axis=1)
            frequency, start = _bit_symbols(block[used], live[used])
            encoder.push(frequency[::-1], start[::-1])
        if model.shape[0] > 1:
            frequency = np.full((1, lanes), ONE, np.uint32)
            start = np.zeros((1, lanes), np.uint32)
            frequency[0, : part.shape[0]] = row_frequency[k::segment]
            start[0, : part.shape[0]] = row_start[k::segment]
            encoder.push(frequency, start)
    return encoder.finish()
