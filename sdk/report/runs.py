"""The record of one run of a model on a board, and the JSON file that holds it.

A file is one JSON object with the fields of `Run`, nested alike; keys that are not known are
passed over. `sources` says how each figure was obtained; a figure without is an error.
Files come from anywhere: `load` refuses what does not fit the types, numbers that are not finite,
negative or above 2^53, and texts that are too long.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

from zeroskip.errors import InputError, MissingToolError

SCHEMA: Final = 1
MAX_FILE_BYTES: Final = 16 << 20
MAX_NUMBER: Final = 1 << 53
MAX_TEXT: Final = 4000
MAX_LAYERS: Final = 10_000

Provenance = Literal["estimated", "measured"]


class _Checked:
    """Dataclasses whose numbers and texts are within bounds. Raises InputError on construction."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            _check(field.name, getattr(self, field.name))


def _check(name: str, value: object) -> None:
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise InputError(f"{name} has {len(value):,} characters, over {MAX_TEXT:,}")
    elif isinstance(value, int | float) and not (math.isfinite(value) and 0 <= value <= MAX_NUMBER):
        raise InputError(f"{name} is {value:.4g}: numbers are finite, 0 to 2^53")


@dataclass(frozen=True, kw_only=True)
class ModelFile(_Checked):
    """The container that ran: its file's name, SHA-256 in hex, and bytes."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Layer(_Checked):
    """One op. `bytes` counts its record and all data it refers to; `weights` and `zeros` its
    weights and those of them that are zero. Counts are per inference; None is not known."""

    name: str
    op: str
    codec: str | None
    bytes: int
    weights: int
    zeros: int
    macs: int
    macs_nonzero_weight: int
    macs_executed: int | None = None
    instructions: int | None = None
    cycles: int | None = None
    wait_cycles: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.zeros > self.weights:
            raise InputError(f"layer {self.name!r} has more zeros than weights")

    @property
    def all_cycles(self) -> int | None:
        """With the waits for the flash, where those are known apart."""
        return None if self.cycles is None else self.cycles + (self.wait_cycles or 0)

    @property
    def sparsity(self) -> float | None:
        """Share of weights that are zero, 0 to 1."""
        return self.zeros / self.weights if self.weights else None

    @property
    def skipped(self) -> float | None:
        """Share of multiply-accumulates that were not executed, 0 to 1."""
        if self.macs_executed is None or not self.macs:
            return None
        return max(0.0, 1 - self.macs_executed / self.macs)


@dataclass(frozen=True, kw_only=True)
class Spread(_Checked):
    """A typical value; `low` and `high` are None where no bounds are known."""

    typical: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class EnergyFigure(_Checked):
    """Energy of one inference with what it rests on. `grade` is the class of the board's current
    (sdk/energy.py), None for a measurement; `volts` is the supply."""

    microjoules: Spread
    volts: float
    active_ma: float | None = None
    grade: str | None = None
    grade_meaning: str | None = None
    source: str

    @property
    def conditions(self) -> str:
        """Voltage and class: with the clock, what belongs beside the figure."""
        return f"{self.volts:g} V, {f'class {self.grade}' if self.grade else 'measured'}"


@dataclass(frozen=True, kw_only=True)
class FlashBytes(_Checked):
    """What the image takes of the flash: the container, and everything else."""

    model: int
    code: int

    @property
    def total(self) -> int:
        return self.model + self.code


@dataclass(frozen=True, kw_only=True)
class RamBytes(_Checked):
    """What the image takes of the RAM. `scratch` is part of `arena`, `input` a copy of the input
    that a board's image keeps, `stack` the deepest use seen of `stack_reserved`."""

    arena: int
    stack_reserved: int
    data: int
    input: int = 0
    scratch: int | None = None
    stack: int | None = None

    @property
    def total(self) -> int:
        return self.arena + self.input + self.stack_reserved + self.data


@dataclass(frozen=True, kw_only=True)
class Limits(_Checked):
    """Bytes of flash and RAM that the board has."""

    flash: int
    ram: int


@dataclass(frozen=True, kw_only=True)
class Run(_Checked):
    """One model on one board, estimated or measured. Counts are per inference, the mean of
    `samples` or the median of repetitions, as `sources` says.

    `cycles` of an estimate are at zero wait states and `wait_cycles` what the flash adds;
    measured cycles hold both, with `wait_cycles` None. `sources` maps the names of figures, as
    `figures` lists them, to how each was obtained.
    """

    schema: int
    provenance: Provenance
    model: ModelFile
    board: str
    board_title: str
    core: str
    clock_hz: int
    samples: int
    emulator: str | None = None
    instrument: str | None = None
    compiler: str | None = None
    optimize: str | None = None
    cycles: int | None = None
    wait_cycles: int | None = None
    instructions: int | None = None
    latency_ms: float | None = None
    energy: EnergyFigure | None = None
    timing_model: str | None = None
    known_error: str | None = None
    flash_model: str | None = None
    flash_bytes: FlashBytes | None = None
    ram_bytes: RamBytes | None = None
    limits: Limits
    matches_host: bool | None = None
    layers: tuple[Layer, ...]
    sources: dict[str, str]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schema != SCHEMA:
            raise InputError(f"schema {self.schema}: this zeroskip reads {SCHEMA}")
        if self.clock_hz == 0:
            raise InputError("clock_hz is 0")
        if self.limits.flash == 0 or self.limits.ram == 0:
            raise InputError("a board has more than 0 bytes of flash and of RAM")
        if len(self.layers) > MAX_LAYERS:
            raise InputError(f"{len(self.layers):,} layers, over {MAX_LAYERS:,}")
        for name, present in figures(self).items():
            source = self.sources.get(name, "")
            _check(f"sources.{name}", source)
            if present and not source.strip():
                raise InputError(
                    f"no provenance for {name}: sources.{name} must say how it was got"
                )

    def layer_ms(self, layer: Layer) -> float | None:
        """Milliseconds in a layer, at the run's clock."""
        spent = layer.all_cycles
        return None if spent is None else spent / self.clock_hz * 1e3

    def layer_microjoules(self, layer: Layer) -> float | None:
        """The layer's part of the typical energy, divided by time."""
        spent = self.layer_ms(layer)
        if spent is None or self.energy is None or not self.latency_ms:
            return None
        return self.energy.microjoules.typical * spent / self.latency_ms


def figures(run: Run) -> Mapping[str, bool]:
    """The names of figures that `sources` explains, and whether the run has them."""
    layers = run.layers
    return {
        "bytes": True,
        "zeros": any(layer.weights for layer in layers),
        "macs": any(layer.macs for layer in layers),
        "macs_executed": any(layer.macs_executed is not None for layer in layers),
        "instructions": run.instructions is not None
        or any(layer.instructions is not None for layer in layers),
        "cycles": run.cycles is not None or any(layer.cycles is not None for layer in layers),
        "wait_cycles": run.wait_cycles is not None
        or any(layer.wait_cycles is not None for layer in layers),
        "latency_ms": run.latency_ms is not None,
        "energy": run.energy is not None,
        "flash_bytes": run.flash_bytes is not None,
        "ram_bytes": run.ram_bytes is not None,
        "limits": True,
    }


def as_json(run: Run) -> dict[str, Any]:
    """The record as the object of its file."""
    return asdict(run)


def to_json(run: Run) -> bytes:
    """The content of a run file. Same run, same bytes."""
    return (json.dumps(as_json(run), indent=1, allow_nan=False) + "\n").encode()


def load(path: Path) -> Run:
    """Read a run file. Raises InputError, in one line, for anything that is none; OSError; and
    MissingToolError without msgspec."""
    try:
        import msgspec
    except ImportError:
        raise MissingToolError(
            "reading runs needs msgspec; run: pip install 'zeroskip[report]'"
        ) from None
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise InputError(f"{path}: {size:,} bytes are over the limit of {MAX_FILE_BYTES:,}")
    try:
        found = msgspec.json.decode(path.read_bytes())
        if not isinstance(found, dict) or "schema" not in found:
            raise InputError("not the JSON of a run: `zeroskip emulate --save` writes such files")
        if found["schema"] != SCHEMA:
            shown = f"{found['schema']!r}"[:40]
            raise InputError(f"schema {shown}: this zeroskip reads {SCHEMA}")
        return msgspec.convert(found, Run)
    except (msgspec.MsgspecError, InputError, UnicodeError, RecursionError) as error:
        # A message may quote names of the file: it stays one line.
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
