"""Plain text tables."""

from collections.abc import Collection, Sequence


def render(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = ()
) -> list[str]:
    """Lines of a table with aligned columns; those in `left` are flush left, others right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines
