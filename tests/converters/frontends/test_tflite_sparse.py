"""TFLite's sparse encoding: round trips, and descriptions that contradict themselves."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tflite")

from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_models import sparse_tensor

from zeroskip.converters.frontends.tflite_sparse import (
    MAX_DENSE_ELEMENTS,
    Level,
    SparseLayout,
    densify,
)
from zeroskip.errors import ModelError


def levels_of(encoded) -> tuple[Level, ...]:
    return tuple(
        Level(level.size, None, None)
        if level.segments is None
        else Level(0, np.array(level.segments, np.int64), np.array(level.indices, np.int64))
        for level in encoded.levels
    )


@settings(deadline=None)
@given(st.data())
def test_round_trip(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 4))
    sizes = [data.draw(st.sampled_from([1, 2, 4, 6])) for _ in range(rank)]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    dense = rng.integers(-128, 128, sizes) * (rng.random(sizes) < data.draw(st.floats(0, 1)))
    dense = dense.astype(np.int8)
    blocked = data.draw(st.lists(st.integers(0, rank - 1), unique=True))
    blocks = {
        i: data.draw(st.sampled_from([b for b in (1, 2, 3) if sizes[i] % b == 0])) for i in blocked
    }
    encoded = sparse_tensor(
        dense,
        data.draw(st.lists(st.integers(0, rank - 1), unique=True)),
        data.draw(st.permutations(range(rank))),
        blocks,
    )
    layout = SparseLayout(encoded.order, encoded.blocks, levels_of(encoded))
    np.testing.assert_array_equal(densify(encoded.values, dense.shape, layout), dense)


DENSE = np.array([[0, 5, 0], [7, 0, 9]], np.int8)
ENCODED = sparse_tensor(DENSE, (1,))
LAYOUT = SparseLayout(ENCODED.order, ENCODED.blocks, levels_of(ENCODED))


def compressed(segments: list[int], indices: list[int]) -> SparseLayout:
    level = Level(0, np.array(segments, np.int64), np.array(indices, np.int64))
    return replace(LAYOUT, levels=(LAYOUT.levels[0], level))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (replace(LAYOUT, order=(0, 0)), "does not fit"),
        (replace(LAYOUT, order=(0,)), "does not fit"),
        (replace(LAYOUT, levels=LAYOUT.levels[:1]), "does not fit"),
        (replace(LAYOUT, blocks=(5,)), "does not fit"),
        (SparseLayout((0, 2, 1), (0,), (*LAYOUT.levels, LAYOUT.levels[0])), "does not fit"),
        (SparseLayout((0, 1, 2), (1,), (*LAYOUT.levels, Level(2, None, None))), "do not divide"),
        (replace(LAYOUT, levels=(Level(3, None, None), LAYOUT.levels[1])), "should have 2"),
        (compressed([0, 1], [1, 0, 2]), "too few segments"),
        (compressed([0, 2, 1], [1, 0, 2]), "not in order"),
        (compressed([0, 1, 4], [1, 0, 2]), "not in order"),
        (compressed([-1, 1, 3], [1, 0, 2]), "not in order"),
        (compressed([0, 1, 3], [1, 0, 3]), "outside 0..2"),
        (compressed([0, 1, 3], [1, 0, -1]), "outside 0..2"),
        (compressed([0, 1, 2], [1, 0, 2]), "has 2 values, the buffer 3"),
        (compressed([0, 7, 14], [0] * 14), "more elements than the tensor"),
    ],
)
def test_contradictions(layout: SparseLayout, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        densify(ENCODED.values, DENSE.shape, layout)


def test_huge_tensors_are_refused_before_they_are_made() -> None:
    layout = SparseLayout((0,), (), (Level(0, np.zeros(2, np.int64), np.zeros(0, np.int64)),))
    with pytest.raises(ModelError, match="limit"):
        densify(np.zeros(0, np.int8), (MAX_DENSE_ELEMENTS + 1,), layout)
