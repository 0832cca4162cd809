"""Copy figures from the committed tables of benchmarks/ into the README's comparison.

python tools/readme_figures.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
README: Final = ROOT / "README.md"
SIZES: Final = ROOT / "benchmarks" / "sizes.md"
MODELS: Final = ROOT / "benchmarks" / "mlperf_tiny.md"


def table_rows(document: Path) -> list[list[str]]:
    """The cells of every table row of a Markdown file."""
    lines = document.read_text(encoding="utf-8").splitlines()
    return [[c.strip() for c in line[1:-1].split("|")] for line in lines if line.startswith("| ")]


def figures() -> dict[str, str]:
    """The README's rows that hold figures, by the text of their first cell."""
    (code,) = [r[3] for r in table_rows(SIZES) if r[:3] == ["cortex-m4", "kws", "-O2"]]
    rows = table_rows(MODELS)
    models = {row[0]: row for row in rows if len(row) == len(rows[0])}  # of the first table
    vww, kws = models["vww"], models["kws"]
    link = "([sizes](benchmarks/sizes.md))"
    cells = {
        "code for keyword spotting on M4": (
            f"{code} bytes, measured {link}",
            "136,024 bytes, measured once elsewhere",
        ),
        "MLPerf Tiny vww (83 % zeros): model": (
            f"{vww[2]} bytes, measured",
            f"{vww[1]} bytes, measured",
        ),
        "vww on M4": (f"{vww[5]} Mcycles, estimated", f"{vww[6]} Mcycles, estimated"),
        "vww on M0+": (f"{vww[8]} Mcycles, estimated", f"{vww[9]} Mcycles, estimated"),
        "kws (1 % zeros) on M4": (f"{kws[5]} Mcycles, estimated", f"{kws[6]} Mcycles, estimated"),
    }
    return {name: f"| {name} | {ours} | {theirs} |" for name, (ours, theirs) in cells.items()}


def with_figures(readme: str) -> str:
    """The README's text with its figures renewed."""
    for name, row in figures().items():
        pattern = re.compile(rf"^\| {re.escape(name)} \|.*$", re.MULTILINE)
        readme, count = pattern.subn(lambda _, row=row: row, readme)
        if count != 1:
            raise SystemExit(f"readme_figures: {count} rows '{name}' in README.md, expected 1")
    return readme


if __name__ == "__main__":
    README.write_text(with_figures(README.read_text(encoding="utf-8")), encoding="utf-8")
