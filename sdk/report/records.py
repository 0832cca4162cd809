"""Records of runs, from an emulated board or from measurements."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from zeroskip.boards import Board
from zeroskip.converters.container import Description, describe
from zeroskip.emulation import EmulationResult
from zeroskip.energy import GRADES, Energy, per_inference
from zeroskip.errors import InputError
from zeroskip.firmware import Sizes
from zeroskip.report.runs import (
    SCHEMA,
    EnergyFigure,
    FlashBytes,
    Layer,
    Limits,
    ModelFile,
    RamBytes,
    Run,
    Spread,
)

_CONTAINER_SOURCES: Final = {
    "bytes": "counted in the container file",
    "zeros": "counted in the decoded weights of the container",
    "macs": "counted from the shapes in the container, as a dense kernel would execute them",
}


def run_from_emulation(r: EmulationResult, blob: bytes, name: str, optimize: str) -> Run:
    """The record of an emulated run of the container `blob`, whose file is called `name`."""
    d = describe(blob)
    board, sizes, timing = r.board, r.firmware.sizes, r.board.core.timing
    batch = "one input" if r.samples == 1 else f"{r.samples} inputs, mean"
    sources = _CONTAINER_SOURCES | {
        "macs_executed": f"counted by the runtime under {r.emulator}, {batch}",
        "instructions": f"counted under {r.emulator}, {batch}",
        "flash_bytes": f"counted in the linked image ({r.firmware.compiler} -O{optimize})",
        "ram_bytes": f"counted in the linked image ({r.firmware.compiler} -O{optimize}); the "
        f"stack used is the deepest seen under {r.emulator}",
        "limits": _limits_source(board),
    }
    flash = flash_model(r)
    if timing is not None and r.cycles is not None:
        sources["cycles"] = (
            f"estimated by the model {timing.name} ({timing.known_error}) from "
            f"execution counts under {r.emulator}, {batch}"
        )
        waits = f"and waits for the flash ({flash})" if flash else "without waits for the flash"
        sources["latency_ms"] = f"estimated: cycles {waits} at {board.clock.hz / 1e6:g} MHz"
    if flash is not None and board.flash_timing is not None:
        sources["wait_cycles"] = f"estimated: {flash}; {board.flash_timing.source}"
    energy = None if r.latency_ms is None else per_inference(board, r.latency_ms)
    if energy is not None:
        sources["energy"] = f"estimated: {energy.conditions}; {energy.power.source}"
    layers = [
        replace(
            layer,
            macs_executed=_mean(counts.macs_executed, r.samples),
            instructions=_mean(counts.instructions, r.samples),
            cycles=_mean_or_none(counts.cycles, r.samples),
            wait_cycles=_mean_or_none(counts.wait_cycles, r.samples),
        )
        for layer, counts in zip(_layers(d), r.ops, strict=True)
    ]
    return Run(
        schema=SCHEMA,
        provenance="estimated",
        model=_model(blob, name),
        board=board.name,
        board_title=board.title,
        core=board.core.name,
        clock_hz=board.clock.hz,
        samples=r.samples,
        emulator=r.emulator,
        compiler=r.firmware.compiler,
        optimize=optimize,
        cycles=r.cycles,
        wait_cycles=r.wait_cycles,
        instructions=r.instructions,
        latency_ms=r.latency_ms,
        energy=None if energy is None else _estimated(energy),
        timing_model=timing.name if timing else None,
        known_error=timing.known_error if timing else None,
        flash_model=flash,
        flash_bytes=_flash(sizes),
        ram_bytes=replace(_ram(sizes), scratch=scratch_bytes(d), stack=r.stack_bytes),
        limits=Limits(flash=board.flash.size, ram=board.ram.size),
        matches_host=r.matches_host,
        layers=tuple(layers),
        sources=sources,
    )


def run_from_measurement(
    blob: bytes,
    name: str,
    board: Board,
    *,
    clock_hz: int,
    repetitions: int,
    cycles: int | None,
    microseconds: float | None,
    op_cycles: Sequence[int] | None,
    op_macs: Sequence[int] | None = None,
    microjoules: Spread | None,
    volts: float | None,
    instrument: str,
    sources: Mapping[str, str],
    sizes: Sizes | None = None,
    compiler: str | None = None,
    optimize: str | None = None,
    matches_host: bool | None = None,
) -> Run:
    """The record of a measurement of the container `blob`, whose file is called `name`.

    `cycles` and `microseconds` are medians over `repetitions` inferences at `clock_hz`; without
    microseconds the latency follows from cycles and clock. `op_cycles` and `op_macs` have, in the
    order of the ops, their cycles and the multiply-accumulates that they executed. `microjoules`
    of one inference needs `volts`, the supply. `sizes` is the linked image that ran. `sources` says
    how "cycles", "latency_ms", "macs_executed" and "energy" were obtained, of those that are given.
    Raises InputError if one is missing, FormatError if `blob` is no container.
    """
    d = describe(blob)
    for counts in (op_cycles, op_macs):
        if counts is not None and len(counts) != len(d.ops):
            raise InputError(f"{len(counts)} counts for the {len(d.ops)} ops of the model")
    if microjoules is not None and volts is None:
        raise InputError("a measured energy needs the voltage it was measured at")
    if microseconds is not None:
        latency_ms: float | None = microseconds / 1e3
    else:
        latency_ms = None if cycles is None else cycles / clock_hz * 1e3
    image = f"counted in the linked image ({compiler or 'compiler unknown'})"
    energy = None
    if microjoules is not None and volts is not None:
        energy = EnergyFigure(
            microjoules=microjoules, volts=volts, source=sources.get("energy", "")
        )
    layers = _layers(d)
    if op_cycles is not None:
        layers = [
            replace(layer, cycles=count) for layer, count in zip(layers, op_cycles, strict=True)
        ]
    if op_macs is not None:
        layers = [
            replace(layer, macs_executed=count)
            for layer, count in zip(layers, op_macs, strict=True)
        ]
    return Run(
        schema=SCHEMA,
        provenance="measured",
        model=_model(blob, name),
        board=board.name,
        board_title=board.title,
        core=board.core.name,
        clock_hz=clock_hz,
        samples=repetitions,
        instrument=instrument,
        compiler=compiler,
        optimize=optimize,
        cycles=cycles,
        latency_ms=latency_ms,
        energy=energy,
        flash_bytes=None if sizes is None else _flash(sizes),
        ram_bytes=None if sizes is None else _ram(sizes),
        limits=Limits(flash=board.flash.size, ram=board.ram.size),
        matches_host=matches_host,
        layers=tuple(layers),
        sources={
            **_CONTAINER_SOURCES,
            "limits": _limits_source(board),
            "flash_bytes": image,
            "ram_bytes": image,
            **sources,
        },
    )


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


def _layers(d: Description) -> list[Layer]:
    """The ops of a container, before any ran."""
    return [
        Layer(
            name=op.name,
            op=op.op,
            codec=op.codec,
            bytes=op.bytes,
            weights=0 if op.weights is None else op.weights.size,
            zeros=0 if op.weights is None else op.weights.size - op.weights.nonzeros,
            macs=op.macs,
            macs_nonzero_weight=op.macs_nonzero_weight,
        )
        for op in d.ops
    ]


def _flash(sizes: Sizes) -> FlashBytes:
    return FlashBytes(model=sizes.flash_model, code=sizes.flash_code)


def _ram(sizes: Sizes) -> RamBytes:
    return RamBytes(
        arena=sizes.ram_arena,
        input=sizes.ram_input,
        stack_reserved=sizes.ram_stack,
        data=sizes.ram_data,
    )


def _model(blob: bytes, name: str) -> ModelFile:
    return ModelFile(name=name, sha256=hashlib.sha256(blob).hexdigest(), bytes=len(blob))


def _limits_source(board: Board) -> str:
    return f"flash: {board.flash.source}; RAM: {board.ram.source}"


def _estimated(energy: Energy) -> EnergyFigure:
    power, uj = energy.power, energy.microjoules
    return EnergyFigure(
        microjoules=Spread(typical=uj.typical, low=uj.low, high=uj.high),
        volts=power.volts,
        active_ma=power.active_ma,
        grade=power.grade,
        grade_meaning=GRADES[power.grade].meaning,
        source=power.source,
    )


def _mean_or_none(total: int | None, count: int) -> int | None:
    return None if total is None else _mean(total, count)


def _mean(total: int, count: int) -> int:
    return (2 * total + count) // (2 * count)
