"""zeroskip bench --board BOARD [--json]"""

import argparse
import json
from dataclasses import asdict
from typing import Any

from zeroskip import bench, boards
from zeroskip.bench import Result
from zeroskip.cli.table import render
from zeroskip.emulation.layers import timing_of

_HEAD = ("layer", "zeros", "active", "codec", "bytes", "cycles", "per MAC", "per executed MAC")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--board", required=True, help="a name from `zeroskip boards`, or a folder with board.toml"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    board = boards.load(args.board)
    source = timing_of(board).name
    results = bench.run(board)
    if args.json:
        found: dict[str, Any] = {
            "board": board.name,
            "core": board.core.name,
            "provenance": "estimated",
            "timing_model": source,
            "layers": [asdict(r) for r in results],
        }
        print(json.dumps(found, indent=2))
        return 0
    print("\n".join(render(_HEAD, [row(r) for r in results], left=(0, 3))))
    print(f"\ncycles are estimated: {source}; random weights and activations, gcc -O2")
    return 0


def row(r: Result) -> tuple[str, ...]:
    """A result as cells of a table."""
    each = f"{r.cycles / r.executed:.2f}" if r.executed else "-"
    return (
        r.layer,
        f"{100 * r.sparsity:g} %",
        f"{100 * r.active:g} %",
        r.codec,
        f"{r.bytes:,}",
        f"{r.cycles:,}",
        f"{r.cycles / r.macs:.2f}",
        each,
    )
