"""CSV files, read with the standard library.

Not with pandas, which fills rows that are cut short, rounds integers that
stand beside fractions, and can't say in which line a value was.
"""

import csv
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.formats.table import Roles, Table, read_tables, table_ids
from fedlearn.data.sources import ClientColumns

# What other programs write for "no value".
_MISSING = frozenset(["", "na", "n/a", "nan", "null", "none", "?"])
_BOOLEANS = {"true": True, "false": False}


def read_cells(
    path: str | os.PathLike[str], delimiter: str
) -> tuple[list[str], list[list[str]], list[int]]:
    """The header, the rows, and the line that each row ends on."""
    rows: list[list[str]] = []
    lines: list[int] = []
    # utf-8-sig: spreadsheets put a byte order mark before the first name.
    with open(path, encoding="utf-8-sig", newline="") as file:
        # Blanks around cells mean nothing, also before a quote.
        reader = csv.reader(
            file, delimiter=delimiter, strict=True, skipinitialspace=True
        )
        try:
            for row in filter(None, reader):  # without empty lines
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
                if len(row) != len(rows[0]):
                    raise FormatError(
                        f"{path}, line {lines[-1]}: {len(row)} cells, but the "
                        f"header has {len(rows[0])}. Is the file cut short, "
                        f"or the delimiter not {delimiter!r}?"
                    )
        except (csv.Error, UnicodeDecodeError) as error:
            raise FormatError(
                f"{path}, near line {reader.line_num + 1}: {error}. Expected "
                "a CSV file in UTF-8."
            ) from error
    if len(rows) < 2:
        what = "has a header, but no rows" if rows else "is empty"
        raise FormatError(
            f"{path} {what}. Expected a line of column names, and others."
        )
    # Without the empty columns that spreadsheets write at the right.
    while rows[0] and not any(row[-1] for row in rows):
        for row in rows:
            row.pop()
    return rows[0], rows[1:], lines[1:]


def _number(cell: str, decimal: str) -> int | float | None:
    """A cell as a number; None if it is none."""
    # Python reads 1_000 as a number; no program writes it into a CSV.
    if "_" in cell or (decimal != "." and "." in cell):
        return None
    try:
        return int(cell)
    except ValueError:
        pass
    try:
        number = float(cell.replace(decimal, "."))
    except ValueError:
        return None
    # Neither 1e400 nor -nan, which isn't among the missing.
    return number if math.isfinite(number) or "inf" in cell.lower() else None


def _plain(cells: list[str], decimal: str) -> np.ndarray | None:
    """What `_number` gives for all, quickly; None where one needs a look."""
    text = "".join(cells)
    if "_" in text or (decimal != "." and "." in text):
        return None
    for dtype in (np.int64, np.float64):
        try:
            found = np.array(cells, object).astype(dtype)
        except (ValueError, OverflowError):
            if decimal != "." and "," in text:
                cells = [cell.replace(decimal, ".") for cell in cells]
            continue
        # Integers among floats may be changed from here on.
        return found if (np.abs(found) < 1 << 53).all() else None
    return None


def _typed(
    cells: list[str], decimal: str, class_names: Sequence[str]
) -> np.ndarray:
    """Integers if all are, booleans, other numbers, or objects.

    Names of classes are texts, whatever they look like.
    """
    if cells and set(cells) <= set(class_names):
        return np.array(cells, object)
    plain = _plain(cells, decimal)
    if plain is not None:
        return plain
    if all(cell.lower() in _BOOLEANS for cell in cells):
        return np.array([_BOOLEANS[cell.lower()] for cell in cells], bool)
    found: list[Any] = [_number(cell, decimal) for cell in cells]
    if None in found:
        pairs = zip(found, cells, strict=True)
        found = [c if v is None or class_names else v for v, c in pairs]
    out = np.empty(len(cells), object)
    out[:] = found
    return out


def _check_commas(
    values: np.ndarray, path: Any, name: Any, lines: list[int]
) -> None:
    """Raises for what a program of many a country writes."""
    row = next((k for k, v in enumerate(values) if isinstance(v, str)), None)
    if row is None:
        return
    cell = values[row]
    grouped = re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?", cell)
    if grouped or ("," in cell and _number(cell, ",") is not None):
        raise ValueError(
            f"{path}: column {name!r} holds {cell!r} in line {lines[row]}. "
            + (
                "If the comma stands between thousands, write numbers "
                "without it; if it begins a fraction, pass decimal=','."
                if grouped
                else "If that is a number, pass decimal=','."
            )
        )


def _table(path: str | os.PathLike[str], delimiter: str, decimal: str) -> Table:
    header, rows, lines = read_cells(path, delimiter)

    def column(name: Any) -> list[str]:
        at = header.index(name)
        return [row[at] for row in rows]

    def read(
        name: Any, class_names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        cells = np.array(column(name), object)
        # The longest of them has four letters: most aren't worth a look.
        missing = np.array(
            [
                len(c) < 5 and c.lower() in _MISSING and c not in class_names
                for c in cells
            ]
        )
        found = _typed(cells[~missing].tolist(), decimal, class_names)
        values = np.zeros(len(cells), found.dtype)
        values[~missing] = found
        if found.dtype.kind == "O" and decimal == ".":
            _check_commas(values, path, name, lines)
        return values, missing

    return Table(
        str(path),
        header,
        len(rows),
        read,
        lambda name: np.array(column(name), object),
        place=lambda row: f" in line {lines[row]}",
    )


def read_csv(
    path: Any, roles: Roles, delimiter: str, decimal: str
) -> tuple[ClientColumns, tuple[str, ...] | None]:
    """See `FederatedDataset.from_csv`."""
    if decimal not in (".", ",") or decimal == delimiter:
        raise ValueError(
            f"decimal is {decimal!r} and delimiter {delimiter!r}. Expected "
            "'.' or ',' for decimal, and another character for delimiter, "
            "often ';'."
        )
    ids: tuple[str, ...] = ()
    if isinstance(path, (str, os.PathLike)):
        paths = [path]
    elif isinstance(path, Mapping):
        ids = table_ids(path, roles.client, "files")
        paths = list(path.values())
    else:
        paths = list(path)
        if not paths:
            raise ValueError("Got no files. Expected at least one.")
        if roles.client is None:
            ids = tuple(Path(each).stem for each in paths)
            if len(set(ids)) != len(ids):
                raise ValueError(
                    f"Two of the files have one name: {sorted(ids)}. Expected "
                    "one a client; pass a dict from client id to file."
                )
    tables = [_table(each, delimiter, decimal) for each in paths]
    return read_tables(tables, ids, roles)
