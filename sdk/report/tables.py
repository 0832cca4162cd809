"""Runs as data for other programs: one JSON object, or CSV with a row per layer."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Final

from zeroskip.report import runs as records
from zeroskip.report.compare import Comparison, comparisons
from zeroskip.report.runs import SCHEMA, Layer, Run

COLUMNS: Final = (
    "model", "sha256", "board", "core", "clock_hz", "provenance", "emulator", "instrument",
    "compiler", "optimize", "layer", "name", "op", "codec", "bytes", "weights", "zeros", "macs",
    "macs_nonzero_weight", "macs_executed", "instructions", "cycles", "wait_cycles", "latency_ms",
    "energy_uj", "energy_low_uj", "energy_high_uj", "energy_class", "volts", "flash_bytes",
    "flash_limit", "ram_bytes", "ram_limit",
)  # fmt: skip


def to_json(runs: Sequence[Run]) -> bytes:
    """The records as in their files, and estimates beside measurements."""
    report = {
        "schema": SCHEMA,
        "runs": [records.as_json(run) for run in runs],
        "comparisons": [_comparison(c) for c in comparisons(runs)],
    }
    return (json.dumps(report, indent=1, allow_nan=False) + "\n").encode()


def to_csv(runs: Sequence[Run]) -> bytes:
    """One row per layer, numbered from 0, and one per run, "total", with the columns of COLUMNS;
    empty where a figure is not known. Text that a spreadsheet would take for a formula begins with
    an apostrophe."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for run in runs:
        for index, layer in enumerate(run.layers):
            writer.writerow(_safe(_run(run) | _layer(run, index, layer)))
        writer.writerow(_safe(_run(run) | _total(run)))
    return buffer.getvalue().encode()


def _comparison(c: Comparison) -> dict[str, Any]:
    return {
        "model": c.model,
        "sha256": c.estimate.model.sha256,
        "board": c.board,
        "layer": c.layer,
        "figure": c.figure,
        "estimated": c.estimated,
        "measured": c.measured,
        "error": c.error,
        "note": c.note,
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "model": run.model.name,
        "sha256": run.model.sha256,
        "board": run.board,
        "core": run.core,
        "clock_hz": run.clock_hz,
        "provenance": run.provenance,
        "emulator": run.emulator,
        "instrument": run.instrument,
        "compiler": run.compiler,
        "optimize": run.optimize,
        "energy_class": None if run.energy is None else run.energy.grade or run.provenance,
        "volts": None if run.energy is None else run.energy.volts,
    }


def _layer(run: Run, index: int, layer: Layer) -> dict[str, Any]:
    return {
        "layer": index,
        "name": layer.name,
        "op": layer.op,
        "codec": layer.codec,
        "bytes": layer.bytes,
        "weights": layer.weights,
        "zeros": layer.zeros,
        "macs": layer.macs,
        "macs_nonzero_weight": layer.macs_nonzero_weight,
        "macs_executed": layer.macs_executed,
        "instructions": layer.instructions,
        "cycles": layer.cycles,
        "wait_cycles": layer.wait_cycles,
        "latency_ms": run.layer_ms(layer),
        "energy_uj": run.layer_microjoules(layer),
    }


def _total(run: Run) -> dict[str, Any]:
    executed = [layer.macs_executed for layer in run.layers]
    known = [count for count in executed if count is not None]
    found = {
        "layer": "total",
        "bytes": run.model.bytes,
        "weights": sum(layer.weights for layer in run.layers),
        "zeros": sum(layer.zeros for layer in run.layers),
        "macs": sum(layer.macs for layer in run.layers),
        "macs_nonzero_weight": sum(layer.macs_nonzero_weight for layer in run.layers),
        "macs_executed": sum(known) if len(known) == len(executed) else None,
        "instructions": run.instructions,
        "cycles": run.cycles,
        "wait_cycles": run.wait_cycles,
        "latency_ms": run.latency_ms,
        "flash_bytes": None if run.flash_bytes is None else run.flash_bytes.total,
        "flash_limit": run.limits.flash,
        "ram_bytes": None if run.ram_bytes is None else run.ram_bytes.total,
        "ram_limit": run.limits.ram,
    }
    if run.energy is not None:
        uj = run.energy.microjoules
        found |= {
            "energy_uj": uj.typical, "energy_low_uj": uj.low, "energy_high_uj": uj.high,
        }  # fmt: skip
    return found


def _safe(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: f"'{value}"
        if isinstance(value, str) and value.lstrip()[:1] in tuple("=+-@\t\r")
        else value
        for key, value in row.items()
    }
