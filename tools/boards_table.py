"""The table of docs/boards.md from the boards' data.

python tools/boards_table.py [--write]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from zeroskip import boards
from zeroskip.boards import Board
from zeroskip.runners import RUNNERS

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "boards.md"
BEGIN: Final = "<!-- table -->\n"
END: Final = "<!-- end of table -->\n"


def table() -> str:
    lines = [
        "| board | core | clock | flash | RAM | waits | current | written by |",
        "|---|---|---|---|---|---|---|---|",
        *(row(boards.load(name)) for name in boards.names()),
    ]
    return "\n".join(lines) + "\n"


def row(board: Board) -> str:
    cells = [
        f"`{board.name}`",
        board.core.name.removeprefix("cortex-").upper().replace("PLUS", "+"),
        f"{board.clock.hz / 1e6:g} MHz",
        f"{board.flash.size // 1024:,} KB",
        f"{board.ram.size // 1024:,} KB",
        "" if board.flash_timing is None else str(board.flash_timing.wait_states),
        "" if board.power is None else f"{board.power.active_ma:g} mA, {board.power.grade}",
        ", ".join(ways(board)),
    ]
    return f"| {' | '.join(cells)} |"


def ways(board: Board) -> list[str]:
    """The runners for which the board's data has what they need."""
    p = board.programming
    has = {
        "pyocd": p is not None and p.pyocd_target is not None,
        "openocd": p is not None and bool(p.openocd),
        "uf2": p is not None and p.uf2_family is not None,
        "stm32": p is not None and p.stm32_product is not None,
        "gdb": True,
    }
    return [name for name in RUNNERS if has[name]]


def page(text: str) -> str:
    """The page with the table renewed."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="renew docs/boards.md")
    if parser.parse_args().write:
        PAGE.write_text(page(PAGE.read_text()))
    else:
        print(table(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
