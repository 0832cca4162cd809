"""Values by asymmetric numeral systems, with a table of a few frequency classes.

Values of a class share one frequency: that costs under half a per cent and makes the table a
few pairs (values, frequency), which the decoder searches without unpacking them. Within a class
int8 values ascend in zigzag order (0, -1, 1, -2 ...), so that the codebook is stored as
differences where that is smaller. See runtime_c/FORMAT.md for the table's bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from zeroskip.converters.codecs import bits
from zeroskip.converters.codecs.base import (
    OFFSET_BYTES,
    Array,
    Elements,
    Histogram,
    IntArray,
    Values,
    stream_record_bytes,
    var_bytes,
)
from zeroskip.converters.codecs.packed import MAX_CODEBOOK
from zeroskip.converters.codecs.rans import (
    Decoder,
    LaneEncoder,
    encode_symbols,
    segments_for,
)

VALUE_BITS: Final = 12  # frequencies add up to 2^12
TOTAL: Final = 1 << VALUE_BITS
MAX_DELTA_BITS: Final = 7
MAX_TABLE_BYTES: Final = 2 + 256 * 4 + 256 * 4  # as many classes as values, float32


@dataclass(frozen=True)
class Table:
    """Classes of (values, frequency), and the codebook, class by class.

    `delta_bits` is 0 for a codebook as it is, else the width of its zigzag differences.
    """

    classes: tuple[tuple[int, int], ...]
    codebook: Array
    delta_bits: int = 0

    @classmethod
    def of(cls, histogram: Histogram) -> Table:
        """The table of fewest bits for this histogram, its own included."""
        groups = _frequencies(_grouped(histogram.counts))
        members = [(_in_order(histogram.symbols[i]), f) for i, f in groups]
        widths = range(MAX_DELTA_BITS + 1) if histogram.symbols.dtype == np.int8 else (0,)
        return min((cls._stored(members, width) for width in widths), key=lambda t: t.size)

    @classmethod
    def _stored(cls, members: list[tuple[Array, int]], width: int) -> Table:
        """With differences of `width` bits; a class is cut where one is too large."""
        parts = []
        for values, frequency in members:
            cuts = np.zeros(0, np.int64)
            if width:
                cuts = np.flatnonzero(np.diff(_zigzag(values)) > 1 << width) + 1
            parts += [(part, frequency) for part in np.split(values, cuts)]
        codebook = np.concatenate([values for values, _ in parts])
        return cls(tuple((v.size, f) for v, f in parts), codebook, width)

    @classmethod
    def parse(cls, data: bytes, dtype: np.dtype[Any]) -> tuple[Table, int]:
        """The table at the start of `data`, and its size. Raises ValueError if it is damaged."""
        at = 2
        numbers = []
        for _ in range(2 * (data[0] + 1)):
            number = data[at]
            at += 1
            if number > 127:
                number = (number & 127) | data[at] << 7
                at += 1
            numbers.append(number)
        classes = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        count, width = sum(n for n, _ in classes), data[1]
        if sum(n * f for n, f in classes) != TOTAL or min(numbers) < 1 or count > MAX_CODEBOOK:
            raise ValueError("frequencies do not add up")
        if width == 0:
            end = at + count * dtype.itemsize
            codebook = np.frombuffer(data[at:end], dtype.newbyteorder("<")).astype(dtype)
        else:
            end = at + bits.byte_count(8 * len(classes) + width * (count - len(classes)))
            codebook = _from_deltas(data[at:end], [n for n, _ in classes], width)
        if codebook.size != count:
            raise ValueError("codebook ends too early")
        return cls(classes, codebook, width), end

    @property
    def size(self) -> int:
        """Bytes as stored."""
        return len(self.stored())

    def stored(self) -> bytes:
        head = bytes([len(self.classes) - 1, self.delta_bits])
        for n in (number for pair in self.classes for number in pair):
            head += bytes([n]) if n < 128 else bytes([n & 127 | 128, n >> 7])
        if self.delta_bits == 0:
            little = self.codebook.dtype.newbyteorder("<")
            return head + self.codebook.astype(little, copy=False).tobytes()
        return head + self._deltas()

    def _deltas(self) -> bytes:
        zigzag = _zigzag(self.codebook)
        sizes = np.array([n for n, _ in self.classes])
        firsts = np.cumsum(sizes) - sizes
        fields = np.diff(zigzag, prepend=0) - 1
        widths = np.full(zigzag.size, self.delta_bits)
        fields[firsts], widths[firsts] = zigzag[firsts], 8
        return bits.pack(fields, widths)

    @cached_property
    def frequencies(self) -> IntArray:
        """Of each codebook entry."""
        sizes, frequencies = zip(*self.classes, strict=True)
        return np.repeat(np.array(frequencies, np.int64), sizes)


def _grouped(counts: IntArray) -> list[tuple[IntArray, float]]:
    """(symbols, share of each) of each class: those of fewest bits in all, by dynamic programming.

    Symbols are sorted by falling count; a class is a run of them and costs about 4 bytes.
    """
    order = np.argsort(-counts, kind="stable")
    sums = np.concatenate(([0], np.cumsum(counts[order])))
    total = float(sums[-1])
    best = np.zeros(counts.size + 1)
    cut = np.zeros(counts.size + 1, np.int64)
    for end in range(1, counts.size + 1):
        begin = np.arange(end)
        inside = (sums[end] - sums[begin]).astype(np.float64)
        share = np.maximum(inside / (end - begin) / total, 1 / TOTAL)
        costs = best[:end] - inside * np.log2(share) + 30
        cut[end] = int(np.argmin(costs))
        best[end] = costs[cut[end]]
    groups: list[tuple[IntArray, float]] = []
    last = counts.size
    while last:
        first = int(cut[last])
        share_of_each = float(sums[last] - sums[first]) / (last - first) / total
        groups.append((order[first:last], share_of_each))
        last = first
    return groups[::-1]


def _frequencies(groups: list[tuple[IntArray, float]]) -> list[tuple[IntArray, int]]:
    """Frequencies >= 1 that add up to TOTAL. What is left after rounding goes to whole classes
    where it saves most or costs least; a last rest splits a class in two."""
    sizes = np.array([members.size for members, _ in groups])
    shares = np.array([share for _, share in groups])
    weights = sizes * shares
    frequencies = np.maximum(1, np.round(shares * TOTAL)).astype(np.int64)
    while (rest := TOTAL - int((sizes * frequencies).sum())) != 0:
        step = 1 if rest > 0 else -1
        after = frequencies + step
        change = weights * (np.log2(np.maximum(after, 0.5)) - np.log2(frequencies)) / sizes
        change[after < 1] = -np.inf
        whole = np.where(sizes <= abs(rest), change, -np.inf)
        chosen = int(np.argmax(whole if whole.max() > -np.inf else change))
        if sizes[chosen] <= abs(rest):
            frequencies[chosen] = after[chosen]
            continue
        members = groups[chosen][0]  # by falling count
        at = rest if rest > 0 else members.size + rest
        first, second = int(frequencies[chosen]), int(frequencies[chosen])
        first, second = (first + 1, second) if rest > 0 else (first, second - 1)
        split = [(members[:at], first), (members[at:], second)]
        plain = [(m, int(f)) for (m, _), f in zip(groups, frequencies, strict=True)]
        return plain[:chosen] + split + plain[chosen + 1 :]
    return [(m, int(f)) for (m, _), f in zip(groups, frequencies, strict=True)]


def _zigzag(values: Array) -> IntArray:
    """0, -1, 1, -2 ... -> 0, 1, 2, 3 ..."""
    wide = values.astype(np.int64)
    return np.where(wide >= 0, 2 * wide, -2 * wide - 1)


def _in_order(values: Array) -> Array:
    if values.dtype != np.int8:
        return np.sort(values)
    return values[np.argsort(_zigzag(values))]


def _from_deltas(stream: bytes, sizes: list[int], width: int) -> Array:
    if width > MAX_DELTA_BITS:
        raise ValueError(f"codebook differences of {width} bits")
    fields = np.unpackbits(np.frombuffer(stream, np.uint8)).tolist()
    at = 0

    def take(n: int) -> int:
        nonlocal at
        at += n
        return int("".join(map(str, fields[at - n : at])), 2)

    codebook = []
    for size in sizes:
        zigzag = take(8)
        codebook.append(zigzag)
        for _ in range(size - 1):
            zigzag += take(width) + 1
            codebook.append(zigzag)
    z = np.array(codebook) & 255
    return np.where(z % 2, -(z + 1) // 2, z // 2).astype(np.int8)


@dataclass(frozen=True)
class _Plan:
    elements: Elements
    table: Table

    @cached_property
    def coded(self) -> Values:
        """The last word of a stream depends on more than counts, so its size is that of this."""
        order = np.argsort(self.table.codebook, kind="stable")
        symbols = self.table.codebook[order]
        frequencies = self.table.frequencies
        starts = np.cumsum(frequencies) - frequencies
        each_frequency = frequencies[order].astype(np.uint32)
        counts = self.elements.histogram.within(Histogram(symbols, np.zeros(0, np.int64)))
        estimate = float((counts * (VALUE_BITS - np.log2(each_frequency))).sum()) / 8
        f = self.elements.mapped(symbols, each_frequency)
        s = self.elements.mapped(symbols, starts[order].astype(np.uint32))
        wanted = segments_for(estimate)
        if wanted == 1:
            stream, segment = encode_symbols(f, s, VALUE_BITS), 0
        else:
            segment = -(-f.size // wanted)
            stream = _lanes(f, s, segment)
        return Values(stream, self.table.codebook, table=self.table.stored(), segment=segment)

    @property
    def stream_bytes(self) -> int:
        return len(self.coded.stream)

    @property
    def table_bytes(self) -> int:
        return self.table.size

    @property
    def record_bytes(self) -> int:
        return stream_record_bytes(self.stream_bytes) + OFFSET_BYTES + var_bytes(self.coded.segment)

    def row_bits(self, rows: int) -> IntArray | None:
        return None

    def encode(self) -> Values:
        return self.coded


def _lanes(frequencies: Array, starts: Array, segment: int) -> bytes:
    """Segments of so many values, in parallel."""
    lanes = -(-frequencies.size // segment)
    f = np.full((lanes, segment), TOTAL, np.uint32)
    s = np.zeros((lanes, segment), np.uint32)
    f.ravel()[: frequencies.size] = frequencies
    s.ravel()[: starts.size] = starts
    encoder = LaneEncoder(lanes, VALUE_BITS)
    encoder.push(np.ascontiguousarray(f.T[::-1]), np.ascontiguousarray(s.T[::-1]))
    return encoder.finish()


class AnsValues:
    code = 3
    name = "ans"

    def plan(self, elements: Elements, table: Histogram | None = None) -> _Plan | None:
        table = table or elements.histogram
        if elements.count == 0 or table.symbols.size > MAX_CODEBOOK:
            return None
        return _Plan(elements, Table.of(table))

    def decode(self, coded: Values, count: int, dtype: np.dtype[Any]) -> Array:
        table = Table.parse(coded.table, dtype)[0]
        ends = np.cumsum(table.frequencies)
        starts = (ends - table.frequencies).tolist()
        frequencies = table.frequencies.tolist()
        symbol_of = np.repeat(np.arange(ends.size), table.frequencies).tolist()
        decoder = Decoder(coded.stream, VALUE_BITS)
        indices = np.empty(count, np.int64)
        for i in range(count):
            if i % (coded.segment or count) == 0:
                decoder.segment()
            index = symbol_of[decoder.slot]
            decoder.advance(starts[index], frequencies[index])
            indices[i] = index
        decoder.finish()
        return table.codebook[indices].astype(dtype)
