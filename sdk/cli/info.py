"""zeroskip info OUT.zsk [--board BOARD] [--json]"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zeroskip import boards
from zeroskip.boards import Board
from zeroskip.cli.table import render
from zeroskip.conversion import CODE_RESERVE_BYTES
from zeroskip.converters import costs
from zeroskip.converters.container import Description, describe
from zeroskip.converters.explain import Explanation, explain
from zeroskip.converters.planner import SPEED_CORE
from zeroskip.runtime import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", type=Path, help="a .zsk file")
    parser.add_argument(
        "--board",
        help="cycles on its core, use of its memories: a name from `zeroskip boards`, or a folder "
        "with board.toml (default: cycles on a Cortex-M4)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    board = boards.load(args.board) if args.board is not None else None
    core = board.core.name if board is not None else SPEED_CORE
    Model.load(args.container)  # validates from end to end
    blob = args.container.read_bytes()
    description, choices = describe(blob), explain(blob, core)
    if args.json:
        print(json.dumps(_as_json(description, choices, core, board), indent=2))
    else:
        lines = _as_text(description, args.container.name)
        lines += _choices_as_text(description, choices, core)
        if board is not None:
            lines += _board_as_text(description, board)
        print("\n".join(lines))
    return 0


def _as_json(
    d: Description, choices: list[Explanation], core: str, board: Board | None
) -> dict[str, Any]:
    result = asdict(d)
    explained = {choice.index: choice for choice in choices}
    for row, op in zip(result["ops"], d.ops, strict=True):
        row["codec"] = op.codec
        if op.weights is not None:
            row["weights"]["sparsity"] = op.weights.sparsity
            row["weights"]["entropy_ratio"] = op.weights.entropy_ratio
            choice = explained[op.index]
            row["choice"] = {
                "reason": choice.reason,
                "cycles": choice.chosen.cycles,
                "cycles_rank_only": op.output.dtype == "float32",
                "active_inputs": choice.active_inputs,
                "alternatives": [asdict(alternative) for alternative in choice.alternatives],
            }
    result |= {
        "macs": d.macs,
        "macs_nonzero_weight": d.macs_nonzero_weight,
        "core": core,
        "cycles_provenance": costs.load(core).provenance,
    }
    if board is not None:
        result["board"] = {
            "name": board.name,
            "flash_bytes": {
                "container": d.bytes, "code_at_most": CODE_RESERVE_BYTES, "limit": board.flash.size,
            },
            "ram_bytes": {
                "arena": d.arena_bytes, "stack": board.stack.size, "limit": board.ram.size,
            },
        }  # fmt: skip
    return result


def _choices_as_text(d: Description, choices: list[Explanation], core: str) -> list[str]:
    if not choices:
        return []
    rows = [
        [str(c.index), d.ops[c.index].name, f"{c.chosen.cycles / 1000:,.1f}", c.reason]
        for c in choices
    ]
    ranking = "; float32 layers are priced as int8 ones, which ranks codecs, no more"
    is_float = any(d.ops[c.index].output.dtype == "float32" for c in choices)
    return [
        "",
        *render(["", "name", "kcycles", "codec"], rows, left=(1, 3)),
        "",
        f"kcycles: of the layer on {core}, {costs.load(core).provenance}; behind a ReLU half of "
        f"the inputs are taken to be zero{ranking if is_float else ''}",
    ]


def _board_as_text(d: Description, board: Board) -> list[str]:
    flash, ram = d.bytes + CODE_RESERVE_BYTES, d.arena_bytes + board.stack.size
    return [
        f"flash: {d.bytes:,} bytes, with code at most {flash:,}, of {board.flash.size:,} on "
        f"{board.name} (`zeroskip build` measures the code)",
        f"RAM: arena {d.arena_bytes:,} bytes, with the stack {ram:,}, of {board.ram.size:,}",
    ]


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
                f"{w.entropy_ratio:.2f}" if w is not None and w.entropy_ratio else "",
                f"{100 * w.sparsity:.1f}" if w is not None else "",
                f"{op.macs:,}" if w is not None else "",
                f"{op.macs_nonzero_weight:,}" if w is not None else "",
            ]
        )
    head = [
        "", "name", "op", "output", "codec", "bytes", "weights", "entropy", "ratio",
        "zeros %", "MACs", "non-zero",
    ]  # fmt: skip
    lines += ["", *render(head, rows, left=(1, 2, 3, 4)), ""]
    sections = ", ".join(f"{title} {size:,}" for title, size in d.sections.items() if size)
    lines.append(f"bytes by section: {sections}")
    lines.append(
        "bytes: record and data of the op; weights: positions, values and tables; entropy: bound "
        "for positions and values coded as independent symbols; ratio: weights to that"
    )
    return lines
