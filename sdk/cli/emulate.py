"""zeroskip emulate OUT.zsk --board BOARD [--input X.npy --output Y.npy] [--json]"""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zeroskip import boards
from zeroskip.boards import accelerators
from zeroskip.cli.build import add_compiler_arguments
from zeroskip.cli.table import render
from zeroskip.conversion import load_arrays
from zeroskip.converters.container import Description, describe
from zeroskip.emulation import EmulationResult, emulate
from zeroskip.emulation.profile import FLASH_KNOWN_ERROR
from zeroskip.energy import DutyCycle, Energy, Interval, duty_cycle, per_inference
from zeroskip.errors import InputError
from zeroskip.report import Run, run_from_emulation, runs
from zeroskip.report.records import flash_model, scratch_bytes
from zeroskip.runtime import Model
from zeroskip.tools import write_whole

Array = npt.NDArray[Any]

_SEED: Final = 0
_NO_TIMING: Final = "not estimated yet for this core"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", type=Path, help="a .zsk file")
    parser.add_argument(
        "--board", required=True, help="a name from `zeroskip boards`, or a folder with board.toml"
    )
    parser.add_argument(
        "--input",
        type=Path,
        metavar="X.npy",
        help="inputs (N, ...) as for `zeroskip run`; one random input if left out",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="Y.npy",
        help="where the outputs (N, ...) go; .npz for several",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--save",
        type=Path,
        metavar="RUN.json",
        help="write the record of the run, for `zeroskip report`",
    )
    parser.add_argument(
        "--rate",
        type=float,
        metavar="HZ",
        help="inferences per second: average power with sleep between",
    )
    parser.add_argument(
        "--battery", type=float, metavar="MAH", help="with --rate: how long a battery lasts"
    )
    parser.add_argument(
        "--functions",
        type=int,
        nargs="?",
        const=10,
        default=0,
        metavar="N",
        help="list the N most expensive functions (10)",
    )
    parser.add_argument(
        "--emulator", choices=("qemu", "unicorn"), help="(QEMU if it is there, else Unicorn)"
    )
    parser.add_argument(
        "--timeout", type=float, default=600.0, metavar="S", help="seconds the run may take (600)"
    )
    add_compiler_arguments(parser)


def run(args: argparse.Namespace) -> int:
    accelerator = accelerators.find(args.board)
    if accelerator is not None:
        from zeroskip.cli.accelerate import run_on_accelerator

        return run_on_accelerator(args, accelerator)
    board = boards.load(args.board)
    if not args.timeout > 0:
        raise InputError(f"--timeout {args.timeout:g} must be above 0")
    if args.battery is not None and args.rate is None:
        raise InputError("--battery needs --rate, the inferences per second")
    model = Model.load(args.container)
    if args.output and len(model.outputs) > 1 and args.output.suffix != ".npz":
        raise InputError(f"the model has {len(model.outputs)} outputs: --output must be a .npz")
    blob = args.container.read_bytes()
    inputs = load_arrays(args.input) if args.input else random_inputs(model)
    result = emulate(
        blob,
        board,
        inputs,
        emulator=args.emulator,
        compiler=args.compiler,
        optimize=args.optimize,
        timeout_s=args.timeout,
    )
    if args.output:
        write_whole(args.output, _encode(args.output, result.outputs))
    duty = _duty_cycle(result, args.rate, args.battery)
    name = args.container.name
    record = run_from_emulation(result, blob, name, args.optimize)
    if args.save:
        write_whole(args.save, runs.to_json(record))
    if args.json:
        print(json.dumps(_as_json(record, result, duty), indent=2))
    else:
        print("\n".join(_as_text(result, describe(blob), name, args.functions, duty)))
    if not result.matches_host:
        print(f"zeroskip emulate: outputs on {board.name} differ from the host's", file=sys.stderr)
        return 1
    return 0


def _duty_cycle(
    r: EmulationResult, rate_hz: float | None, battery_mah: float | None
) -> DutyCycle | None:
    if rate_hz is None:
        return None
    if r.latency_ms is None:
        raise InputError(f"no latency is estimated for {r.board.core.name}: --rate needs one")
    return duty_cycle(r.board, r.latency_ms, rate_hz, battery_mah)


def _as_json(run: Run, r: EmulationResult, duty: DutyCycle | None) -> dict[str, Any]:
    """The object that --json prints: the record of the run, and what only was asked for here."""
    energy = run.energy
    return {
        **runs.as_json(run),
        "cycles_with_waits": r.cycles_with_waits,
        "flash_known_error": FLASH_KNOWN_ERROR if r.wait_cycles else None,
        "energy_uj": None if energy is None else energy.microjoules.typical,
        "energy_class": None if energy is None else energy.grade,
        "duty_cycle": None if duty is None else asdict(duty),
        "functions": [
            {
                "name": f.name,
                "instructions": _mean(f.instructions, r.samples),
                "cycles": None if f.cycles is None else _mean(f.cycles, r.samples),
                "wait_cycles": None if f.wait_cycles is None else _mean(f.wait_cycles, r.samples),
            }
            for f in r.functions
        ],
    }


def _energy(r: EmulationResult) -> Energy | None:
    return None if r.latency_ms is None else per_inference(r.board, r.latency_ms)


def _energy_lines(r: EmulationResult, duty: DutyCycle | None) -> list[str]:
    energy = _energy(r)
    if energy is None:
        return ["energy        not estimated: the board does not describe its current"]
    lines = [
        f"energy        {_range(energy.microjoules, 'uJ')}; estimated: {energy.conditions}; "
        f"{energy.power.source})"
    ]
    if duty is not None:
        power = energy.power
        lines.append(
            f"average power {_range(duty.milliwatts, 'mW')}; estimated: {duty.rate_hz:g} "
            f"inferences per second, busy {duty.busy:.1%} of the time, else {power.sleep_mode} at "
            f"{power.sleep_ua:g} uA; {power.sleep_source})"
        )
        if duty.battery_hours is not None:
            lines.append(
                f"battery       {_range(duty.battery_hours, 'h')}; estimated: "
                f"{duty.battery_mah:g} mAh at {power.volts:g} V, without self-discharge)"
            )
    return lines


def _range(value: Interval, unit: str) -> str:
    """A value and its bounds, with the parenthesis left open."""
    texts = [
        f"{v:,.0f}" if v >= 1000 else f"{v:.3g}" for v in (value.typical, value.low, value.high)
    ]
    return f"{texts[0]} {unit} ({texts[1]} to {texts[2]}"


def _waits(r: EmulationResult) -> str:
    model = flash_model(r)
    if model is None:
        missing = r.board.flash_timing is None
        return "not estimated: " + (
            "the board's flash is not described" if missing else "no C compiler"
        )
    error = f"; {FLASH_KNOWN_ERROR}" if r.wait_cycles else ""
    return f"{r.wait_cycles:,} cycles (estimated: {model}{error})"


def _function_table(r: EmulationResult, count: int) -> list[str]:
    rows = [
        [
            f.name,
            f"{_mean(f.instructions, r.samples):,}",
            *("" if n is None else f"{_mean(n, r.samples):,}" for n in (f.cycles, f.wait_cycles)),
        ]
        for f in r.functions[:count]
    ]
    return render(["function", "instructions", "cycles", "flash waits"], rows, left=(0,))


def _as_text(
    r: EmulationResult, d: Description, name: str, functions: int, duty: DutyCycle | None
) -> list[str]:
    board, sizes = r.board, r.firmware.sizes
    timing = board.core.timing
    rows = [
        [
            str(op.index),
            op.name,
            op.op,
            op.codec or "",
            f"{op.bytes:,}",
            f"{op.macs:,}" if op.macs else "",
            f"{_mean(c.macs_executed, r.samples):,}" if op.macs else "",
            f"{_mean(c.instructions, r.samples):,}",
            "" if c.cycles is None else f"{_mean(c.cycles, r.samples):,}",
        ]
        for op, c in zip(d.ops, r.ops, strict=True)
    ]
    head = ["", "name", "op", "codec", "bytes", "MACs", "executed", "instructions", "cycles"]
    batch = "one inference" if r.samples == 1 else f"mean of {r.samples} inferences"
    lines = [
        f"{name} on {board.title}, {board.core.name} at {board.clock.hz / 1e6:g} MHz "
        f"({r.emulator}, {r.firmware.compiler}; {batch})",
        "",
        *render(head, rows, left=(1, 2, 3)),
        "",
        f"instructions  {r.instructions:,}",
    ]
    if timing is None or r.cycles is None or r.latency_ms is None:
        lines.append(f"cycles        {_NO_TIMING} ({board.core.name})")
    else:
        lines += [
            f"cycles        {r.cycles:,} (estimated: {timing.name}; {timing.known_error})",
            f"flash waits   {_waits(r)}",
            f"latency       {r.latency_ms:.3f} ms (estimated)",
            *_energy_lines(r, duty),
        ]
    if functions:
        lines += ["", *_function_table(r, functions), ""]
    return [
        *lines,
        f"flash         {sizes.flash:,} of {board.flash.size:,} bytes: "
        f"model {sizes.flash_model:,}, code {sizes.flash_code:,}",
        f"RAM           {sizes.ram:,} of {board.ram.size:,} bytes: arena {sizes.ram_arena:,} "
        f"(scratch {scratch_bytes(d):,}), stack {sizes.ram_stack:,} ({r.stack_bytes:,} used)",
        f"output        {'identical to' if r.matches_host else 'DIFFERENT FROM'} the host's",
    ]


def random_inputs(model: Model) -> list[Array]:
    rng = np.random.default_rng(_SEED)
    inputs = []
    for port in model.inputs:
        if port.dtype == np.float32:
            values: Array = rng.standard_normal((1, *port.shape)).astype(np.float32)
        else:
            limits = np.iinfo(port.dtype)
            values = rng.integers(limits.min, limits.max + 1, (1, *port.shape)).astype(port.dtype)
        inputs.append(values)
    return inputs


def _encode(path: Path, outputs: Sequence[Array]) -> bytes:
    buffer = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(buffer, **{f"output_{i}": y for i, y in enumerate(outputs)})
    else:
        np.save(buffer, outputs[0])
    return buffer.getvalue()


def _mean(total: int, count: int) -> int:
    return (2 * total + count) // (2 * count)
