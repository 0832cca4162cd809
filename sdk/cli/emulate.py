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
from zeroskip.energy import GRADES, DutyCycle, Energy, Interval, duty_cycle, per_inference
from zeroskip.errors import InputError
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
    description = describe(blob)
    duty = _duty_cycle(result, args.rate, args.battery)
    if args.json:
        print(json.dumps(as_json(result, description, duty), indent=2))
    else:
        name = args.container.name
        print("\n".join(_as_text(result, description, name, args.functions, duty)))
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


def as_json(r: EmulationResult, d: Description, duty: DutyCycle | None = None) -> dict[str, Any]:
    """The object that --json prints. Counts are per inference, the mean of the batch."""
    timing = r.board.core.timing
    sizes = r.firmware.sizes
    return {
        "board": r.board.name,
        "core": r.board.core.name,
        "clock_hz": r.board.clock.hz,
        "cycles": r.cycles,
        "wait_cycles": r.wait_cycles,
        "cycles_with_waits": r.cycles_with_waits,
        "instructions": r.instructions,
        "latency_ms": r.latency_ms,
        "energy": _energy_json(r),
        "duty_cycle": None if duty is None else asdict(duty),
        "provenance": "estimated",
        "timing_model": timing.name if timing else None,
        "known_error": timing.known_error if timing else None,
        "flash_model": flash_model(r),
        "flash_known_error": FLASH_KNOWN_ERROR if r.wait_cycles else None,
        "emulator": r.emulator,
        "compiler": r.firmware.compiler,
        "samples": r.samples,
        "flash_bytes": {"model": sizes.flash_model, "code": sizes.flash_code},
        "ram_bytes": {
            "arena": sizes.ram_arena,
            "scratch": scratch_bytes(d),
            "stack": r.stack_bytes,
            "stack_reserved": sizes.ram_stack,
            "data": sizes.ram_data,
        },
        "matches_host": r.matches_host,
        "layers": [
            {
                "name": op.name,
                "op": op.op,
                "codec": op.codec,
                "bytes": op.bytes,
                "macs": op.macs,
                "macs_nonzero_weight": op.macs_nonzero_weight,
                "macs_executed": _mean(counts.macs_executed, r.samples),
                "instructions": _mean(counts.instructions, r.samples),
                "cycles": _mean_or_none(counts.cycles, r.samples),
                "wait_cycles": _mean_or_none(counts.wait_cycles, r.samples),
            }
            for op, counts in zip(d.ops, r.ops, strict=True)
        ],
        "functions": [
            {
                "name": f.name,
                "instructions": _mean(f.instructions, r.samples),
                "cycles": _mean_or_none(f.cycles, r.samples),
                "wait_cycles": _mean_or_none(f.wait_cycles, r.samples),
            }
            for f in r.functions
        ],
    }


def _energy(r: EmulationResult) -> Energy | None:
    return None if r.latency_ms is None else per_inference(r.board, r.latency_ms)


def _energy_json(r: EmulationResult) -> dict[str, Any] | None:
    """Microjoules of one inference with everything that they rest on."""
    energy = _energy(r)
    if energy is None:
        return None
    power = energy.power
    return {
        "microjoules": asdict(energy.microjoules),
        "volts": power.volts,
        "active_ma": power.active_ma,
        "class": power.grade,
        "class_meaning": GRADES[power.grade].meaning,
        "source": power.source,
    }


def _energy_lines(r: EmulationResult, duty: DutyCycle | None) -> list[str]:
    energy = _energy(r)
    if energy is None:
        return ["energy        not estimated: the board does not describe its current"]
    lines = [
        f"energy        {_range(energy.microjoules, 'uJ')} (estimated: {energy.conditions}; "
        f"{energy.power.source})"
    ]
    if duty is not None:
        power = energy.power
        lines.append(
            f"average power {_range(duty.milliwatts, 'mW')} at {duty.rate_hz:g} inferences per "
            f"second, {duty.busy:.1%} of the time busy (estimated; {power.sleep_mode} "
            f"{power.sleep_ua:g} uA: {power.sleep_source})"
        )
        if duty.battery_hours is not None:
            lines.append(
                f"battery       {_range(duty.battery_hours, 'h')} with {duty.battery_mah:g} mAh at "
                f"{power.volts:g} V (estimated, without self-discharge)"
            )
    return lines


def _range(value: Interval, unit: str) -> str:
    texts = [
        f"{v:,.0f}" if v >= 1000 else f"{v:.3g}" for v in (value.typical, value.low, value.high)
    ]
    return f"{texts[0]} {unit} ({texts[1]} to {texts[2]})"


def flash_model(r: EmulationResult) -> str | None:
    """How the waits for the flash were estimated, or None if they were not."""
    flash = r.board.flash_timing
    if flash is None or r.wait_cycles is None:
        return None
    if flash.wait_states == 0:
        return "none at this clock"
    caches = []
    for name, cache in (("instruction", flash.instruction_cache), ("data", flash.data_cache)):
        if cache is not None:
            held = "" if not flash.unified else " and data"
            caches.append(f"{name}{held} cache of {cache.size:,} bytes")
    extras = [*(["prefetch"] if flash.prefetch else []), *caches] or ["no cache"]
    return f"{flash.wait_states} wait states, {', '.join(extras)}"


def scratch_bytes(d: Description) -> int:
    """Bytes of the arena that never hold an activation: they are there for scratch alone."""
    tensors = [*d.inputs, *d.outputs, *(op.output for op in d.ops)]
    used = sorted(
        (t.location, t.location + int(np.prod(t.shape)) * np.dtype(t.dtype).itemsize)
        for t in tensors
        if not t.constant
    )
    covered = reach = 0
    for start, end in used:
        covered += max(0, end - max(start, reach))
        reach = max(reach, end)
    return max(0, d.arena_bytes - covered)


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


def _mean_or_none(total: int | None, count: int) -> int | None:
    return None if total is None else _mean(total, count)


def _mean(total: int, count: int) -> int:
    return (2 * total + count) // (2 * count)
