"""zeroskip info OUT.zsk [--json]"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zeroskip.cli.table import render
from zeroskip.converters.container import Description, describe
from zeroskip.runtime import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", type=Path, help="a .zsk file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    Model.load(args.container)  # validates from end to end
    description = describe(args.container.read_bytes())
    if args.json:
        print(json.dumps(_as_json(description), indent=2))
    else:
        print("\n".join(_as_text(description, args.container.name)))
    return 0


def _as_json(d: Description) -> dict[str, Any]:
    result = asdict(d)
    for row, op in zip(result["ops"], d.ops, strict=True):
        row["codec"] = op.codec
        if op.weights is not None:
            row["weights"]["sparsity"] = op.weights.sparsity
    return {**result, "macs": d.macs, "macs_nonzero_weight": d.macs_nonzero_weight}


def _as_text(d: Description, name: str) -> list[str]:
    lines = [f"{name}: container {d.version}, {d.bytes:,} bytes, arena {d.arena_bytes:,} bytes"]
    for title, ports in (("input", d.inputs), ("output", d.outputs)):
        for port in ports:
            lines.append(f"{title} {port.dtype} {list(port.shape)}")
    rows = []
    for op in d.ops:
        w = op.weights
        rows.append(
            [
                str(op.index),
                op.name,
                op.op,
                "x".join(map(str, op.output.shape)),
                w.codec if w is not None else "",
                f"{op.bytes:,}",
                f"{w.stream_bytes:,}" if w is not None else "",
                f"{w.entropy_bytes:,.0f}" if w is not None else "",
                f"{100 * w.sparsity:.1f}" if w is not None else "",
                f"{op.macs:,}" if w is not None else "",
                f"{op.macs_nonzero_weight:,}" if w is not None else "",
            ]
        )
    head = [
        "", "name", "op", "output", "codec", "bytes", "weights", "entropy", "zeros %", "MACs",
        "non-zero",
    ]  # fmt: skip
    lines += ["", *render(head, rows, left=(1, 2, 3, 4)), ""]
    sections = ", ".join(f"{title} {size:,}" for title, size in d.sections.items() if size)
    lines.append(f"bytes by section: {sections}")
    lines.append(
        "bytes: record and data of the op; weights: positions, values and tables; entropy: bound "
        "for positions and values coded as independent symbols"
    )
    return lines
