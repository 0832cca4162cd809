"""Codecs: exact inverses, streams as FORMAT.md says, Huffman codes optimal under the limit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskip.converters import codecs
from zeroskip.converters.codecs import bits
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
    assert {(p, "raw") for p in codecs.POSITIONS} <= names


def test_gap4_bytes_by_hand() -> None:
    row = np.zeros((2, 20), np.int8)
    row[0, [0, 3]] = 7  # gaps 0, 2
    row[1, 19] = 9  # 35 zeros after column 3: 15, 15, then 5
    encoded = codecs.encode(row, 0, "gap4", "raw")
    assert encoded is not None
    assert encoded.position_stream == bytes([0x02, 0xFF, 0x50])
    assert encoded.coded.stream == bytes([7, 7, 9])


def test_bitmask_bytes_by_hand() -> None:
    encoded = codecs.encode(np.array([[0, 1, 0], [2, 0, 3]], np.int8), 0, "bitmask", "raw")
    assert encoded is not None
    assert encoded.position_stream == bytes([0b01010100])


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
