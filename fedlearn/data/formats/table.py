"""Tables, of files and of data frames, as clients' examples.

A reader makes columns of cells; here they become `x`, `y` and clients. Tables
of several clients are put together by the names of their columns.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fedlearn.data import exact
from fedlearn.data.class_names import (
    check_class_names,
    listed,
    number_classes,
)
from fedlearn.data.client_id import client_of_rows

Name = Hashable

_FILLS: Mapping[str, Callable[[np.ndarray], Any]] = {
    "zero": lambda values: values.dtype.type(0),
    "mean": np.mean,
    "median": np.median,
}


@dataclasses.dataclass(frozen=True)
class Cells:
    """A column of a table.

    Attributes:
        values: `(rows,)`: numbers, or objects where there are others too.
        missing: `(rows,)` booleans: where there is no value, whatever
            `values` has there.
        odd: The row of the first value that is no number; None if all are.
        is_text: Whether all values are texts, and none is like a number.
        categories: Names of classes, if the column says what may be in it.
    """

    values: np.ndarray
    missing: np.ndarray
    odd: int | None = None
    is_text: bool = False
    categories: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns by name.

    Attributes:
        name: For messages: "The data frame", or the path of a file.
        columns: In order.
        num_rows: How many rows there are.
        read: From the name of a column, and the names of classes that are
            texts in it, to its cells.
        ids: From the name of a column to client ids, as they are.
        place: Says where a row is: " in line 3", or "".
    """

    name: str
    columns: Sequence[Name]
    num_rows: int
    read: Callable[..., Cells]
    ids: Callable[[Name], np.ndarray]
    place: Callable[[int], str] = lambda row: ""


@dataclasses.dataclass(frozen=True)
class Roles:
    """What the columns are for, and what is done with gaps.

    Attributes:
        client: Column of client ids; None where a table is of one client.
        label: Column of labels.
        features: Columns of `x`; or a dict of them, for several inputs; None
            for all others.
        missing: "error", or how gaps are filled; or a dict from columns to
            that, or to the numbers that fill them.
        class_names: Of the classes, in order; None for those that appear.
    """

    client: Name | None
    label: Name
    features: Iterable[Name] | Mapping[str, Iterable[Name]] | None = None
    missing: str | Mapping[Name, Any] = "error"
    class_names: Sequence[str] | None = None

    def fill_of(self, name: Name) -> Any:
        """How gaps of a column are filled; None if they are an error."""
        if isinstance(self.missing, Mapping):
            return self.missing.get(name)
        return None if self.missing == "error" else self.missing

    def is_flagged(self, name: Name, cells: Cells) -> bool:
        """Whether there is a column that says where this one was filled."""
        # Of columns that are named, always: in other data sets too.
        named = isinstance(self.missing, Mapping) and name in self.missing
        return named or bool(cells.missing.any())


@dataclasses.dataclass(frozen=True)
class Examples:
    """What tables come to.

    Attributes:
        x: `(examples, features)`, or a dict of such.
        y: `(examples,)`.
        client_ids: The clients.
        codes: `(examples,)` integers: the index of each one's client.
        class_names: Of the labels, where they were texts.
    """

    x: Any
    y: np.ndarray
    client_ids: tuple[str, ...]
    codes: np.ndarray
    class_names: tuple[str, ...] | None


def examples_of(tables: Sequence[Table], owners: Sequence[str], roles: Roles):
    """Makes examples of tables.

    Args:
        tables: One; or one a client.
        owners: The client of each, where `roles.client` is None.
        roles: What the columns are for.

    Raises:
        ValueError: If columns are missing, hold no numbers, or have gaps.
        TypeError: If an argument is of the wrong type.
    """
    _check_fills(roles.missing)
    for table in tables:
        _check_names(table, roles)
    groups = _groups(tables, roles)
    names = [name for group in groups.values() for name in group]
    for name in roles.missing if isinstance(roles.missing, Mapping) else ():
        if name not in names:
            raise ValueError(
                f"missing has column {name!r}, which isn't among the features: "
                f"{listed(names)}."
            )
    columns = {n: _join_cells(tables, n) for n in names}
    classes = check_class_names(roles.class_names) or ()
    columns[roles.label] = _join_cells(tables, roles.label, classes)
    _check_numbers(tables, names, columns)
    if columns[roles.label].odd is not None:
        _check_classes(tables, roles, columns[roles.label])
    _check_gaps(tables, names, columns, roles)
    total = sum(table.num_rows for table in tables)
    if not total:
        raise ValueError(f"{tables[0].name} has no rows. Expected some.")
    if roles.client is None:
        client_ids: tuple[str, ...] = tuple(owners)
        codes = np.repeat(
            np.arange(len(tables)), [table.num_rows for table in tables]
        )
    else:
        client_ids, codes = _clients(tables, roles.client)
    x = {
        key: _matrix({n: columns[n] for n in group}, roles)
        for key, group in groups.items()
    }
    y, class_names = _labels(columns[roles.label], roles)
    return Examples(
        x if isinstance(roles.features, Mapping) else x[""],
        y,
        client_ids,
        codes,
        class_names,
    )


def _check_fills(missing: Any) -> None:
    fills = missing.values() if isinstance(missing, Mapping) else [missing]
    allowed = _FILLS if isinstance(missing, Mapping) else ("error", *_FILLS)
    for fill in fills:
        is_number = isinstance(fill, numbers.Real) and math.isfinite(fill)
        if isinstance(missing, Mapping) and is_number:
            continue
        if not isinstance(fill, str) or fill not in allowed:
            raise ValueError(
                f"missing is {missing!r}. Expected 'error', or how to fill "
                f"gaps: {', '.join(map(repr, _FILLS))}; or a dict from columns "
                "to one of these or to a number."
            )


def _check_names(table: Table, roles: Roles) -> None:
    columns = list(table.columns)
    if len(set(columns)) != len(columns):
        twice = [n for n in dict.fromkeys(columns) if columns.count(n) > 1]
        raise ValueError(
            f"{table.name}: {listed(twice)} appears more than once among the "
            "columns. Rename one of them."
        )
    for role, name in (("client", roles.client), ("label", roles.label)):
        if name is None and role == "label":
            raise TypeError(
                "label is missing. Expected the name of the column of labels."
            )
        if name is not None and name not in columns:
            raise ValueError(
                f"{table.name} has no column {name!r} ({role}). It has "
                f"{', '.join(map(repr, columns))}."
            )
    if roles.client == roles.label:
        raise ValueError(
            f"client and label are the same column, {roles.label!r}. Expected "
            "two different ones."
        )


def _groups(tables: Sequence[Table], roles: Roles) -> dict[str, list[Name]]:
    """The columns of each part of `x`; of the only part under ""."""
    features = roles.features
    if isinstance(features, str) or (
        isinstance(features, Mapping)
        and any(isinstance(part, str) for part in features.values())
    ):
        shown = features if isinstance(features, str) else dict(features)
        raise TypeError(
            f"features is {shown!r}. Expected a list of columns, as in "
            f"features={[_first_text(features)]!r}, or a dict of lists, as in "
            "features={'body': ['age', 'weight'], 'ids': ['shop']}."
        )
    roles_of = {roles.client: "client", roles.label: "label"}
    if features is None:
        groups = {"": _other_columns(tables, set(roles_of))}
        _check_no_index(tables, groups[""])
    elif isinstance(features, Mapping):
        groups = {str(key): list(part) for key, part in features.items()}
    else:
        groups = {"": list(features)}
    for group in groups.values() or [[]]:
        if not group:
            raise ValueError(
                f"{tables[0].name} has no feature columns. Expected at least "
                "one column other than client and label."
            )
        for name in group:
            if name in roles_of and name is not None:
                raise ValueError(
                    f"Column {name!r} is among the features and is also the "
                    f"{roles_of[name]} column. Leave it out of features."
                )
        if len(set(group)) != len(group):
            raise ValueError(f"features names a column twice: {group}.")
    wanted = {name for group in groups.values() for name in group}
    has_any = {name for table in tables for name in table.columns}
    for name in wanted:
        if name not in has_any:
            raise ValueError(
                f"{tables[0].name} has no column {name!r} (features). It has "
                f"{', '.join(map(repr, tables[0].columns))}."
            )
    lacking = {
        table.name: [
            n
            for n in wanted
            if n not in table.columns and roles.fill_of(n) is None
        ]
        for table in tables
    }
    if any(lacking.values()):
        raise _differing(tables, lacking, features is None)
    _check_spelling(tables, wanted)
    return groups


def _first_text(features: Any) -> str:
    parts = [features] if isinstance(features, str) else features.values()
    return next(part for part in parts if isinstance(part, str))


def _other_columns(
    tables: Sequence[Table], used: set[Name | None]
) -> list[Name]:
    """All columns of any table, in the order in which they appear."""
    every = dict.fromkeys(name for table in tables for name in table.columns)
    return [name for name in every if name not in used]


def _check_no_index(tables: Sequence[Table], names: list[Name]) -> None:
    """Raises for the numbers of rows that pandas writes into files.

    Rows are often sorted by their label, which such a feature would tell.
    """
    for name in names:
        if name == "" or str(name).startswith("Unnamed: "):
            raise ValueError(
                f"{tables[0].name}: column {names.index(name) + 1} of the "
                f"features has no name ({name!r}). If it is the index of a "
                "data frame, write the file with index=False, or choose "
                "columns with features=[...]; else give it a name."
            )


def _check_spelling(tables: Sequence[Table], wanted: Iterable[Name]) -> None:
    """Raises for columns that seem the same, of different tables.

    With gaps filled, each of two sites would have a column that is empty at
    the other.
    """
    seen: dict[str, Name] = {}
    for name in sorted(wanted, key=str):
        plain = "".join(filter(str.isalnum, str(name).casefold()))
        other = seen.setdefault(plain, name)
        if other != name and not any(
            name in table.columns and other in table.columns for table in tables
        ):
            raise ValueError(
                f"No table has both of the columns {other!r} and {name!r}, "
                "which seem to be the same. Give them one name; if they "
                "differ in meaning, names that differ in more than the case "
                "of letters and marks."
            )


def _differing(
    tables: Sequence[Table], lacking: Mapping[str, list[Name]], every: bool
) -> ValueError:
    lines = []
    for table in tables:
        names = lacking[table.name]
        if names:
            ordered = sorted(names, key=str)
            lines.append(f"{table.name} has no {listed(ordered)}")
    shown = "; ".join(lines[:5])
    if len(lines) > 5:
        shown += f"; and {len(lines) - 5:,} more"
    only = " Name those that all have with features=[...]," if every else ""
    return ValueError(
        f"The tables differ in their columns: {shown}. Expected the same names "
        f"everywhere, in any order.{only or ' Correct the names,'} rename "
        "columns that mean the same, or fill what is missing with "
        "missing='mean' (or 'median', 'zero'), which adds a column that says "
        "where."
    )


def _join_cells(
    tables: Sequence[Table], name: Name, classes: Sequence[str] = ()
) -> Cells:
    """A column of all tables; missing where a table has no such column."""
    read = [
        table.read(name, classes) if name in table.columns else None
        for table in tables
    ]
    if len(read) == 1 and read[0] is not None:
        return read[0]
    there = [cells for cells in read if cells is not None]
    missing = np.concatenate(
        [
            np.ones(table.num_rows, bool) if cells is None else cells.missing
            for table, cells in zip(tables, read, strict=True)
        ]
    )
    # A column without any values says nothing of its kind.
    known = [c for c in there if not c.missing.all()] or there
    orders = {cells.categories for cells in known}
    categories = orders.pop() if len(orders) == 1 else None
    numbers = None
    if all(cells.odd is None for cells in known):
        numbers = exact.join([cells.values for cells in known])
        if numbers is None:
            raise ValueError(
                f"Column {name!r} holds integers beyond 2**53 in one table "
                "and fractions, or integers of another range, in another; no "
                "dtype holds both. Make them integers everywhere, or divide "
                "them."
            )
    dtype = np.dtype(object) if numbers is None else numbers.dtype
    values = np.zeros(len(missing), dtype)
    odd = None
    start = 0
    for table, cells in zip(tables, read, strict=True):
        stop = start + table.num_rows
        if cells is not None and any(cells is c for c in known):
            values[start:stop] = cells.values
            if cells.odd is not None and odd is None:
                odd = start + cells.odd
        start = stop
    return Cells(
        values,
        missing,
        odd,
        all(cells.is_text for cells in known),
        categories,
    )


def _where(tables: Sequence[Table], row: int) -> str:
    """The table, where there are several, and the place of a row in it."""
    for table in tables:
        if row < table.num_rows:
            place = table.place(row)
            return f"{place} of {table.name}" if len(tables) > 1 else place
        row -= table.num_rows
    raise IndexError(row)


def _all_names(tables: Sequence[Table]) -> str:
    return tables[0].name if len(tables) == 1 else "The tables"


def _shown(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)


def _check_numbers(
    tables: Sequence[Table], names: list[Name], columns: Mapping[Name, Cells]
) -> None:
    found = []
    times = False
    for name in names:
        cells = columns[name]
        if cells.odd is not None:
            value = cells.values[cells.odd]
            times |= hasattr(value, "isoformat") or isinstance(
                value, (np.datetime64, np.timedelta64)
            )
            shown = f"{_shown(value)}{_where(tables, cells.odd)}"
            found.append(f"{name!r} ({shown})")
    if found:
        raise ValueError(
            f"{_all_names(tables)}: columns that hold no numbers: "
            f"{', '.join(found)}. Expected numbers in every feature; leave "
            "these out with features=[...], or encode them first, as with "
            "pandas.get_dummies"
            + (
                "; of times take the seconds since the first, as with "
                "(t - t.min()).dt.total_seconds()."
                if times
                else "."
            )
        )


def _check_classes(tables: Sequence[Table], roles: Roles, cells: Cells) -> None:
    assert cells.odd is not None
    if cells.is_text:
        return
    if roles.class_names is not None and all(
        isinstance(v, (str, bytes)) for v in cells.values[~cells.missing]
    ):
        return  # numbers may be names, if the user says so
    raise ValueError(
        f"{_all_names(tables)}: column {roles.label!r} (label) holds "
        f"{_shown(cells.values[cells.odd])}{_where(tables, cells.odd)}, beside "
        "numbers or values of other kinds. Expected numbers, or texts that "
        "name classes; correct it, or say what may be there with "
        "class_names=[...]."
    )


def _check_gaps(
    tables: Sequence[Table],
    names: list[Name],
    columns: Mapping[Name, Cells],
    roles: Roles,
) -> None:
    asked = [name for name in names if roles.fill_of(name) is None]
    found = []
    for name in [*dict.fromkeys(asked), roles.label]:
        gaps = np.flatnonzero(columns[name].missing)
        if len(gaps):
            place = _where(tables, int(gaps[0]))
            first = f", first{place}" if place else ""
            found.append(f"{name!r} ({len(gaps):,}{first})")
    if not found:
        return
    raise ValueError(
        f"{_all_names(tables)}: columns with missing values: "
        f"{', '.join(found)}. Expected none; fill those of features with "
        "missing='mean' (or 'median', 'zero'), or with pandas (df.fillna), "
        "drop the rows (df.dropna), or leave the columns out with "
        "features=[...]."
    )


def _clients(
    tables: Sequence[Table], client: Name
) -> tuple[tuple[str, ...], np.ndarray]:
    parts = [table.ids(client) for table in tables]
    ids = parts[0]
    if len(parts) > 1:
        ids = np.empty(sum(map(len, parts)), object)
        ids[:] = [i for part in parts for i in part]
    return client_of_rows(ids)


def _filled(name: Name, cells: Cells, known: np.ndarray, how: Any) -> Any:
    """A column without gaps, in a dtype that holds it and what fills it."""
    if not isinstance(how, str):
        fill = how
    elif len(known):
        fill = _FILLS[how](known)
    else:
        raise ValueError(
            f"Column {name!r} has no values at all. Leave it out with "
            "features=[...]."
        )
    whole = known.dtype.kind in "biu" and float(fill).is_integer()
    joined = exact.join([known, np.asarray([int(fill) if whole else fill])])
    values = cells.values.astype(float if joined is None else joined.dtype)
    values[cells.missing] = fill
    return values


def _matrix(columns: Mapping[Name, Cells], roles: Roles) -> np.ndarray:
    """`(examples, features)`: `float32`, or integers if all are."""
    values = []
    inexact: dict[Name, str] = {}
    for name, cells in columns.items():
        known = cells.values[~cells.missing]
        changed = exact.changed_by_float32(known)
        if changed is not None:
            inexact[name] = _shown(known[changed][0])
        filled = cells.values
        if cells.missing.any():
            filled = _filled(name, cells, known, roles.fill_of(name))
        values.append(filled)
    # After all features, so that those stay where they are.
    values += [
        c.missing for name, c in columns.items() if roles.is_flagged(name, c)
    ]
    if not inexact:
        return np.stack([v.astype(np.float32) for v in values], axis=1)
    if all(v.dtype.kind in "biu" for v in values):
        whole = exact.join(values)
        if whole is not None:
            return whole.reshape(len(values), -1).T.copy()
    shown = ", ".join(f"{n!r} (such as {v})" for n, v in inexact.items())
    others = [n for n in columns if n not in inexact]
    raise ValueError(
        f"Columns with numbers that float32 would change: {shown}. Whole "
        "numbers are exact in it up to 16,777,216. Ids, for an Embedding, can "
        "be an input of their own, as int64: features={'ids': "
        f"{list(inexact)[:3]!r}, 'numbers': {others[:3]!r}}}. Of time stamps "
        "subtract the first; divide amounts by a thousand or a million; or "
        "leave the columns out with features=[...]."
    )


def _labels(
    cells: Cells, roles: Roles
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    names = check_class_names(roles.class_names)
    y = cells.values
    if cells.odd is not None or names is not None:
        who = f"Column {roles.label!r} (label)"
        (y,), names = number_classes([y], [who], names or cells.categories)
        return y, names
    if y.dtype.kind in "biu":
        if y.size and int(y.max()) > np.iinfo(np.int64).max:
            raise ValueError(
                f"Column {roles.label!r} (label) holds {int(y.max())}, which "
                "int64 can't. Expected classes, or numbers of moderate size."
            )
        return y.astype(np.int64), None
    changed = exact.changed_by_float32(y)
    if changed is not None:
        raise ValueError(
            f"Column {roles.label!r} (label) holds numbers that float32 would "
            f"change, such as {_shown(y[changed][0])}. Subtract the smallest "
            "or divide by a thousand or a million, and undo that in what the "
            "model predicts."
        )
    return y.astype(np.float32), None
