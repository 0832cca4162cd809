"""Biases and requantisation: as few bytes as they need, and what C reads back from them."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import biased_layer

from zeroskip.converters import container, parameters, reference
from zeroskip.converters.format import Reader
from zeroskip.errors import FormatError
from zeroskip.runtime import Model


def fields(data: bytes, count: int, bits: int, signed: bool) -> np.ndarray:
    """What FORMAT.md says about fields, word by word."""
    stream = int.from_bytes(data, "little")
    values = [stream >> (i * bits) & ((1 << bits) - 1) for i in range(count)]
    top = 1 << bits >> 1
    return np.array([v - (1 << bits) if signed and v & top else v for v in values], np.int64)


def read_bias(form: parameters.Form, channels: int) -> np.ndarray:
    r = Reader(form.head)
    kind = r.u8()
    if kind < parameters.PACKED:
        return fields(form.data, channels, 8 * kind, True)
    bits, shift, base = kind & 63, r.u8(), r.svar()
    stored = np.ones(channels, bool)
    data = form.data
    if kind & parameters.SOME_STORED:
        stored = fields(data, channels, 1, False).astype(bool)
        data = data[(channels + 7) // 8 :]
    values = np.zeros(channels, np.int64)
    values[stored] = (base + fields(data, int(stored.sum()), bits, True)) << shift
    return values


def read_scales(form: parameters.Form, channels: int) -> tuple[np.ndarray, np.ndarray]:
    r = Reader(form.head)
    kind = r.u8()
    if kind < parameters.PACKED:
        n = channels if kind else 1
        return fields(form.data, n, 32, False), fields(form.data[4 * n :], n, 8, True)
    m, widths, base, shift_base = kind & 127, r.u8(), r.var(), r.svar()
    multipliers = (base + fields(form.data, channels, m, False)) << (widths & 31)
    rest = int.from_bytes(form.data, "little") >> (m * channels)
    data = rest.to_bytes(len(form.data), "little")
    return multipliers, shift_base + fields(data, channels, widths >> 5, True)


BIASES = st.one_of(
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=40),
    st.lists(st.integers(-40, 40), min_size=1, max_size=40),
    st.lists(st.integers(-20, 20).map(lambda v: v * 4096), min_size=1, max_size=40),
    st.lists(st.sampled_from([0] * 9 + [123456, -7]), min_size=1, max_size=80),
    st.lists(st.integers(1_000_000, 1_000_100), min_size=1, max_size=40),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(BIASES)
def test_biases_survive(values: list[int]) -> None:
    bias = np.array(values, np.int32)
    form = parameters.bias_form(bias)
    assert np.array_equal(read_bias(form, bias.size), bias)
    assert len(form.data) <= 4 * bias.size


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(2**30, 2**31 - 1), min_size=1, max_size=30),
    st.integers(0, 30),
    st.integers(-31, 30),
    st.integers(0, 61),
)
def test_scales_survive(values: list[int], zeros: int, first: int, spread: int) -> None:
    multiplier = np.array(values, np.int32) >> zeros << zeros
    rng = np.random.default_rng(31 + first + spread)
    shift = np.clip(first + rng.integers(0, spread + 1, multiplier.size), -31, 30).astype(np.int32)
    form = parameters.scale_form(multiplier, shift)
    m, s = read_scales(form, multiplier.size)
    assert np.array_equal(m, multiplier) and np.array_equal(s, shift)
    assert form.size <= 8 + 5 * multiplier.size


def test_what_a_bias_costs() -> None:
    def size(values: np.ndarray) -> int:
        return parameters.bias_form(values.astype(np.int32)).size

    rng = np.random.default_rng(0)
    small = rng.integers(-8, 8, 64)
    small[:2] = -8, 7
    assert size(small * 0) == 1
    assert size(small) == size(small << 20) == 3 + 3 + 32
    assert size(small + 1_000_000) == 3 + 3 + 32 + 2
    assert size(np.full(64, 77)) == 4
    few = np.zeros(64)
    few[[3, 17, 40]] = 5, -3, 7
    assert size(few) == 3 + 3 + 8 + 2


def test_what_scales_cost() -> None:
    one = np.array([1_500_000_000], np.int32)
    assert parameters.scale_form(one, np.array([-7], np.int32)).size <= 9
    short = (np.arange(128, 192) << 23).astype(np.int32)
    shifts = np.where(np.arange(64) % 3, -8, -9).astype(np.int32)
    form = parameters.scale_form(short, shifts)
    assert len(form.data) == 64 * 7 // 8


@settings(max_examples=150, deadline=None, derandomize=True)
@given(BIASES, st.integers(0, 2**32 - 1), st.sampled_from([None, 8, 16]), st.booleans())
def test_c_reads_what_was_written(
    values: list[int], seed: int, bits: int | None, per_channel: bool
) -> None:
    for conv in (False, True):
        graph = biased_layer(np.array(values, np.int32), seed, bits, per_channel, conv)
        rng = np.random.default_rng(seed)
        x = rng.integers(-128, 128, (2, *graph.tensors["x"].shape)).astype(np.int8)
        blob = container.build(graph)
        expected = reference.run(graph, [x])[0]
        assert np.array_equal(np.asarray(Model(blob).run(x)), expected)
        description = container.describe(blob)
        assert description.ops[0].bytes <= len(blob)


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_float_biases(density: float) -> None:
    rng = np.random.default_rng(0)
    bias = np.where(rng.random(100) < density, rng.normal(size=100), 0).astype(np.float32)
    graph = biased_layer(bias, 0, None, False, False)
    blob = container.build(graph)
    x = rng.normal(size=(2, 5)).astype(np.float32)
    assert np.array_equal(np.asarray(Model(blob).run(x)), reference.run(graph, [x])[0])
    form = parameters.bias_form(bias)
    assert len(form.data) == (400 if density == 1 else 13 + 4 * np.count_nonzero(bias))


def damaged(blob: bytes, old: bytes, new: bytes) -> bytes:
    assert blob.count(old) == 1
    changed = blob.replace(old, new)[:-4]
    return changed + zlib.crc32(changed).to_bytes(4, "little")


def test_hostile_parameters_are_refused() -> None:
    graph = biased_layer(np.arange(1, 60, dtype=np.int32) * 4096, 3, 8, True, False)
    blob = container.build(graph)
    bias = parameters.bias_form(graph.tensors["b"].data).head
    p = container.lowering.weighted(graph, graph.ops[0])
    scales = parameters.scale_form(p.multiplier, p.shift).head
    Model(blob)
    bad = [
        (bias, bytes([bias[0], 32]) + bias[2:]),  # shift over 31
        (bias, bytes([128 + 33]) + bias[1:]),  # bits over 32
        (bias, bytes([128 + 32]) + bias[1:]),  # fields outside the data
        (bias, bytes([5]) + bias[1:]),
        (scales, bytes([128 + 32]) + scales[1:]),
        (scales, bytes([127]) + scales[1:]),
        (scales, bytes([scales[0], scales[1] + 3]) + scales[2:]),  # multipliers over 2^31 - 1
        (scales, scales[:-1] + bytes([63])),  # shifts below -31
        (scales, scales[:-1] + bytes([62])),  # shifts over 30
    ]
    for old, new in bad:
        with pytest.raises(FormatError):
            Model(damaged(blob, old, new))
