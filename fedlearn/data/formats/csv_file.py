"""CSV files, read with the standard library.

Not with pandas, which fills rows that are cut short, rounds integers that
stand beside fractions, and can't say in which line a value was.
"""

import contextlib
import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedlearn.data.formats.dataframe import (
    Roles,
    Table,
    read_tables,
    table_ids,
)
from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.sources import ClientColumns

# What other programs write for "no value".
_MISSING = frozenset(["", "na", "n/a", "nan", "null", "none", "?"])
_BOOLEANS = {"true": True, "false": False}


def table(path: str | os.PathLike[str], delimiter: str) -> Table:
    """The cells of a file, without blanks around them."""
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
    header, *rows = rows

    def read(name: Any) -> np.ndarray:
        at = header.index(name)
        return np.array([row[at] for row in rows], object)

    return Table(str(path), header, read, lines[1:])


def _number(cell: str, decimal: str) -> int | float | str:
    """A cell as a number, or as it is."""
    # Python reads 1_000 as a number; no program writes it into a CSV.
    if "_" in cell or (decimal == "," and "." in cell):
        return cell
    with contextlib.suppress(ValueError):
        return int(cell)
    with contextlib.suppress(ValueError):
        number = float(cell.replace(decimal, "."))
        # Neither 1e400 nor -nan, which isn't among the missing.
        if math.isfinite(number) or "inf" in cell.lower():
            return number
    return cell


def _plain(cells: list[str], decimal: str) -> np.ndarray | None:
    """Numbers, quickly; None where a cell is none, or may be changed."""
    text = "".join(cells)
    if "_" in text or (decimal == "," and "." in text):
        return None
    if decimal == "," and "," in text:
        cells = [cell.replace(",", ".") for cell in cells]
    for dtype in (np.int64, np.float64):
        with contextlib.suppress(ValueError, OverflowError):
            numbers = np.array(cells, object).astype(dtype)
            # Among floats, integers of more digits may be changed.
            if (np.abs(numbers) < 1 << 53).all():
                return numbers
    return None


def _numbers(
    who: str, cells: np.ndarray, class_names: Sequence[str], decimal: str
) -> np.ndarray:
    """What cells say: integers or floats if all are, or objects."""
    # The longest word for none has four letters: most aren't worth a look.
    missing = np.array(
        [
            c is None
            or (len(c) < 5 and c.lower() in _MISSING and c not in class_names)
            for c in cells.tolist()
        ],
        bool,
    )
    known = cells[~missing].tolist()
    distinct = set(known)
    found: list[Any] = []
    # Names of classes are texts, whatever they look like.
    if class_names and distinct <= set(class_names):
        found = known
    elif {cell.lower() for cell in distinct} <= _BOOLEANS.keys():
        found = [_BOOLEANS[cell.lower()] for cell in known]
    elif (plain := _plain(known, decimal)) is not None:
        if len(known) == len(cells):
            return plain
        found = plain.tolist()
    else:
        numbers = {cell: _number(cell, decimal) for cell in distinct}
        found = [numbers[cell] for cell in known]
    texts = {cell for cell in found if isinstance(cell, str)}
    for cell in texts - {*class_names} if decimal == "." else ():
        if not isinstance(_number(cell.replace(",", ""), "."), str):
            raise ValueError(
                f"{who} holds {cell!r}. If the comma begins a fraction, pass "
                "decimal=','; if it stands between thousands, write numbers "
                "without it."
            )
    out = np.full(len(cells), None, object)
    out[~missing] = known if texts and class_names else found
    return out


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

    def convert(
        name: Any, cells: np.ndarray, class_names: Sequence[str]
    ) -> np.ndarray:
        who = str(paths[0]) if len(paths) == 1 else "The files"
        return _numbers(f"{who}: column {name!r}", cells, class_names, decimal)

    tables = [table(each, delimiter) for each in paths]
    return read_tables(tables, ids, roles, convert)
