"""Codecs: exact inverses, streams as FORMAT.md says, Huffman codes optimal under the limit."""

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import short_segments

from zeroskip.converters import codecs
from zeroskip.converters.codecs import bits, tables
from zeroskip.converters.codecs.ans_values import AnsValues, Table
from zeroskip.converters.codecs.base import Elements, Histogram
from zeroskip.converters.codecs.huffman import Huffman, canonical_codes, code_lengths
from zeroskip.converters.codecs.rans import Decoder, LaneEncoder, encode_symbols


@st.composite
def matrices(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 70)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 3, 16, 255]))
    zero = draw(st.sampled_from([0, 0, -128, 5]))
    values = rng.integers(-(levels // 2), levels // 2 + 1, shape) + zero
    values = np.where(rng.random(shape) < draw(st.sampled_from([0, 0.5, 0.9, 1])), zero, values)
    if draw(st.booleans()):
        return (values - zero).astype(np.float32), 0
    return np.clip(values, -128, 127).astype(np.int8), zero


@settings(max_examples=150, deadline=None, derandomize=True)
@given(matrices(), st.booleans(), st.booleans())
def test_every_codec_pair_gives_the_matrix_back_at_the_size_it_said(
    case: tuple[np.ndarray, int], by_columns: bool, segmented: bool
) -> None:
    matrix, zero = case
    names = set()
    with short_segments() if segmented else nullcontext():
        for candidate in codecs.candidates(matrix, zero, by_columns):
            names.add((candidate.positions, candidate.values))
            said = (candidate.stream_bytes, candidate.bytes, candidate.count, candidate.max_row)
            encoded = candidate.encode()
            assert said == (
                encoded.stream_bytes, encoded.bytes, encoded.count, encoded.max_row
            ), encoded.name  # fmt: skip
            assert candidate.name == encoded.name
            assert candidate.position_bytes == encoded.position_bytes
            assert candidate.value_bytes == encoded.value_bytes
            decoded = codecs.decode(encoded, matrix.dtype)
            assert decoded.dtype == matrix.dtype
            assert np.array_equal(decoded, matrix), encoded.name
            assert encoded.max_row <= encoded.cols and encoded.count <= matrix.size
    # gap needs two different runs, ans no directory
    assert {(p, "raw") for p in codecs.POSITIONS} - {("gap", "raw"), ("ans", "raw")} <= names
    assert by_columns or ("ans", "ans") in names or not encoded.count


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 2**25 - 1)), max_size=60))
def test_packed_bits_are_the_concatenation(fields: list[tuple[int, int]]) -> None:
    text = "".join(format(v % (1 << n), f"0{n}b") if n else "" for n, v in fields)
    text += "0" * (-len(text) % 8)
    expected = bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    values = [v % (1 << n) for n, v in fields]
    assert bits.pack(np.array(values, np.int64), np.array([n for n, _ in fields])) == expected


def test_packing_goes_on_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 32, 1000)
    whole = bits.pack(values, 5)
    monkeypatch.setattr(bits, "_CHUNK", 7)
    assert bits.pack(values, 5) == whole


def test_gap4_bytes_by_hand() -> None:
    row = np.zeros((2, 20), np.int8)
    row[0, [0, 3]] = 7  # gaps 0, 2
    row[1, 19] = 9  # 35 zeros after column 3: 15, 15, then 5
    encoded = codecs.encode(row, 0, "gap4", "raw")
    assert encoded is not None
    assert encoded.placed.stream == bytes([0x02, 0xFF, 0x50])
    assert encoded.coded.stream == bytes([7, 7, 9])


def test_bitmask_bytes_by_hand() -> None:
    encoded = codecs.encode(np.array([[0, 1, 0], [2, 0, 3]], np.int8), 0, "bitmask", "raw")
    assert encoded is not None
    assert encoded.placed.stream == bytes([0b01010100])


def test_packed_indices_by_hand() -> None:
    encoded = codecs.encode(np.array([[-1, 5, 2, 5]], np.int8), 0, "dense", "packed")
    assert encoded is not None and encoded.coded.codebook is not None
    assert encoded.coded.codebook.tolist() == [-1, 2, 5]
    assert encoded.coded.index_bits == 2
    assert encoded.coded.stream == bytes([0b00_10_01_10])


def test_huffman_by_hand() -> None:
    encoded = codecs.encode(np.array([[4, 4, 4, 4, 1, 1, 2]], np.int8), 0, "dense", "huffman")
    assert encoded is not None and encoded.coded.codebook is not None
    assert encoded.coded.code_counts == (1, 2)  # 0, 10, 11
    assert encoded.coded.codebook.tolist() == [4, 1, 2]
    assert encoded.coded.stream == bytes([0b0000_1010, 0b11_000000])


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=40), st.integers(6, 15))
def test_code_lengths_are_complete_and_limited(frequencies: list[int], limit: int) -> None:
    lengths = code_lengths(np.array(frequencies), limit)
    assert lengths.max() <= limit
    assert sum(2.0**-n for n in lengths) == 1
    order = np.argsort(frequencies)
    assert all(a >= b for a, b in zip(lengths[order], lengths[order][1:], strict=False)) or len(
        set(frequencies)
    ) < len(frequencies)


def test_code_lengths_without_a_binding_limit_are_huffmans() -> None:
    import heapq

    rng = np.random.default_rng(0)
    frequencies = rng.integers(1, 1000, 60)
    heap = [(int(f), i, (i,)) for i, f in enumerate(frequencies)]
    heapq.heapify(heap)
    depth = np.zeros(60, int)
    serial = 60
    while len(heap) > 1:
        a, b = heapq.heappop(heap), heapq.heappop(heap)
        depth[list(a[2] + b[2])] += 1
        heapq.heappush(heap, (a[0] + b[0], serial, a[2] + b[2]))
        serial += 1
    assert (depth * frequencies).sum() == (code_lengths(frequencies) * frequencies).sum()


def test_limited_lengths_beat_no_other_complete_code() -> None:
    """Brute force over all complete codes of 5 symbols with at most 3 bits."""
    from itertools import product

    frequencies = np.array([100, 40, 3, 2, 1])
    best = min(
        int((np.array(c) * frequencies).sum())
        for c in product(range(1, 4), repeat=5)
        if sum(2.0**-n for n in c) == 1
    )
    assert (code_lengths(frequencies, 3) * frequencies).sum() == best


def test_fibonacci_frequencies_meet_the_limit() -> None:
    fibonacci = [1, 1]
    while len(fibonacci) < 30:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    assert code_lengths(np.array(fibonacci)).max() == 15
    values = np.repeat(np.arange(20), fibonacci[:20]).astype(np.int8)
    plan = Huffman().plan(Elements.of(values))
    assert plan is not None
    coded = plan.encode()
    assert len(coded.code_counts) <= 15
    assert np.array_equal(Huffman().decode(coded, values.size, values.dtype), values)


@pytest.mark.parametrize("counts", [(), (1,), (0, 3), (3,), (1, 1)])
def test_incomplete_codes_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        canonical_codes(counts)


def test_more_than_256_values_fit_no_codebook() -> None:
    matrix = np.arange(300, dtype=np.float32).reshape(1, -1)
    assert {e.values for e in codecs.candidates(matrix, 0)} == {"raw"}


def test_short_streams_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer"):
        bits.unpack(b"\x00", 3, 4)


def test_block_mask_by_hand() -> None:
    mask = np.zeros((1, 10), np.int8)
    mask[0, [4, 9]] = 1
    encoded = codecs.encode(mask, 0, "block", "raw")
    assert encoded is not None and encoded.placed.block_bits == 2
    # blocks of 4: 0, then 1 and 1000, then 1 and the 2 bits that are left
    assert encoded.placed.stream == bytes([0b0_1_1000_1_0, 0b1_0000000])


def test_gap_codes_by_hand() -> None:
    row = np.zeros((1, 30), np.int8)
    row[0, [0, 1, 2, 5, 29]] = 1  # gaps 0, 0, 0, 2, 23
    encoded = codecs.encode(row, 0, "gap", "raw")
    assert encoded is not None and encoded.placed.gaps is not None
    placed = encoded.placed
    units = {7: [0, 0, 0, 2, 7, 7, 7, 2], 31: [0, 0, 0, 2, 23]}[placed.gap_escape]
    assert sorted(placed.gaps.tolist()) == sorted(set(units))
    assert placed.gaps[0] == 0  # the most frequent run has the shortest code
    assert np.array_equal(codecs.decode(encoded, row.dtype), row)


def test_ans_of_equal_symbols_costs_what_their_probability_says() -> None:
    count = 4000
    half = np.full(count, 2048)
    stream = encode_symbols(half, np.zeros(count, np.int64), 12)  # probability 1/2: a bit each
    assert abs(len(stream) * 8 - count) <= 48
    assert len(encode_symbols(half[:0], half[:0], 12)) == 4


def test_lanes_are_segments_one_after_the_other() -> None:
    rng = np.random.default_rng(0)
    frequencies = rng.choice([1, 7, 300, 4096], (5, 200)).astype(np.uint32)
    starts = np.where(frequencies == 4096, 0, 4096 - frequencies).astype(np.uint32)
    encoder = LaneEncoder(5, 12)
    encoder.push(np.ascontiguousarray(frequencies.T[::-1]), np.ascontiguousarray(starts.T[::-1]))
    apart = [encode_symbols(f, s, 12) for f, s in zip(frequencies, starts, strict=True)]
    assert encoder.finish() == b"".join(apart)


def test_a_segment_that_ends_in_another_state_is_refused() -> None:
    decoder = Decoder(bytes([1, 0, 1, 0]), 12)
    decoder.segment()
    with pytest.raises(ValueError, match="first state"):
        decoder.segment()


def test_ans_streams_reach_the_entropy_of_random_masks() -> None:
    rng = np.random.default_rng(0)
    matrix = (rng.random((200, 400)) < 0.08) * rng.integers(1, 40, (200, 400))
    encoded = codecs.encode(matrix.astype(np.int8), 0, "ans", "ans")
    assert encoded is not None
    live = np.bincount(matrix[matrix > 0])[1:]
    p = live.sum() / matrix.size
    bits_of_mask = -matrix.size * (p * np.log2(p) + (1 - p) * np.log2(1 - p))
    bits_of_values = -(live * np.log2(live / live.sum())).sum()
    assert len(encoded.placed.stream) * 8 < 1.003 * bits_of_mask + 64
    assert len(encoded.coded.stream) * 8 < 1.003 * bits_of_values + 64


def test_dead_rows_and_columns_cost_no_weight_anything() -> None:
    rng = np.random.default_rng(0)
    small = (rng.random((20, 30)) < 0.3).astype(np.int8)
    large = np.zeros((200, 300), np.int8)
    large[np.ix_(np.arange(0, 200, 10), np.arange(0, 300, 10))] = small
    sizes = []
    for matrix in (small, large):
        encoded = codecs.encode(matrix, 0, "ans", "raw")
        assert encoded is not None
        sizes.append(encoded.position_bytes)
    # 180 dead rows of 200: the entropy of which they are; a bit per column, and probabilities
    assert sizes[1] - sizes[0] <= (200 * 0.47 + 300) / 8 + 14
    assert encoded.placed.classes == (2, 2)


def test_a_random_mask_has_one_probability_and_a_short_record() -> None:
    mask = np.random.default_rng(0).random((300, 784)) < 0.08
    (candidate,) = codecs.candidates(mask.astype(np.int8), 0, positions="ans", values="raw")
    placed = candidate.encode().placed
    p = mask.mean()
    entropy = -mask.size * (p * np.log2(p) + (1 - p) * np.log2(1 - p)) / 8
    assert placed.classes == (1, 1) and placed.segment == 0
    assert len(placed.stream) <= 1.003 * entropy + 6
    assert candidate.position_plan.record_bytes <= 7  # offset, size, classes, segment


def test_uneven_masks_take_less_than_independent_bits() -> None:
    """A trained first layer: inputs at the border see nothing, some outputs use little."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:28, 0:28] / 13.5 - 1
    inputs = np.clip(1.2 - (x**2 + y**2), 0, 1).ravel()
    outputs = rng.choice([0.0, 0.05, 0.3], 300)
    mask = rng.random((300, 784)) < np.outer(outputs, inputs)
    encoded = codecs.encode(mask.astype(np.int8), 0, "ans", "raw")
    assert encoded is not None
    p = mask.mean()
    entropy = -mask.size * (p * np.log2(p) + (1 - p) * np.log2(1 - p)) / 8
    assert encoded.position_bytes < 0.8 * entropy
    assert min(encoded.placed.classes) > 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=256), st.booleans())
def test_frequency_classes_add_up_and_come_back(counts: list[int], whole: bool) -> None:
    dtype = np.dtype(np.int8 if whole else np.float32)
    symbols = np.arange(-(len(counts) // 2), len(counts) - len(counts) // 2).astype(dtype)
    table = Table.of(Histogram(symbols, np.array(counts)))
    assert sum(n * f for n, f in table.classes) == 4096
    assert min(f for _, f in table.classes) >= 1 and len(table.classes) <= len(counts)
    assert sorted(table.codebook.tolist()) == symbols.tolist()
    again, size = Table.parse(table.stored() + b"more", dtype)
    assert size == table.size and again.classes == table.classes
    assert np.array_equal(again.codebook, table.codebook)


def test_classes_cost_little_and_their_tables_are_small() -> None:
    """64 linear centroids over the tails of a normal distribution."""
    levels = np.concatenate([np.arange(-127, -50, 2.5), np.arange(50, 127, 2.5)]).astype(np.int8)
    counts = np.round(20000 * np.exp(-((levels / 28.0) ** 2) / 2)).astype(np.int64) + 1
    table = Table.of(Histogram(levels, counts))
    order = np.argsort(table.codebook)
    cost = -(counts * np.log2(table.frequencies[order] / 4096)).sum() / 8
    entropy = -(counts * np.log2(counts / counts.sum())).sum() / 8
    assert cost < 1.01 * entropy
    assert table.size < levels.size + 15  # where a frequency per value alone takes 64 to 128


@pytest.mark.parametrize(
    "table", [b"\x00\x00\x01\x01\x05", b"\x00\x08\x01\x80\x20", b"\x00\x00\x02\x80\x10\x05"]
)
def test_damaged_tables_are_refused(table: bytes) -> None:
    with pytest.raises(ValueError):
        Table.parse(table, np.dtype(np.int8))


@pytest.mark.parametrize("values", ["huffman", "ans"])
def test_matrices_of_like_values_share_a_table(values: str) -> None:
    rng = np.random.default_rng(0)
    levels = np.round(np.linspace(-120, 120, 40)).astype(np.int8)
    shape = (30, 40)
    matrices = {}
    for name in ("a", "b", "c"):
        matrix = levels[np.clip(rng.normal(20, 5, shape), 0, 39).astype(int)]
        matrices[name] = np.where(rng.random(shape) < 0.8, 0, matrix).astype(np.int8)
    matrices["other"] = rng.choice(np.array([-1, 1, 0], np.int8), shape)
    encoded = {}
    for name, matrix in matrices.items():
        one = codecs.encode(matrix, 0, "bitmask", values)
        assert one is not None
        encoded[name] = one
    shared = tables.share(matrices, encoded)
    assert tables.stored_bytes(shared.values()) < tables.stored_bytes(encoded.values()) - 30
    for name, e in shared.items():
        assert np.array_equal(codecs.decode(e, np.dtype(np.int8)), matrices[name])
    books = [e.coded.table or e.coded.codebook.tobytes() for e in shared.values()]
    assert len(set(books[:3])) == 1 and books[3] != books[0]


def test_huge_matrices_are_cut_into_segments() -> None:
    matrix = (np.random.default_rng(0).random((512, 1024)) < 0.5).astype(np.int8)
    encoded = codecs.encode(matrix, 0, "ans", "ans")
    assert encoded is not None and encoded.placed.segment > 0
    assert encoded.position_bytes < 1.002 * matrix.size / 8
    values = np.random.default_rng(0).integers(0, 4, 300_000).astype(np.int8)
    plan = AnsValues().plan(Elements.of(values))
    assert plan is not None and plan.coded.segment > 0
    assert np.array_equal(AnsValues().decode(plan.coded, values.size, values.dtype), values)
