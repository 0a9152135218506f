"""CSV files, read with the standard library."""

import csv
import math
import os
import re
from collections.abc import Collection
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
        # Blanks around cells mean nothing, also before a quote.
        reader = csv.reader(
            file, delimiter=delimiter, strict=True, skipinitialspace=True
        )
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
    header, rows = _without_empty_ends(header, rows)
    if len(set(header)) != len(header):
        twice = sorted({n for n in header if header.count(n) > 1})
        raise FormatError(
            f"{path}: the header names {', '.join(map(repr, twice))} twice. "
            "Expected a different name for each column."
        )
    if not rows:
        raise FormatError(f"{path} has a header, but no rows.")
    return header, rows, lines


def _without_empty_ends(
    header: list[str], rows: list[list[str]]
) -> tuple[list[str], list[list[str]]]:
    """Without the empty columns that spreadsheets write at the right."""
    end = len(header)
    while end and not header[end - 1] and not any(r[end - 1] for r in rows):
        end -= 1
    if end == len(header):
        return header, rows
    return header[:end], [row[:end] for row in rows]


_BOOLEANS = {"true": True, "false": False}


def _number(cell: str, decimal: str) -> float | None:
    """A cell as a number; None if it is none."""
    # Python reads 1_000 as a number; no program writes it into a CSV.
    if "_" in cell or (decimal != "." and "." in cell):
        return None
    try:
        number = float(cell.replace(decimal, "."))
    except ValueError:
        return None
    if not abs(number) < 1 << 53 and _is_changed(cell, number):
        return None
    return number


def _plain_numbers(cells: list[str], decimal: str) -> np.ndarray | None:
    """What `_number` gives, quickly; None where it has to look closer."""
    text = "\n".join(cells)
    if "_" in text or (decimal != "." and "." in text):
        return None
    try:
        numbers = map(float, text.replace(decimal, ".").split("\n"))
        found = np.fromiter(numbers, np.float64)
    except ValueError:
        return None
    # NaN too, which begins with a minus, or it would be missing.
    if len(found) != len(cells) or not (np.abs(found) < 1 << 53).all():
        return None
    return found


def _is_changed(cell: str, number: float) -> bool:
    """Whether a large number is another one as float64, or none."""
    if not math.isfinite(number):
        return "inf" not in cell.lower()  # 1e400, or -nan
    return cell.lstrip("+-").isdecimal() and int(cell) != number


def _integers(cells: list[str]) -> np.ndarray | None:
    if "_" in "".join(cells):
        return None
    try:
        found = list(map(int, cells))
    except ValueError:
        return None
    for dtype in (np.int64, np.uint64):
        try:
            return np.array(found, dtype)
        except OverflowError:
            continue
    # As objects: float64 would make another number of it.
    return np.array(found, object)


def _cells(cells: list[str], decimal: str, names: Collection[str]) -> Cells:
    """A column: integers if all cells are, booleans, floats, or texts.

    Names of classes are texts, whatever else they look like.
    """
    # The longest of them has four letters: most cells aren't worth a look.
    missing = np.fromiter(
        (len(c) < 5 and c.lower() in _MISSING for c in cells), bool, len(cells)
    )
    if names:
        missing &= [cell not in names for cell in cells]
        named = [c in names or m for c, m in zip(cells, missing, strict=True)]
        if all(named) and not missing.all():
            texts = np.fromiter(cells, object, len(cells))
            return Cells(texts, missing, int(np.argmin(missing)), True)
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
    if all(cell.lower() in _BOOLEANS for cell in present):
        flags = [_BOOLEANS[cell.lower()] for cell in present]
        return Cells(spread(flags, bool), missing)
    plain = _plain_numbers(present, decimal)
    if plain is not None:
        return Cells(spread(plain, np.float64), missing)
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

    def read(name: Any, class_names: Collection[str] = ()) -> Cells:
        cells = _cells(column(name), decimal, class_names)
        if cells.odd is None or decimal != ".":
            return cells
        # What a program of many a country writes.
        cell = str(cells.values[cells.odd])
        grouped = re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?", cell)
        if not grouped and ("," not in cell or _number(cell, ",") is None):
            return cells
        raise ValueError(
            f"{path}: column {name!r} holds {cell!r} in line "
            f"{lines[cells.odd]}. "
            + (
                "If the comma stands between thousands, write numbers without "
                "it; if it begins a fraction, pass decimal=','."
                if grouped
                else "If that is a number, pass decimal=','."
            )
        )

    return Table(
        str(path),
        header,
        len(rows),
        read,
        ids=lambda name: _ids(column(name), lines, name, path),
        place=lambda row: f" in line {lines[row]}",
    )
