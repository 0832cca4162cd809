"""Every codec decodes on the device to the bits of the host: a chain with one layer of each."""

import numpy as np
import pytest
from device_models import random_int8
from random_graphs import GraphMaker, forced

from zeroskip import boards
from zeroskip.converters import codecs, container
from zeroskip.converters.ir import FullyConnected, Graph, Op, Quantization, Tensor
from zeroskip.converters.planner import Choice, Prefer
from zeroskip.emulation import Emulator, emulate
from zeroskip.firmware import Compiler

EMULATORS = (
    pytest.param("qemu", marks=pytest.mark.tool("qemu-system-arm")),
    pytest.param("unicorn", marks=pytest.mark.tool("unicorn")),
)
COMPILERS = (
    pytest.param("gcc", marks=pytest.mark.tool("arm-none-eabi-gcc")),
    pytest.param("zig", marks=pytest.mark.tool("ziglang")),
)
VALUES = tuple(codecs.VALUES)
PAIRS = [(name, VALUES[i % len(VALUES)]) for i, name in enumerate((*codecs.POSITIONS, "gap"))]


def chain() -> Graph:
    """A fully connected layer per pair: some weights are zero, and few values differ."""
    maker = GraphMaker(5, "int8", (1, 2, 60))
    for _ in PAIRS:
        x = maker.last
        matrix = maker.constant((60, 60), sparsity=0.8, distinct=31)
        scale = Quantization((0.0078125,), 0)
        weight = maker.add(Tensor(f"w{len(maker.ops)}", (60, 60), "int8", scale, matrix))
        maker.op(FullyConnected(), (x, weight), x.shape)
    return maker.graph()


def choose(graph: Graph, op: Op, prefer: Prefer) -> Choice:
    layers = [o.output for o in graph.ops]
    return forced(*PAIRS[layers.index(op.output)])(graph, op, prefer)


@pytest.mark.parametrize("emulator", EMULATORS)
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("board", ["microbit", "mps2-an386"])  # without and with DSP
@pytest.mark.parametrize("prefer", list(Prefer))
def test_every_codec(prefer: Prefer, board: str, compiler: Compiler, emulator: Emulator) -> None:
    blob = container.build(chain(), prefer=prefer, choose=choose)
    used = " ".join(op.codec or "" for op in container.describe(blob).ops)
    if prefer is Prefer.SIZE:
        assert all(name in used for name in (*codecs.POSITIONS, *codecs.VALUES))
    x = random_int8((1, 2, 60), 2)
    result = emulate(blob, boards.load(board), [x], emulator=emulator, compiler=compiler)
    assert result.matches_host
    assert len(np.unique(result.outputs[0])) > 10
