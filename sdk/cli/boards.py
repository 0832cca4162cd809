"""zeroskip boards [NAME] [--json]"""

import argparse
import json
from dataclasses import asdict, is_dataclass
from typing import Any, Final

from zeroskip import boards
from zeroskip.boards import Board, accelerators
from zeroskip.cli.table import render

_ADDRESSES: Final = ("start", "base", "port", "address", "mask", "value", "flash_start",
                     "ram_start", "uf2_family", "stm32_product")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "board", nargs="?", help="one board with its sources: a name, or a folder with board.toml"
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON array with all facts and their sources"
    )


def run(args: argparse.Namespace) -> int:
    if args.board is not None:
        board = boards.load(args.board)
        print(json.dumps(_as_json(board), indent=2) if args.json else "\n".join(_facts(board)))
        return 0
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
    found = [accelerators.find(name) for name in accelerators.names()]
    engines = [
        [a.name, str(a.elements), f"{a.clock_hz / 1e6:g} MHz", a.title]
        for a in found
        if a is not None
    ]
    print("\n" + "\n".join(render(["accelerator", "elements", "clock", ""], engines, left=(0, 3))))
    return 0


def _facts(board: Board) -> list[str]:
    """Every number of a board beside its source; the core's are in `--json`."""
    lines = [f"{board.name}: {board.title}, {board.vendor}, {board.core.name}"]
    for name, value in vars(board).items():
        if not is_dataclass(value) or isinstance(value, type) or name == "core":
            continue
        facts = asdict(value)
        sources = {key: facts.pop(key) for key in tuple(facts) if key.endswith("source")}
        lines += ["", name.replace("_", " ")]
        lines += [
            f"  {key:<18} {_text(key, fact)}" for key, fact in facts.items() if fact is not None
        ]
        lines += [f"  {key.replace('_', ' '):<18} {text}" for key, text in sources.items()]
    return lines


def _text(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(k, v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if key in _ADDRESSES:
        return f"{value:#010x}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _as_json(board: Board) -> dict[str, Any]:
    return asdict(board)
