"""Tables: as data, and plain ones for terminals."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """Cells of text under a header; as text it is the plain table.

    A column without a name belongs to the one before it. left: columns of words, not of numbers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: Collection[int] = (0,)

    def __str__(self) -> str:
        return table(self.header, self.rows, left=self.left)


Paragraphs = list[str | Table]
"""What is said of something, part by part."""


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)
) -> str:
    """Columns aligned to the right, those in `left` to the left, under a ruled header."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [header, *rows]
    ]
    lines.insert(1, "-" * min(len(max(lines, key=len)), 100))
    return "\n".join(lines)
