"""The committed table of the cycle models' errors."""

import re
from pathlib import Path

TABLE = Path(__file__).parents[2] / "benchmarks" / "timing_validation.md"
ROW = re.compile(r"\| (.+) \| ([\d.,]+) \| ([\d.,]+) \| ([+-][\d.]+) % \| (\d+) % \|")


def test_every_program_is_within_its_limit() -> None:
    rows = ROW.findall(TABLE.read_text())
    assert sum("ML-KEM" in row[0] for row in rows) == 9
    assert {"cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33"} == {
        row[0].split()[1] for row in rows if "CoreMark" in row[0]
    }
    for what, published, estimated, error, allowed in rows:
        found = 100 * (number(estimated) / number(published) - 1)
        assert abs(found - float(error)) < 0.06, what
        assert abs(float(error)) <= float(allowed), what


def number(text: str) -> float:
    return float(text.replace(",", ""))
