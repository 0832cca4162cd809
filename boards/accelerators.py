"""Simulated accelerators as data: a folder with accelerator.toml, beside those of boards."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from zeroskip.boards._table import Table
from zeroskip.errors import BoardError

SCHEMA = 1


@dataclass(frozen=True)
class Accelerator:
    """An engine of EIE's kind: `elements` processing elements over which rows are interleaved,
    each with a queue of `queue_depth` activations; `gap_bits` and `index_bits` of an entry; power
    in milliwatts of one element and of one of the `detectors` of non-zero activations."""

    name: str
    title: str
    source: str
    elements: int
    clock_hz: int
    queue_depth: int
    gap_bits: int
    index_bits: int
    element_mw: float
    detector_mw: float
    detectors: int

    @property
    def power_mw(self) -> float:
        return self.elements * self.element_mw + self.detectors * self.detector_mw


def names() -> list[str]:
    """The accelerators that come with zeroskip, sorted."""
    root = resources.files("zeroskip.boards")
    return sorted(d.name for d in root.iterdir() if d.joinpath("accelerator.toml").is_file())


def find(name_or_path: str | Path) -> Accelerator | None:
    """The accelerator of that name or in that folder, None if there is none. Raises BoardError
    for a description that breaks the schema."""
    name = str(name_or_path)
    entry = resources.files("zeroskip.boards").joinpath(name, "accelerator.toml")
    if name not in names():
        path = Path(name_or_path) / "accelerator.toml"
        if not path.is_file():
            return None
        text = path.read_text(encoding="utf-8")
    else:
        text = entry.read_text(encoding="utf-8")
    where = f"{name}/accelerator.toml"
    try:
        table = Table(tomllib.loads(text), where)
    except tomllib.TOMLDecodeError as error:
        raise BoardError(f"{where}: {error}") from error
    schema = table.integer("schema", 1, 1 << 16)
    if schema != SCHEMA:
        raise table.error("schema", f"{schema} is not {SCHEMA}, the only version known here")
    found = Accelerator(
        name=table.text("name"),
        title=table.text("title"),
        source=table.text("source"),
        elements=table.integer("elements", 1, 4096),
        clock_hz=table.integer("clock_hz", 1_000, 10**11),
        queue_depth=table.integer("queue_depth", 1, 1 << 16),
        gap_bits=table.integer("gap_bits", 1, 16),
        index_bits=table.integer("index_bits", 1, 16),
        element_mw=table.number("element_mw", 0.0, 1e6),
        detector_mw=table.number("detector_mw", 0.0, 1e6),
        detectors=table.integer("detectors", 0, 1 << 16),
    )
    table.finish()
    return found
