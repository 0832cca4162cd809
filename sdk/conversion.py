"""From a source model to a container in one call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from zeroskip.boards import Board
from zeroskip.converters import budget as budgets
from zeroskip.converters import container
from zeroskip.converters.budget import Budget
from zeroskip.converters.ir import Array, Graph
from zeroskip.converters.passes import memory
from zeroskip.converters.passes.interleaved import read_interleaved
from zeroskip.converters.passes.padding import pad_inputs
from zeroskip.converters.passes.streaming import stream, stream_most
from zeroskip.converters.planner import Prefer
from zeroskip.errors import FitError, FormatError, InputError, MissingToolError, UnsupportedError

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    Source = torch.nn.Module | ExportedProgram | str | os.PathLike[str]

# What a board's memories hold beside the model, at most: the runtime with every op and codec at
# -O2 and the port (benchmarks/sizes.csv), and the port's own data. `zeroskip build` measures.
CODE_RESERVE_BYTES: Final = 40 * 1024
DATA_RESERVE_BYTES: Final = 512


def convert(
    source: Source,
    *,
    example_inputs: Any = None,
    calibration: Array | Sequence[Array] | None = None,
    clipping: str = "mse",
    float32: bool = False,
    float_io: bool = False,
    prefer: str = "balanced",
    budget: Budget | None = None,
    names: bool = True,
) -> bytes:
    """Convert a model to a .zsk container, losslessly but for the quantisation asked for.

    Args:
        source: path of a .tflite or .pt2 file, an nn.Module, or an ExportedProgram.
        example_inputs: for an nn.Module, arrays (N, ...) as it takes them; default: the
            calibration data.
        calibration: numbers (N, *shape) per input, of the kind that will be seen. For PyTorch
            models post-training quantisation takes the ranges of activations from them, of 100
            to 1,000 samples; for all models the planner how many activations are zero, for
            .tflite ones int8 as it is or real numbers.
        clipping: how ranges are chosen: "minmax", or "mse" for the clipping that minimises the
            mean squared quantisation error.
        float32: keep a PyTorch model in float32.
        float_io: let a quantised model take and give float32.
        prefer: "size", "balanced" or "speed" of the weight codecs (see converters/planner.py);
            "size" does without padding as an op, too, and "balanced" cuts layers into parts
            where that lowers the arena (passes/streaming.py). Without effect if there is a
            budget.
        budget: limits of flash, RAM and latency (see converters/budget.py), such as
            `board_budget` gives: the fastest container that fits, or, if there is a limit of
            latency, the smallest that meets it.
        names: keep op names for reports.

    Returns the container's bytes; equal models and options give equal bytes. Raises
    UnsupportedError, ModelError, InputError or FitError; OSError for a file that cannot be read.
    """
    graph = load_graph(
        source,
        example_inputs=example_inputs,
        calibration=calibration,
        clipping=clipping,
        float32=float32,
        float_io=float_io,
    )
    blob = build(graph, prefer=prefer, budget=budget, names=names)
    _prove(blob)
    return blob


def build(
    graph: Graph, *, prefer: str = "balanced", budget: Budget | None = None, names: bool = True
) -> bytes:
    """The container of a graph; arguments and errors are those of `convert`."""
    wanted = _prefer(prefer)
    if budget is not None:
        return _build_within(graph, budget, names)
    if wanted is not Prefer.SIZE:
        graph = pad_inputs(graph)
    if wanted is Prefer.BALANCED:
        graph = stream(graph)
    return container.build(graph, prefer=wanted, names=names)


def _build_within(graph: Graph, budget: Budget, names: bool) -> bytes:
    """The container for a budget. Raises FitError."""
    padded, interleaved = pad_inputs(graph), read_interleaved(graph)
    # From the fastest to that of the smallest arena; the same graph again where nothing helps.
    variants = [padded, stream(padded), stream_most(padded), graph, stream_most(graph)]
    if interleaved is not graph:
        variants += [stream(pad_inputs(interleaved)), stream_most(interleaved)]
    variants = [g for i, g in enumerate(variants) if all(g is not other for other in variants[:i])]
    able = [g for g in variants if _activation_bytes(g) <= budget.ram_bytes]
    *first, last = able or [min(variants, key=_activation_bytes)]
    for variant in first:
        try:
            plan = budgets.plan(variant, budget, names=names)
        except FitError:
            continue
        return container.build(variant, choose=plan.choose, names=names)
    plan = budgets.plan(last, budget, names=names)
    return container.build(last, choose=plan.choose, names=names)


def _activation_bytes(graph: Graph) -> int:
    return max(memory.live_bytes(graph, {}))


def board_budget(
    board: Board,
    *,
    flash_bytes: int | None = None,
    ram_bytes: int | None = None,
    latency_ms: float | None = None,
) -> Budget:
    """The budget of a model on a board, at the board's highest clock.

    `flash_bytes` is for the container alone, default: the board's flash less CODE_RESERVE_BYTES.
    `ram_bytes` is for the arena alone, default: the board's RAM less the stack and
    DATA_RESERVE_BYTES. Raises InputError.
    """
    if flash_bytes is None:
        flash_bytes = board.flash.size - CODE_RESERVE_BYTES
    if ram_bytes is None:
        ram_bytes = board.ram.size - board.stack.size - DATA_RESERVE_BYTES
    return Budget(flash_bytes, ram_bytes, board.core.name, board.clock.hz, latency_ms)


def load_graph(
    source: Source,
    *,
    example_inputs: Any = None,
    calibration: Array | Sequence[Array] | None = None,
    clipping: str = "mse",
    float32: bool = False,
    float_io: bool = False,
) -> Graph:
    """The graph that `convert` writes; arguments and errors are the same."""
    from zeroskip.converters.passes.activity import measure_activity
    from zeroskip.converters.passes.dead_channels import remove_dead_channels

    if isinstance(source, str | os.PathLike) and Path(source).suffix == ".tflite":
        from zeroskip.converters.frontends import tflite

        if float32 or float_io:
            raise InputError(
                f"{os.fspath(source)}: a .tflite model brings its own quantisation; "
                "float32 and float_io are for PyTorch models"
            )
        graph = remove_dead_channels(tflite.load(Path(source)))
        return graph if calibration is None else measure_activity(graph, calibration)
    if isinstance(source, str | os.PathLike) and Path(source).suffix != ".pt2":
        raise InputError(f"{os.fspath(source)}: not a .tflite or .pt2 file")
    if float32 == (calibration is not None):
        raise InputError(
            "a PyTorch model needs calibration data, to be quantised to int8, "
            "or float32, to be kept as it is; one of them"
        )
    from zeroskip.converters.frontends import pytorch
    from zeroskip.converters.passes.quantize import quantize
    from zeroskip.converters.passes.short_parameters import round_biases
    from zeroskip.converters.passes.simplify import simplify

    graph = pytorch.load(source, calibration if example_inputs is None else example_inputs)
    if calibration is None:
        return remove_dead_channels(graph)
    graph = simplify(quantize(graph, calibration, method=clipping, float_io=float_io))
    graph = remove_dead_channels(round_biases(remove_dead_channels(graph)))
    return measure_activity(graph, calibration)


def load_arrays(path: Path) -> list[Array]:
    """The arrays of a .npy or .npz file, in the order of the latter. Never unpickles."""
    return list(load_npz(path).values())


def load_npz(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file by name, or that of a .npy file as "". Never unpickles.

    Raises InputError for a file of another kind or a damaged one, OSError.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except OSError:
        raise
    except Exception as error:  # numpy, zipfile and zlib each have errors of their own
        raise InputError(
            f"{path}: not a .npy or .npz file of plain arrays, or a damaged one ({error})"
        ) from None


def _prefer(name: str) -> Prefer:
    try:
        return Prefer(name)
    except ValueError:
        raise InputError(f"prefer is 'size', 'balanced' or 'speed', not '{name}'") from None


def _prove(blob: bytes) -> None:
    """Nothing leaves that the runtime would refuse."""
    try:
        from zeroskip.runtime import Model
    except ImportError as error:
        raise MissingToolError(f"the C runtime is not built: {error}") from None
    try:
        Model(blob)
    except FormatError as error:
        raise UnsupportedError(f"the model is beyond the container's limits: {error}") from None
