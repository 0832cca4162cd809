"""Records of runs made by hand, for tests of reports: figures that a reader can check."""

from dataclasses import replace
from pathlib import Path
from typing import Any

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
    to_json,
)

FIGURES = (
    "bytes", "zeros", "macs", "macs_executed", "instructions", "cycles", "wait_cycles",
    "latency_ms", "energy", "flash_bytes", "ram_bytes", "limits",
)  # fmt: skip


def layer(name: str, cycles: int, **changed: Any) -> Layer:
    made = Layer(
        name=name, op="conv", codec="gap+huffman", bytes=500, weights=1000, zeros=900, macs=8000,
        macs_nonzero_weight=800, macs_executed=600, instructions=3000, cycles=cycles,
        wait_cycles=cycles // 10,
    )  # fmt: skip
    return replace(made, **changed)


def run(**changed: Any) -> Run:
    """At 100 MHz: 200,000 cycles and 20,000 waits in two layers, 2.2 ms, 3 V."""
    made = Run(
        schema=SCHEMA,
        provenance="estimated",
        model=ModelFile(name="net.zsk", sha256="ab" * 32, bytes=1100),
        board="board-a",
        board_title="Board A",
        core="cortex-m4",
        clock_hz=100_000_000,
        samples=1,
        emulator="qemu",
        compiler="gcc",
        optimize="2",
        cycles=200_000,
        wait_cycles=20_000,
        instructions=150_000,
        latency_ms=2.2,
        energy=EnergyFigure(
            microjoules=Spread(typical=132.0, low=118.8, high=184.8), volts=3.0, active_ma=20.0,
            grade="B", grade_meaning="datasheet", source="a datasheet",
        ),
        flash_bytes=FlashBytes(model=1100, code=8900),
        ram_bytes=RamBytes(arena=2000, scratch=100, stack=900, stack_reserved=1024, data=16),
        limits=Limits(flash=100_000, ram=10_000),
        matches_host=True,
        layers=(
            layer("first", 150_000),
            layer("second", 50_000, op="fully_connected", codec="dense+raw", zeros=0),
        ),
        sources={name: f"source of {name}" for name in FIGURES},
    )  # fmt: skip
    return replace(made, **changed)


def measured(**changed: Any) -> Run:
    """The same, as an instrument saw it: 250,000 cycles, 2.5 ms, 150 uJ."""
    base = run()
    layers = tuple(
        replace(
            each, macs_executed=None, instructions=None, wait_cycles=None,
            cycles=round(1.25 * (each.all_cycles or 0)),
        )
        for each in base.layers
    )  # fmt: skip
    made = replace(
        base,
        provenance="measured",
        emulator=None,
        instrument="power analyser",
        cycles=250_000,
        wait_cycles=None,
        instructions=None,
        latency_ms=2.5,
        energy=EnergyFigure(
            microjoules=Spread(typical=150.0), volts=3.0, source="measured: analyser"
        ),
        layers=layers,
        sources=base.sources | {"cycles": "measured: counter", "energy": "measured: analyser"},
    )
    return replace(made, **changed)


def saved(folder: Path, name: str, record: Run) -> Path:
    path = folder / f"{name}.json"
    path.write_bytes(to_json(record))
    return path
