"""zeroskip measure MODEL.zsk --board BOARD [--port P] [--data X.npz] [--power INSTRUMENT]"""

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from zeroskip import boards
from zeroskip.boards import Board
from zeroskip.cli.emulate import random_inputs
from zeroskip.cli.table import render
from zeroskip.conversion import load_npz
from zeroskip.converters.container import describe
from zeroskip.errors import InputError, MeasureError
from zeroskip.measure import EMULATED, Measurement, measure
from zeroskip.measure.power import INSTRUMENTS, open_instrument
from zeroskip.measure.protocol import Device
from zeroskip.report import Run, run_from_measurement, to_json
from zeroskip.report.runs import Spread
from zeroskip.runners.ports import find_port, serial_module
from zeroskip.runtime import Model
from zeroskip.tools import write_whole

LABELS = ("y", "labels")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", type=Path, help="the .zsk file that the board runs")
    parser.add_argument("--board", required=True, help="a name from `zeroskip boards`, or a folder")
    parser.add_argument("--port", help="its serial port, or a URL of pyserial's, such as "
                        "socket://localhost:4000 (default: found by its USB ids)")  # fmt: skip
    parser.add_argument("--runs", type=int, default=5, help="of which the median is taken (5)")
    parser.add_argument("--iterations", type=int, metavar="N",
                        help="inferences in a run (10; for energy, of 10 seconds)")  # fmt: skip
    parser.add_argument("--warmups", type=int, default=1, metavar="N", help="before a run (1)")
    parser.add_argument("--data", type=Path, metavar="X.npz",
                        help="inputs (N, ...) to stream to the board, and labels 'y' for its "
                        "accuracy; one random input if left out")  # fmt: skip
    parser.add_argument("--limit", type=int, metavar="N", help="of --data the first N samples")
    parser.add_argument("--power", choices=INSTRUMENTS, help="an instrument on the trigger pin")
    parser.add_argument("--power-port", metavar="DEVICE", help="its serial port")
    parser.add_argument("--volts", type=float, help="what it supplies (the board's)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("-o", "--output", type=Path, metavar="RUN.json", help="write that object")
    parser.add_argument("--save", type=Path, metavar="RECORD.json",
                        help="write the record of the run, for `zeroskip report`")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    board = boards.load(args.board)
    if args.save is not None and board.console.driver == EMULATED:
        raise InputError(
            f"--save: {board.name} is emulated, its counter tells the emulator's time; "
            "`zeroskip emulate --save` writes estimates"
        )
    model = Model.load(args.container)
    inputs, labels = _data(args, model)
    volts = args.volts or (board.power.volts if board.power is not None else None)
    if args.power is not None and volts is None:
        raise InputError(f"--power needs --volts: {board.name} does not tell its supply")
    port = find_port(board, args.port)
    try:
        with ExitStack() as stack:
            instrument = None
            if args.power is not None:
                assert volts is not None
                instrument = open_instrument(args.power, volts, args.power_port)
                stack.callback(instrument.close)
            line = stack.enter_context(_opened(port, board.console.baud))
            done = measure(
                Device(line), board, args.container.read_bytes(), inputs,
                runs=args.runs, iterations=args.iterations, warmups=args.warmups, labels=labels,
                instrument=instrument,
            )  # fmt: skip
    except OSError as error:  # serial.SerialException is one
        raise MeasureError(f"{port}: {error}") from error
    shown = json.dumps(as_json(done, args.container), indent=2)
    if args.output is not None:
        write_whole(args.output, shown.encode() + b"\n")
    if args.save is not None:
        blob = args.container.read_bytes()
        write_whole(args.save, to_json(record(done, blob, args.container.name, board)))
    print(shown if args.json else "\n".join(_as_text(done, args.container)))
    return 0 if done.matches_host else 1


def _opened(port: str, baud: int) -> Any:
    try:
        return serial_module().serial_for_url(port, baudrate=baud, timeout=0.05)
    except ValueError as error:  # a URL that pyserial does not know
        raise InputError(f"--port {port}: {error}") from error


def _data(args: argparse.Namespace, model: Model) -> tuple[list[Any], Any]:
    if args.data is None:
        return list(random_inputs(model)), None
    arrays = load_npz(args.data)
    labels = next((arrays.pop(name) for name in LABELS if name in arrays), None)
    inputs = list(arrays.values())
    if args.limit is not None:
        inputs = [x[: args.limit] for x in inputs]
        labels = None if labels is None else labels[: args.limit]
    return inputs, labels


def as_json(m: Measurement, container: Path) -> dict[str, Any]:
    """The object that --json prints."""
    return {"model": container.name, **m.to_json()}


def record(m: Measurement, container: bytes, name: str, board: Board) -> Run:
    """The measurement as `zeroskip report` reads it; bounds of the energy are those of its runs."""
    t, e = m.latency, m.energy
    sources = {
        "cycles": m.provenance,
        "latency_ms": m.provenance,
        "macs_executed": f"counted by the firmware on {board.name}, one inference",
    }
    if e is not None:
        sources["energy"] = (
            f"measured with {e.instrument} at {e.volts:g} V and {m.info.clock_hz / 1e6:g} MHz: the "
            f"median, the lowest and the highest of {e.runs} runs of {t.iterations} inferences"
        )
    return run_from_measurement(
        container,
        name,
        board,
        clock_hz=m.info.clock_hz,
        repetitions=t.runs * t.iterations,
        cycles=round(t.cycles),
        microseconds=t.microseconds,
        op_cycles=[op.cycles for op in t.ops],
        op_macs=[op.macs_executed for op in t.ops],
        microjoules=None
        if e is None
        else Spread(typical=e.microjoules, low=e.lowest_microjoules, high=e.highest_microjoules),
        volts=None if e is None else e.volts,
        instrument="cycle counter" if e is None else e.instrument,
        sources=sources,
        matches_host=m.matches_host,
    )


def _as_text(m: Measurement, container: Path) -> list[str]:
    ops = describe(container.read_bytes()).ops
    rows = [
        [str(c.index), op.name, op.op, f"{c.macs_executed:,}", f"{c.cycles:,}"]
        for op, c in zip(ops, m.latency.ops, strict=False)
    ]
    head = ["", "name", "op", "executed MACs", "cycles"]
    t = m.latency
    lines = [
        f"{container.name} on {m.info.board} ({m.info.core}) at {m.info.clock_hz / 1e6:g} MHz",
        "",
        *render(head, rows, left=(1, 2)),
        "",
        f"cycles        {t.cycles:,.0f} ({t.lowest_cycles:,.0f} to {t.highest_cycles:,.0f})",
        f"latency       {t.microseconds / 1e3:.3f} ms",
    ]
    if m.energy is not None:
        e = m.energy
        lines.append(
            f"energy        {e.microjoules:,.3g} uJ ({e.lowest_microjoules:,.3g} to "
            f"{e.highest_microjoules:,.3g}), {e.milliwatts:.3g} mW at {e.volts:g} V, measured "
            f"with {e.instrument}, the median of {e.runs} runs of {e.iterations} inferences"
        )
    if m.accuracy is not None:
        a = m.accuracy
        lines.append(
            f"accuracy      {a.correct:,} of {a.samples:,} ({a.correct / a.samples:.2%}), "
            f"{a.exact:,} bit for bit the host's"
        )
    return [
        *lines,
        f"stack         {m.info.stack_bytes:,} bytes used",
        f"output        {'identical to' if m.matches_host else 'DIFFERENT FROM'} the host's",
        f"how           {m.provenance}",
    ]
