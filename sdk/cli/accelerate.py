"""`zeroskip emulate` for a simulated accelerator."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from zeroskip.accelerators import run_container
from zeroskip.accelerators.eie import LayerResult
from zeroskip.boards.accelerators import Accelerator
from zeroskip.cli.emulate import random_inputs
from zeroskip.cli.table import render
from zeroskip.conversion import load_arrays
from zeroskip.converters.container import describe
from zeroskip.errors import InputError
from zeroskip.runtime import Model


def run_on_accelerator(args: argparse.Namespace, accelerator: Accelerator) -> int:
    """Run the fully connected layers of a container; the first sample of --input."""
    for option in ("output", "save", "rate", "battery", "emulator", "compiler"):
        if getattr(args, option) is not None:
            raise InputError(
                f"--{option} has no meaning for {accelerator.name}, which is simulated"
            )
    model = Model.load(args.container)
    inputs = load_arrays(args.input) if args.input else random_inputs(model)
    first = [x[0] for x in model.prepare(*inputs)]
    blob = args.container.read_bytes()
    results = run_container(blob, accelerator, first)
    if args.json:
        print(json.dumps(_as_json(results, accelerator), indent=2))
    else:
        names = {r.index for r in results}
        others = [op.name for op in describe(blob).ops if op.index not in names]
        print("\n".join(_as_text(results, accelerator, args.container.name, others)))
    if not all(r.exact for r in results):
        print("zeroskip emulate: sums differ from the dense product", file=sys.stderr)
        return 1
    return 0


def _as_json(results: list[LayerResult], a: Accelerator) -> dict[str, Any]:
    return {
        "accelerator": asdict(a),
        "provenance": "estimated",
        "layers": [
            {
                **asdict(r),
                "theoretical_us": r.timing.theoretical_us,
                "actual_us": r.timing.actual_us,
                "load_balance": r.timing.load_balance,
            }
            for r in results
        ],
    }


def _as_text(results: list[LayerResult], a: Accelerator, name: str, others: list[str]) -> list[str]:
    rows = [
        [
            str(r.index),
            r.name,
            f"{r.shape[1]:,} x {r.shape[0]:,}",
            f"{r.timing.broadcasts:,}",
            f"{r.macs:,}",
            f"{r.fillers:,}",
            f"{r.timing.cycles:,}",
            f"{r.timing.theoretical_us:.3f}",
            f"{r.timing.actual_us:.3f}",
            f"{r.timing.load_balance:.2f}",
            f"{r.energy_nj:,.1f}",
        ]
        for r in results
    ]
    head = ["", "name", "inputs x outputs", "active", "MACs", "fillers", "cycles",
            "theoretical us", "us", "balance", "nJ"]  # fmt: skip
    lines = [
        f"{name} on {a.title}, {a.elements} elements at {a.clock_hz / 1e6:g} MHz, queues of "
        f"{a.queue_depth} (simulated; one inference)",
        "",
        *render(head, rows, left=(1,)),
        "",
        f"energy        {a.power_mw:.1f} mW x time: published power in 45 nm at full activity",
        f"source        {a.source}",
        f"sums          {'identical to' if all(r.exact for r in results) else 'DIFFERENT FROM'} "
        "the dense product's",
    ]
    lines += [
        f"note          '{r.name}' has {r.distinct} distinct values, the codebook "
        f"{1 << a.index_bits}: share its weights (zeroskip compress); the time is that of its "
        "positions"
        for r in results
        if not r.fits
    ]
    if others:
        lines.append(f"not run       {len(others)} other ops: {', '.join(others[:6])}"
                     f"{', ...' if len(others) > 6 else ''}")  # fmt: skip
    return lines
