"""Codecs: exact inverses, streams as FORMAT.md says, Huffman codes optimal under the limit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskip.converters import codecs
from zeroskip.converters.codecs import bits
from zeroskip.converters.codecs.ans import encode_symbols, quantize_frequencies
from zeroskip.converters.codecs.huffman import Huffman, canonical_codes, code_lengths


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
@given(matrices(), st.booleans())
def test_every_codec_pair_gives_the_matrix_back(
    case: tuple[np.ndarray, int], by_columns: bool
) -> None:
    matrix, zero = case
    names = set()
    for encoded in codecs.candidates(matrix, zero, by_columns):
        names.add((encoded.positions, encoded.values))
        decoded = codecs.decode(encoded, matrix.dtype)
        assert decoded.dtype == matrix.dtype
        assert np.array_equal(decoded, matrix), encoded.name
        assert encoded.max_row <= encoded.cols and encoded.count <= matrix.size
    # gap needs two different runs, ans no directory
    assert {(p, "raw") for p in codecs.POSITIONS} - {("gap", "raw"), ("ans", "raw")} <= names
    assert by_columns or ("ans", "ans") in names or not encoded.count


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
    coded = Huffman().encode(values)
    assert coded is not None and len(coded.code_counts) <= 15
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
    stream = encode_symbols([(0, 2048)] * count, 12)  # probability 1/2: a bit each
    assert abs(len(stream) * 8 - count) <= 48
    assert len(encode_symbols([], 12)) == 4


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
        sizes.append(len(encoded.placed.stream))
    # 180 dead rows of 200: the entropy of which they are; columns: a bit each, apart
    assert sizes[1] - sizes[0] <= 200 * 0.47 / 8 + 4
    assert encoded.placed.live_columns is not None and encoded.placed.live_columns.sum() <= 30


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=256))
def test_frequencies_are_positive_and_add_up(counts: list[int]) -> None:
    frequencies = quantize_frequencies(np.array(counts))
    assert frequencies.min() >= 1 and frequencies.sum() == 4096


def test_sequential_codecs_leave_huge_matrices_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeroskip.converters.codecs.ans.MAX_SYMBOLS", 100)
    names = {e.name for e in codecs.candidates(np.ones((20, 20), np.int8), 0)}
    assert names and not any("ans" in name for name in names)
