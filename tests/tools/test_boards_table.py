"""docs/boards.md against the boards' data."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_is_that_of_the_data() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import boards_table
    finally:
        sys.path.pop(0)
    text = (ROOT / "docs" / "boards.md").read_text()
    assert boards_table.page(text) == text
    assert text.count("\n| `") >= 16
