"""Every codec pair, by rows and by columns, decoded by the C runtime: the bits of the oracle."""

import zlib
from contextlib import nullcontext

import numpy as np
import pytest
from random_graphs import forced, layer_graph, random_inputs, short_segments, uneven_graph

from zeroskip.converters import codecs, container, description, reference
from zeroskip.converters.planner import Prefer
from zeroskip.errors import FormatError, ModelError
from zeroskip.runtime import Model

PAIRS = [(p, v) for p in codecs.POSITIONS for v in codecs.VALUES]
SEEDS = 12


@pytest.mark.parametrize("step", ["conv", "fully_connected"])
@pytest.mark.parametrize(("positions", "values"), PAIRS)
def test_codec_pair(step: str, positions: str, values: str) -> None:
    used = set()
    for seed in range(SEEDS):
        for dtype in ("int8", "float32"):
            graph = layer_graph(step, seed, dtype)
            x = random_inputs(graph, 2, seed)
            for prefer in Prefer:
                choose = forced(positions, values)
                try:
                    blob = container.build(graph, prefer=prefer, choose=choose)
                except ModelError:
                    continue
                y = np.asarray(Model(blob).run(x))
                assert y.tobytes() == reference.run(graph, [x])[0].tobytes(), (seed, dtype, prefer)
                used.add((dtype, container.describe(blob).ops[0].codec))
    for dtype in ("int8", "float32"):
        assert (dtype, f"{positions}+{values}") in used
        by_columns = step == "fully_connected" and "ans" not in (positions, values)
        assert ((dtype, f"{positions}+{values}, by columns") in used) == by_columns


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("segmented", [False, True])
def test_ans_classes_and_segments(dtype: str, segmented: bool) -> None:
    """Uneven rows and columns, codebooks as they are and as differences, one segment or many."""
    shapes, segments, widths = set(), set(), set()
    for seed in range(SEEDS):
        graph = uneven_graph(seed, dtype)
        with short_segments() if segmented else nullcontext():
            choice = forced("ans", "ans")(graph, graph.ops[0], Prefer.SIZE)
            blob = container.build(graph, choose=forced("ans", "ans"))
        x = random_inputs(graph, 2, seed)
        assert np.asarray(Model(blob).run(x)).tobytes() == reference.run(graph, [x])[0].tobytes()
        encoded = choice.encoded
        stored = container.describe(blob).ops[0]
        assert stored.weights is not None and stored.weights.codec == "ans+ans"
        assert np.array_equal(description.weights(blob)[0], graph.tensors["w"].data)
        shapes.add(encoded.placed.classes)
        segments |= {encoded.placed.segment > 0, encoded.coded.segment > 0}
        widths.add(encoded.coded.table[1])
    assert segmented in segments and (segmented or segments == {False})
    assert max(r for r, _ in shapes) > 1 and max(c for _, c in shapes) > 1
    assert (max(widths) > 0) == (dtype == "int8")


def damaged(blob: bytes, part: bytes, at: int, value: int) -> bytes:
    """The container with one byte changed in the place where `part` is stored."""
    data = bytearray(blob)
    where = blob.index(part)
    assert data[where + at] != value
    data[where + at] = value
    data[-4:] = zlib.crc32(data[:-4]).to_bytes(4, "little")
    return bytes(data)


def test_damaged_ans_tables_are_refused() -> None:
    with short_segments():
        graph = uneven_graph(11, "int8")
        choice = forced("ans", "ans")(graph, graph.ops[0], Prefer.SIZE)
        blob = container.build(graph, choose=forced("ans", "ans"))
    Model(blob)
    placed, coded = choice.encoded.placed, choice.encoded.coded
    rows, cols = placed.classes
    assert rows > 2 and cols == 3
    table = 2 * (rows - 1 + rows * cols)
    last_word = len(placed.stream) - 1
    cases = {
        "thresholds do not ascend": (placed.stream, 1, 255),
        "a column of a fourth class": (placed.stream, table, placed.stream[table] | 0xC0),
        "positions end in another state": (placed.stream, last_word, placed.stream[-1] ^ 1),
        "another segment's state": (placed.stream, table + 15, placed.stream[table + 15] ^ 1),
        "too many classes": (coded.table, 0, 255),
        "differences of 8 bits": (coded.table, 1, 8),
        "frequencies do not add up": (coded.table, 2, coded.table[2] + 1),
        "values end in another state": (coded.stream, 3, coded.stream[3] ^ 1),
    }
    for reason, (part, at, value) in cases.items():
        with pytest.raises(FormatError):
            Model(damaged(blob, part, at, value))
            pytest.fail(f"accepted: {reason}")
