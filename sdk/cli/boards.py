"""zeroskip boards [--json]"""

import argparse
import json
from dataclasses import asdict
from typing import Any

from zeroskip import boards
from zeroskip.boards import Board
from zeroskip.cli.table import render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print a JSON array with all facts and their sources"
    )


def run(args: argparse.Namespace) -> int:
    known = [boards.load(name) for name in boards.names()]
    if args.json:
        print(json.dumps([_as_json(b) for b in known], indent=2))
        return 0
    rows = [
        [
            b.name,
            b.core.name,
            f"{b.clock.hz / 1e6:g} MHz",
            f"{b.flash.size // 1024:,} KB",
            f"{b.ram.size // 1024:,} KB",
            "yes" if b.core.timing else "instructions only",
            b.title,
        ]
        for b in known
    ]
    head = ["board", "core", "clock", "flash", "RAM", "cycle estimate", ""]
    print("\n".join(render(head, rows, left=(0, 1, 5, 6))))
    return 0


def _as_json(board: Board) -> dict[str, Any]:
    return asdict(board)
