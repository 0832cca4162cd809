"""Every codec pair, by rows and by columns, decoded by the C runtime: the bits of the oracle."""

import numpy as np
import pytest
from random_graphs import forced, layer_graph, random_inputs

from zeroskip.converters import codecs, container, reference
from zeroskip.converters.planner import Prefer
from zeroskip.errors import ModelError
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
