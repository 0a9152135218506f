"""CSV files, read with the standard library."""

import csv
import os
from typing import Any

import numpy as np

from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.formats.table import Cells, Table

# What other programs write for "no value".
_MISSING = frozenset(["", "na", "n/a", "nan", "null", "none", "?"])


def read_cells(
    path: str | os.PathLike[str], delimiter: str
) -> tuple[list[str], list[list[str]], list[int]]:
    """The header, the rows, and the line that each row ends on.

    Raises:
        FormatError: If the file is no such CSV, with the line.
    """
    rows: list[list[str]] = []
    lines: list[int] = []
    # utf-8-sig: spreadsheets put a byte order mark before the first name.
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            for row in reader:
                if not row:  # an empty line
                    continue
                if len(row) != len(header):
                    raise FormatError(
                        f"{path}, line {reader.line_num}: {len(row)} cells, "
                        f"but the header has {len(header)}. Is the file cut "
                        f"short, or the delimiter not {delimiter!r}?"
                    )
                rows.append(row)
                lines.append(reader.line_num)
        except (csv.Error, UnicodeDecodeError) as error:
            raise FormatError(
                f"{path}, near line {reader.line_num + 1}: {error}. Expected "
                "a CSV file in UTF-8."
            ) from error
    if not header:
        raise FormatError(f"{path} is empty. Expected a line of column names.")
    if len(set(header)) != len(header):
        twice = sorted({n for n in header if header.count(n) > 1})
        raise FormatError(
            f"{path}: the header names {', '.join(map(repr, twice))} twice. "
            "Expected a different name for each column."
        )
    if not rows:
        raise FormatError(f"{path} has a header, but no rows.")
    return header, rows, lines


_BOOLEANS = {"true": True, "false": False}


def _number(cell: str, decimal: str) -> float | None:
    """A cell as a number; None if it is none."""
    # Python reads 1_000 as a number; no program writes it into a CSV.
    if "_" in cell or (decimal != "." and "." in cell):
        return None
    try:
        return float(cell.replace(decimal, "."))
    except ValueError:
        return None


def _integers(cells: list[str]) -> np.ndarray | None:
    if any("_" in cell for cell in cells):
        return None
    try:
        found = [int(cell) for cell in cells]
    except ValueError:
        return None
    for dtype in (np.int64, np.uint64):
        try:
            return np.array(found, dtype)
        except OverflowError:
            continue
    # As objects: float64 would make another number of it.
    return np.array(found, object)


def _cells(cells: list[str], decimal: str) -> Cells:
    """A column: integers if all cells are, booleans, floats, or texts."""
    lower = [cell.lower() for cell in cells]
    missing = np.fromiter((c in _MISSING for c in lower), bool, len(cells))
    present = [c for c, gone in zip(cells, missing, strict=True) if not gone]
    at = np.flatnonzero(~missing)

    def spread(values: Any, dtype: Any) -> np.ndarray:
        out = np.zeros(len(cells), dtype)
        out[at] = values
        return out

    integers = _integers(present)
    if integers is not None:
        odd = int(at[0]) if integers.dtype.kind == "O" else None
        return Cells(spread(integers, integers.dtype), missing, odd)
    if all(cell in _BOOLEANS for cell in lower if cell not in _MISSING):
        flags = [_BOOLEANS[cell.lower()] for cell in present]
        return Cells(spread(flags, bool), missing)
    numbers = [_number(cell, decimal) for cell in present]
    odd = next((k for k, v in enumerate(numbers) if v is None), None)
    if odd is None:
        return Cells(spread(numbers, np.float64), missing)
    return Cells(
        np.fromiter(cells, object, len(cells)),
        missing,
        int(at[odd]),
        all(number is None for number in numbers),
    )


def _ids(cells: list[str], lines: list[int], name: Any, path: Any) -> Any:
    # An id may well be "na"; only no id at all is a gap.
    empty = [k for k, cell in enumerate(cells) if not cell]
    if empty:
        raise ValueError(
            f"{path}: column {name!r} ({len(empty):,}, first in line "
            f"{lines[empty[0]]}) has rows without a client id. Expected one "
            "in every row."
        )
    # Objects, so that NumPy does not pad every id to the longest one.
    return np.fromiter(cells, object, len(cells))


def table_of(
    path: str | os.PathLike[str], delimiter: str, decimal: str
) -> Table:
    """A CSV file as a table; see `FederatedDataset.from_csv`."""
    if decimal not in (".", ",") or decimal == delimiter:
        raise ValueError(
            f"decimal is {decimal!r} and delimiter {delimiter!r}. Expected "
            "'.' or ',' for decimal, and another character for delimiter, "
            "often ';'."
        )
    header, rows, lines = read_cells(path, delimiter)

    def column(name: Any) -> list[str]:
        at = header.index(name)
        return [row[at].strip() for row in rows]

    def read(name: Any) -> Cells:
        cells = _cells(column(name), decimal)
        if cells.odd is None or decimal != ".":
            return cells
        # What a program of many a country writes.
        cell = str(cells.values[cells.odd])
        if "," not in cell or _number(cell, ",") is None:
            return cells
        raise ValueError(
            f"{path}: column {name!r} holds {cell!r} in line "
            f"{lines[cells.odd]}. If that is a number, pass decimal=','."
        )

    return Table(
        str(path),
        header,
        len(rows),
        read,
        ids=lambda name: _ids(column(name), lines, name, path),
        place=lambda row: f" in line {lines[row]}",
    )
