"""Reading one column of numbers from a text file."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from mcsim.laws.law import LawFault
from mcsim.suggest import did_you_mean

MAX_ROWS = 1_000_000

NumberedRows = Iterator[tuple[int, list[str]]]


def read_column(path: Path, column: str | None) -> list[float]:
    """The numbers of one column, in the order of the file.

    path: comma-separated text with a header, or one number a line without. Empty lines are
    skipped. column: its name in the header; may be left out where there is only one.
    Raises LawFault of the key `file` or `column`.
    """
    if path.is_dir():
        raise LawFault("file", f'"{path}" is a directory')
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text)
            rows = ((reader.line_num, [cell.strip() for cell in row]) for row in reader)
            filled = ((line, row) for line, row in rows if any(row))
            numbers = list(_numbers(filled, path, column))
    except FileNotFoundError:
        raise LawFault("file", f'"{path}" does not exist') from None
    except UnicodeDecodeError:
        raise LawFault("file", f'"{path}" is not UTF-8 text') from None
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, LawFault):
            raise
        raise LawFault("file", f'"{path}" cannot be read: {error}') from None
    if not numbers:
        raise LawFault("file", f'"{path}" holds no numbers')
    return numbers


def _numbers(rows: NumberedRows, path: Path, column: str | None) -> Iterator[float]:
    line, header = next(rows, (0, []))
    place = 0
    if len(header) == 1 and _is_number(header[0]):
        if column is not None:
            raise LawFault("column", f'"{path}" is one column of numbers without a header')
        rows = chain([(line, header)], rows)
    elif header:
        place = _place(header, path, column)
    for count, (line, row) in enumerate(rows, start=1):
        if count > MAX_ROWS:
            raise LawFault(
                "file",
                f'"{path}" has more than {MAX_ROWS:,} rows; give a table of quantiles instead '
                "(`values` with their `probabilities`)",
            )
        if len(row) != max(len(header), 1):
            raise LawFault(
                "file",
                f'line {line} of "{path}" has {len(row)} cells, the first line {len(header)}',
            )
        cell = row[place]
        if not _is_number(cell):
            raise LawFault("file", f'line {line} of "{path}": "{cell[:40]}" is not a number')
        number = float(cell)
        if not math.isfinite(number):
            raise LawFault("file", f'line {line} of "{path}": {cell[:40]} is not finite')
        yield number


def _place(header: list[str], path: Path, column: str | None) -> int:
    """Where in a row the column stands."""
    known = ", ".join(f'"{name}"' for name in header[:20])
    if column is None and len(header) > 1:
        raise LawFault("column", f'is missing; "{path}" has {known}')
    if column is not None and header.count(column) != 1:
        how_many = "more than one column" if column in header else "no column"
        near = "" if column in header else did_you_mean(column, header)
        raise LawFault("column", f'"{path}" has {how_many} "{column}"{near}; there are {known}')
    return 0 if column is None else header.index(column)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    # Python reads "1_000" as a thousand; a data file hardly means that.
    return "_" not in cell
