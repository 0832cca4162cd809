"""Running the grid: in processes through joblib, or as tasks of a Ray cluster.

Workers train; only the parent writes results, as they arrive. What a worker has to know travels
with the cell, so that it gives the same result alone, in any order and on any machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from zeroskip import conversion, emulation
from zeroskip.boards import load as load_board
from zeroskip.compression import checkpoint, samples
from zeroskip.compression.pipeline import correct
from zeroskip.errors import InputError, MissingToolError, ZeroSkipError
from zeroskip.experiments import metrics, protocols
from zeroskip.experiments.cells import CONTROL, Cell, control_key, grid, key
from zeroskip.experiments.spec import Conversion, Spec, needs_control, stage_of
from zeroskip.experiments.store import Row, Store
from zeroskip.pruning import capacity
from zeroskip.tools import has_package

ENGINES: Final = ("joblib", "ray")
_AHEAD: Final = 2  # cells per process that joblib takes at a time
_DIED: Final = "its process died: out of memory, or a crash in native code"
Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]


def run(
    spec: Spec,
    store: Store,
    *,
    jobs: int = 1,
    engine: str = "joblib",
    address: str | None = None,
    folder: str | None = None,
    progress: Progress = lambda steps, total, what: steps,
) -> list[Row]:
    """Run all cells that `store` has not got; gives the rows of the whole grid, in its order.

    folder: where the data sets are. Trained controls are kept beside the store, in a folder
    NAME.work, which may be deleted afterwards; under Ray it must be one that all nodes share.
    A cell that fails is stored with its error, and tried again the next time; one whose control
    failed is not tried.
    """
    if jobs < 1:
        raise InputError(f"jobs {jobs} must be at least 1")
    cells = grid(spec)
    done = store.finished()
    todo = {k: cell for cell in cells if (k := key(spec, cell)) not in done}
    work = store.path.with_name(store.path.name + ".work").resolve()
    work.mkdir(exist_ok=True)
    first = [cell for cell in todo.values() if cell.method is None]
    rest = [cell for cell in todo.values() if cell.method is not None]
    phases = (
        ("controls", spec, first),
        ("lost controls", replace(spec, convert=None), _lost(spec, cells, todo, work)),
        ("cells", spec, rest),
    )
    with _backend(engine, jobs, address) as parallel:
        for what, given, some in phases:
            ready = [cell for cell in some if _control_there(spec, cell, work)]
            found = parallel([(given, cell, work, folder) for cell in ready])
            for row in progress(found, len(ready), what):
                if row["key"] in todo:
                    store.add(row)
            for cell in some:
                if cell not in ready:
                    store.add(_blank(spec, cell) | {"error": "its control failed"})
    return finished(spec, store)


def finished(spec: Spec, store: Store) -> list[Row]:
    """What `store` has of the grid, in its order, under the labels of `spec`."""
    rows = {row["key"]: row for row in store.rows()}
    keys = [(key(spec, cell), cell) for cell in grid(spec)]
    return [rows[k] | {"method": cell.label} for k, cell in keys if k in rows]


def _control_there(spec: Spec, cell: Cell, work: Path) -> bool:
    """False for a cell that starts from a control of which there is no network."""
    needed = cell.method is not None and needs_control(cell.method)
    return not needed or _control_path(spec, cell, work).is_file()


def _lost(spec: Spec, cells: Iterable[Cell], todo: Mapping[str, Cell], work: Path) -> list[Cell]:
    """Finished controls whose networks have gone, and that a cell of `todo` starts from: trained
    again at first, once, rather than by each cell that misses them."""
    started = {
        (cell.model, cell.seed)
        for cell in todo.values()
        if cell.method is not None and needs_control(cell.method)
    }
    return [
        cell
        for cell in cells
        if cell.method is None
        and cell not in todo.values()
        and (cell.model, cell.seed) in started
        and not _control_path(spec, cell, work).is_file()
    ]


@contextmanager
def _backend(
    engine: str, jobs: int, address: str | None
) -> Iterator[Callable[[Sequence[Any]], Iterable[Row]]]:
    """What takes arguments of run_cell and gives rows, as they arrive."""
    if engine not in ENGINES:
        raise InputError(f"engine '{engine}' must be one of {', '.join(ENGINES)}")
    if engine == "ray":
        with _ray(jobs, address) as submit:
            yield submit
        return
    yield lambda work: _processes(jobs, work)


def _processes(jobs: int, work: Sequence[Any]) -> Iterator[Row]:
    """Rows of the cells of `work`, as they arrive.

    When a worker dies (killed for want of memory, a crash in native code) joblib says neither
    which cell it had nor goes on. Those that may have been under way are then run again, each
    alone in a process, so that one that kills its worker is stored as failed.
    """
    if jobs == 1:  # in this process
        yield from (run_cell(*arguments) for arguments in work)
        return
    import joblib

    def started(some: Sequence[Any]) -> Iterable[Row]:
        parallel = joblib.Parallel(
            jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=_AHEAD * jobs
        )
        found: Iterable[Row] = parallel(joblib.delayed(run_cell)(*each) for each in some)
        return found

    left = list(work)
    while left:
        seen = []
        try:
            for row in started(left):
                seen.append(_place(row))
                yield row
            return
        except BrokenProcessPool:
            left = [each for each in left if _place(_blank(*each[:2])) not in seen]
        suspects, left = left[: (_AHEAD + 1) * jobs], left[(_AHEAD + 1) * jobs :]
        for each in suspects:
            try:
                yield from started([each])
            except BrokenProcessPool:
                yield _blank(*each[:2]) | {"error": _DIED}


@contextmanager
def _ray(jobs: int, address: str | None) -> Iterator[Callable[[Sequence[Any]], Iterable[Row]]]:
    """A task per cell on a Ray cluster, or on a local one of `jobs` processors."""
    if not has_package("ray"):
        raise MissingToolError("ray is not installed; run: pip install 'zeroskip[ray]'")
    import ray

    local = {"num_cpus": jobs, "include_dashboard": False} if address is None else {}
    ray.init(address=address, log_to_driver=False, **local)
    try:
        task = ray.remote(num_cpus=1)(run_cell)

        def submit(work: Sequence[Any]) -> Iterable[Row]:
            cells = {task.remote(*arguments): arguments[:2] for arguments in work}
            pending = list(cells)
            while pending:
                (done,), pending = ray.wait(pending)
                try:
                    yield ray.get(done)
                except ray.exceptions.RayError as error:  # a worker or a machine has gone
                    text = f"{type(error).__name__}: {str(error).strip()}".partition("\n")[0]
                    yield _blank(*cells[done]) | {"error": text}

        yield submit
    finally:
        ray.shutdown()


def run_cell(spec: Spec, cell: Cell, work: Path, folder: str | None) -> Row:
    """Train and judge one cell; what a worker does. An error becomes part of the row."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    row = _blank(spec, cell)
    begun = time.monotonic()
    try:
        train, test = _samples(spec.data_path, spec.data_fingerprint, spec.validation, folder)
        model, found = _trained(spec, cell, work, train, test)
        row |= found  # kept even where the conversion fails
        if (how := spec.conversion(cell.seed)) is not None:
            row |= converted(model, how, train, test)
    except ZeroSkipError as error:
        row["error"] = str(error).partition("\n")[0]
    except Exception as error:  # a user's model or plugin may fail in any way
        row["error"] = f"{type(error).__name__}: {error}".partition("\n")[0]
    finally:
        torch.set_num_threads(threads)
    row["seconds"] = round(time.monotonic() - begun, 2)
    return row


def _blank(spec: Spec, cell: Cell) -> Row:
    """What is known of a cell before it runs."""
    return {
        "key": key(spec, cell),
        "data": spec.data,
        "model": cell.model,
        "seed": cell.seed,
        "method": cell.label,
        "ablation": cell.ablation,
        "stage": CONTROL if cell.method is None else stage_of(cell.method),
        "sparsity": cell.sparsity,
    }


def _place(row: Row) -> tuple[Any, ...]:
    """Where a row belongs in the grid, whatever became of its files meanwhile."""
    return tuple(row[name] for name in ("model", "seed", "method", "ablation", "sparsity"))


def _trained(
    spec: Spec, cell: Cell, work: Path, train: samples.Samples, test: samples.Samples
) -> tuple[nn.Module, Row]:
    """The cell's network, and ShrinkBench's metrics of it."""
    bench = protocols.Bench(spec, cell, train, test, lambda: _control(bench, work))
    trained = protocols.run(bench)
    model = trained.model.eval()
    if cell.method is None:
        checkpoint.save(_control_path(spec, cell, work), model.state_dict())
    counted = metrics.size(model, train.values[:1])
    top1, top5 = metrics.top(model, test, (1, 5))
    return model, {
        "top1": top1,
        "top5": top5,
        "top1_pruned": trained.pruned,
        "parameters": counted.parameters,
        "nonzero": counted.nonzero,
        "compression": counted.compression,
        "flops": counted.flops,
        "speedup": counted.speedup,
        "collapsed": len(capacity.collapsed(trained.masks)),
        "layers": capacity.densities(trained.masks),
    }


def converted(
    model: nn.Module, how: Conversion, train: samples.Samples, test: samples.Samples
) -> Row:
    """Bytes of the int8 container and latency on the board, estimated by emulation of one
    inference; accuracy of the C runtime where asked for."""
    board = load_board(how.board)
    blob = conversion.convert(model, calibration=train.take(how.calibration))
    found = emulation.emulate(blob, board, [test.take(1)])
    if not found.matches_host:
        raise ZeroSkipError(f"outputs on {board.name} differ from the host's")
    row: Row = {"bytes": len(blob), "board": board.name, "latency_ms": found.latency_ms}
    if how.test:
        some = samples.Samples(test.values[: how.test], test.labels[: how.test])
        row["runtime_top1"] = correct(blob, some)
    return row


@lru_cache(maxsize=1)
def _samples(
    data: str, fingerprint: str, validation: float, folder: str | None
) -> tuple[samples.Samples, samples.Samples]:
    """Training and test samples as floats, once per process and content of their file."""
    found = samples.load(data, folder, validation)
    return tuple(  # type: ignore[return-value]
        samples.Samples(*s.batch(slice(None))) for s in (found.train, found.test)
    )


def _control_path(spec: Spec, cell: Cell, work: Path) -> Path:
    return work / f"{control_key(spec, cell)}.pt"


def _control(bench: protocols.Bench, work: Path) -> nn.Module:
    """The trained control of the cell's model and seed; trained again if its file has gone."""
    path = _control_path(bench.spec, bench.cell, work)
    model = bench.make()
    state = checkpoint.load(path)
    if state is None:
        bench.fit(model)
        checkpoint.save(path, model.state_dict())
        return model
    try:
        model.load_state_dict(state)
    except RuntimeError:
        raise InputError(f"{path} is of another network; remove it") from None
    return model.eval()
