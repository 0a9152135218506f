"""CSV files, read with the standard library."""

import csv
import os
from collections.abc import Iterable

import numpy as np

from fedlearn.data.formats.dataframe import choose_columns
from fedlearn.data.formats.format_error import FormatError

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


class _TextCellError(ValueError):
    """A cell that is no number."""


def _number(cell: str) -> float:
    # Python reads 1_000 as a number; no program writes it into a CSV.
    if "_" in cell:
        raise ValueError
    return float(cell)


def _numbers(cells: list[str], lines: list[int]) -> np.ndarray:
    """A column as `int64` if all cells are integers, or else `float64`."""
    try:
        if not any("_" in cell for cell in cells):
            return np.array([int(cell) for cell in cells], np.int64)
    except (ValueError, OverflowError):
        pass
    values = np.empty(len(cells))
    for k, cell in enumerate(cells):
        try:
            values[k] = _number(cell)
        except ValueError:
            raise _TextCellError(f"{cell!r} in line {lines[k]}") from None
    return values


def read_csv(
    path: str | os.PathLike[str],
    client: str,
    label: str,
    features: Iterable[str] | None,
    delimiter: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`x`, `y` and client ids; see `FederatedDataset.from_csv`."""
    header, rows, lines = read_cells(path, delimiter)
    chosen = choose_columns(header, client, label, features, str(path))
    numbers: dict[str, np.ndarray] = {}
    gaps: list[str] = []
    text: list[str] = []
    for name in [client, *chosen, label]:
        at = header.index(name)
        cells = [row[at].strip() for row in rows]
        empty = [k for k, c in enumerate(cells) if c.lower() in _MISSING]
        if name == client:
            # An id may well be "na"; only no id at all is a gap.
            empty = [k for k, c in enumerate(cells) if not c]
            ids = cells
        if empty:
            gaps.append(
                f"{name!r} ({len(empty):,}, first in line {lines[empty[0]]})"
            )
        elif name != client:
            try:
                numbers[name] = _numbers(cells, lines)
            except _TextCellError as error:
                text.append(f"{name!r} ({error})")
                if name == label:
                    raise ValueError(
                        f"{path}: column {name!r} (label) holds text: "
                        f"{error}. Expected numbers; map labels to integers "
                        "first."
                    ) from None
    if text:
        raise ValueError(
            f"{path}: columns with text: {', '.join(text)}. Expected numbers "
            "in every feature; leave these out with features=[...], or "
            "encode them as numbers first."
        )
    if gaps:
        raise ValueError(
            f"{path}: columns with missing values: {', '.join(gaps)}. "
            "Expected none; fill them, drop the rows, or leave the columns "
            "out with features=[...]."
        )
    x = np.stack([numbers[n].astype(np.float32) for n in chosen], axis=1)
    y = numbers[label]
    if y.dtype.kind == "f":
        y = y.astype(np.float32)
    # Objects, so that NumPy does not pad every id to the longest one.
    return x, y, np.array(ids, object)
