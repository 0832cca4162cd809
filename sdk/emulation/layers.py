"""Single layers on emulated boards: what each costs, and in which functions.

Many independent layers go into one container, so that one
firmware run prices all of them; a layer's cycles are split by the function that spent them, which
the compiler keeps apart from the kernels (one codec per file, no link-time optimisation).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zeroskip import boards, elf, firmware
from zeroskip.boards import Board, Pipeline, Timing
from zeroskip.converters import codecs, container
from zeroskip.converters.codecs import EncodedMatrix
from zeroskip.converters.ir import Conv2D, FullyConnected, Graph, Op, Quantization, Tensor
from zeroskip.converters.planner import Choice, Prefer
from zeroskip.emulation import protocol
from zeroskip.emulation.cycles import model_of
from zeroskip.emulation.profile import by_function
from zeroskip.emulation.run import choose_emulator, execute, read_report
from zeroskip.errors import EmulationError, InputError
from zeroskip.runtime import Model

Array = npt.NDArray[Any]

# The board whose firmware stands for a core. Sizes do not matter here: memories are made large.
BOARDS: Final = {
    "cortex-m4": "mps2-an386",
    "cortex-m3": "mps2-an385",
    "cortex-m0plus": "raspberry-pi-pico",
}
_MEMORY_BYTES: Final = 3 << 20
_TIMEOUT_S: Final = 1200.0


@dataclass(frozen=True)
class Layer:
    """One int8 layer: weights (O, I) of a fully connected, or (O, C/groups, KH, KW) of a conv,
    with the codec pair it is stored in, and its input without the batch axis."""

    name: str
    weights: Array
    positions: str
    values: str
    x: Array
    attributes: Conv2D | FullyConnected
    by_columns: bool = False

    def encoded(self) -> EncodedMatrix | None:
        matrix = self.weights.reshape(len(self.weights), -1)
        return codecs.encode(matrix, 0, self.positions, self.values, self.by_columns)


@dataclass(frozen=True)
class Run:
    """One layer as it ran: cycles in all and by function, multiply-accumulates executed."""

    layer: Layer
    encoded: EncodedMatrix
    graph: Graph
    op: Op
    cycles: int
    by_function: Mapping[str, int]
    macs: int


def board_of(core: str) -> Board:
    """The emulated board of a core, with memory for many layers."""
    return roomy(boards.load(BOARDS[core]))


def roomy(board: Board) -> Board:
    """The board with memory for many layers: their sizes do not matter to cycles."""
    return replace(
        board,
        flash=replace(board.flash, size=_MEMORY_BYTES),
        ram=replace(board.ram, size=_MEMORY_BYTES),
    )


def timing_of(board: Board) -> Timing | Pipeline:
    """What a board's cycles are priced with. Raises InputError if its core has no timing model."""
    if board.core.timing is None:
        raise InputError(f"no timing model for {board.core.name}, the core of {board.name}")
    return board.core.timing


def run_all(layers: Sequence[Layer], board: Board, optimize: firmware.Optimize = "2") -> list[Run]:
    """Run every layer once, in one image, on a board with room for them (see `roomy`).

    Raises InputError for a core without a timing model, EmulationError for outputs that are not the
    host's, and as `zeroskip.emulation.emulate` does.
    """
    graph, encoded = _graph(layers)

    def choose(graph: Graph, op: Op, prefer: Prefer) -> Choice:
        return Choice(encoded[op.output], {})

    blob = container.build(graph, choose=choose)
    inputs = [layer.x[None] for layer in _distinct_inputs(layers)]
    cycles, functions, macs, outputs = _emulate(blob, board, inputs, optimize)
    expected = Model(blob).run(*inputs)
    for a, b in zip(outputs, expected if isinstance(expected, list) else [expected], strict=True):
        if a.tobytes() != b.tobytes():
            raise EmulationError(f"outputs on {board.name} differ from the host's")
    return [
        Run(layer, encoded[op.output], graph, op, cycles[i], functions[i], macs[i])
        for i, (layer, op) in enumerate(zip(layers, graph.ops, strict=True))
    ]


def _emulate(
    blob: bytes, board: Board, inputs: Sequence[Array], optimize: firmware.Optimize
) -> tuple[list[int], list[dict[str, int]], list[int], tuple[Array, ...]]:
    timing = timing_of(board)
    count = Model(blob).op_count
    with tempfile.TemporaryDirectory(prefix="zeroskip-") as scratch:
        folder = Path(scratch)
        built = firmware.build(
            blob, board, output=folder / "firmware.elf", image="emulated", optimize=optimize
        )
        image = elf.parse(built.path.read_bytes())
        (folder / protocol.INPUT_FILE).write_bytes(protocol.encode_inputs(inputs))
        profile = execute(built, image, folder, choose_emulator(None, board), _TIMEOUT_S)
        report = read_report(folder, image)
    model = model_of(image, timing)
    regions = [profile[1 + i] for i in range(count)]
    return (
        [model.cycles(region) for region in regions],
        [
            {name: model.cycles(part) for name, part in by_function([region], image).items()}
            for region in regions
        ],
        [macs for _, macs in report.ops],
        report.outputs,
    )


def _distinct_inputs(layers: Sequence[Layer]) -> list[Layer]:
    """The first layer of each distinct input array."""
    return list({id(layer.x): layer for layer in layers}.values())


def _graph(layers: Sequence[Layer]) -> tuple[Graph, dict[str, EncodedMatrix]]:
    tensors: dict[str, Tensor] = {}
    ops: list[Op] = []
    encoded: dict[str, EncodedMatrix] = {}
    activation = Quantization((2.0**-5,), 0)
    inputs = {id(layer.x): f"x{i}" for i, layer in enumerate(_distinct_inputs(layers))}
    for layer in _distinct_inputs(layers):
        name = inputs[id(layer.x)]
        tensors[name] = Tensor(name, layer.x.shape, "int8", activation)
    for i, layer in enumerate(layers):
        w, y, x = f"w{i}", f"y{i}", inputs[id(layer.x)]
        scale = Quantization((2.0**-7,), 0)
        tensors[w] = Tensor(w, layer.weights.shape, "int8", scale, layer.weights)
        tensors[y] = Tensor(y, output_shape(layer), "int8", Quantization((2.0**-2,), 0))
        ops.append(Op(layer.name, layer.attributes, (x, w), y))
        matrix = layer.encoded()
        if matrix is None:
            raise ValueError(f"{layer.name}: {layer.positions}+{layer.values} cannot hold it")
        encoded[y] = matrix
    outputs = tuple(op.output for op in ops)
    return Graph("layers", tensors, tuple(ops), tuple(inputs.values()), outputs), encoded


def output_shape(layer: Layer) -> tuple[int, ...]:
    """Shape of the layer's output, without the batch axis."""
    a = layer.attributes
    if not isinstance(a, Conv2D):
        return (*layer.x.shape[:-1], len(layer.weights))
    _, height, width = layer.x.shape
    top, bottom, left, right = a.padding
    spans = [(k - 1) * d + 1 for k, d in zip(layer.weights.shape[2:], a.dilation, strict=True)]
    return (
        len(layer.weights),
        (height + top + bottom - spans[0]) // a.stride[0] + 1,
        (width + left + right - spans[1]) // a.stride[1] + 1,
    )


def sparse_int8(
    shape: tuple[int, ...], sparsity: float, distinct: int, seed: int, *, spread: float = 0.35
) -> Array:
    """Random int8 weights, `sparsity` of them zero; the others have `distinct` values, spread as
    those of a bell curve clipped at 1 / spread standard deviations, as trained centroids are."""
    rng = np.random.default_rng(seed)
    levels = np.unique(np.round(np.linspace(-127, 127, distinct + 1)).astype(np.int64))
    levels = levels[levels != 0][:distinct]
    p = np.exp(-0.5 * (levels / (127 * spread)) ** 2)
    values = rng.choice(levels, size=shape, p=p / p.sum())
    return np.where(rng.random(shape) < sparsity, 0, values).astype(np.int8)


def activations(shape: tuple[int, ...], active: float, seed: int) -> Array:
    """Random int8 activations of which the fraction `active` is not zero."""
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 128, shape) * rng.choice([-1, 1], shape)
    return np.where(rng.random(shape) < active, values, 0).astype(np.int8)


def other_ops(board: Board) -> dict[str, float]:
    """Cycles per unit of work of the ops without weights, from one run of each."""
    from zeroskip.converters import costs
    from zeroskip.converters.ir import (
        Binary,
        BinaryKind,
        Concat,
        Mean,
        Pad,
        Pool2D,
        PoolKind,
        Quantize,
        Slice,
        Softmax,
        Transpose,
        Unary,
        UnaryKind,
    )  # fmt: skip

    shape = (8, 16, 16)
    q = Quantization((2.0**-5,), 0)
    cases: list[tuple[Any, tuple[str, ...], tuple[int, ...], Quantization]] = [
        (Binary(BinaryKind.ADD), ("x", "x2"), shape, q),
        (Pool2D(PoolKind.MAX, (2, 2), (2, 2)), ("x",), (8, 8, 8), q),
        (Pool2D(PoolKind.AVERAGE, (4, 4), (4, 4)), ("x",), (8, 4, 4), q),
        (Mean((1, 2)), ("x",), (8, 1, 1), q),
        (Pad(((0, 0), (1, 1), (1, 1))), ("x",), (8, 18, 18), q),
        (Concat(0), ("x", "x2"), (16, 16, 16), q),
        (Softmax(2), ("x",), shape, Quantization((2.0**-8,), -128)),
        (Unary(UnaryKind.SIGMOID), ("x",), shape, Quantization((2.0**-8,), -128)),
        (Slice((0, 1, 1)), ("x",), (8, 14, 14), q),
        (Transpose((1, 2, 0)), ("x",), (16, 16, 8), q),
        (Quantize(), ("x",), shape, Quantization((2.0**-4,), 0)),
    ]
    tensors = {n: Tensor(n, shape, "int8", q) for n in ("x", "x2")}
    ops = []
    for i, (attributes, inputs, out, quantization) in enumerate(cases):
        tensors[f"y{i}"] = Tensor(f"y{i}", out, "int8", quantization)
        ops.append(Op(f"op{i}", attributes, inputs, f"y{i}"))
    graph = Graph("others", tensors, tuple(ops), ("x", "x2"), tuple(o.output for o in ops))
    inputs_ = [activations(shape, 1.0, seed)[None] for seed in (1, 2)]
    cycles, *_ = _emulate(container.build(graph), board, inputs_, "2")
    found: dict[str, list[float]] = {}
    for op, spent in zip(ops, cycles, strict=True):
        group = costs.other_group(graph, op)
        assert group is not None
        ((kind, work),) = group[1].items()
        found.setdefault(kind, []).append(spent / work)
    return {kind: float(f"{np.mean(each):.4g}") for kind, each in sorted(found.items())}
