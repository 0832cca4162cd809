"""Padding as an op of its own."""

from pathlib import Path

from random_graphs import random_graph, random_inputs

from zeroskip.conversion import convert
from zeroskip.converters import container, reference
from zeroskip.converters.container import describe
from zeroskip.converters.ir import Conv2D, Graph
from zeroskip.converters.passes import memory
from zeroskip.converters.passes.padding import MOST_GROWTH, pad_inputs
from zeroskip.runtime import Model


def padded_convolutions(graph: Graph) -> int:
    return sum(isinstance(op.attributes, Conv2D) and any(op.attributes.padding) for op in graph.ops)


def test_outputs_are_the_same_and_the_arena_hardly_grows() -> None:
    added = 0
    for seed in range(120):
        graph = random_graph(seed, ("int8", "float32")[seed % 2], 3)
        padded = pad_inputs(graph)
        new = len(padded.ops) - len(graph.ops)
        assert new == padded_convolutions(graph) - padded_convolutions(padded)
        before, after = (memory.plan(g, {}).arena_bytes for g in (graph, padded))
        assert after <= (1 + MOST_GROWTH) * before
        if new == 0:
            assert padded == graph
            continue
        added += new
        x = random_inputs(graph, 2, seed)
        (expected,) = reference.run(graph, [x])
        assert reference.run(padded, [x])[0].tobytes() == expected.tobytes()
        assert Model(container.build(padded)).run(x).tobytes() == expected.tobytes()
    assert added >= 5


def test_the_smallest_container_has_no_padding_of_its_own(data_root: Path) -> None:
    path = data_root / "models" / "mlperf_tiny_kws_int8.tflite"
    kinds = {
        prefer: [op.op for op in describe(convert(path, prefer=prefer)).ops]
        for prefer in ("size", "balanced", "speed")
    }
    assert "pad" not in kinds["size"]
    assert kinds["balanced"].count("pad") >= kinds["speed"].count("pad") == 5
