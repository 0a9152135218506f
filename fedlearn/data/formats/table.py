"""Tables, of files and of data frames, as clients' examples.

A reader gives columns; here they become `x`, `y` and clients. Tables of
several clients are put together by the names of their columns.
"""

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fedlearn.data import element as el
from fedlearn.data import exact
from fedlearn.data.class_names import (
    check_class_names,
    listed,
    number_classes,
)
from fedlearn.data.client_id import as_client_ids, client_of_rows, is_missing
from fedlearn.data.sources import ClientColumns, group_rows

Name = Hashable

_FILLS: Mapping[str, Callable[[np.ndarray], Any]] = {
    "zero": lambda values: 0,
    "mean": np.mean,
    "median": np.median,
}


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns by name.

    Attributes:
        name: For messages: "The data frame", or the path of a file.
        columns: Their names, in order.
        num_rows: How many rows there are.
        read: From the name of a column, and the names of classes that may be
            in it, to its `(rows,)` values (numbers, or objects), and where
            they are missing.
        ids: From the name of a column to client ids, as they are.
        categories: From the name of a column to the names of classes that it
            says may be in it, if it does.
        place: Says where a row is: " in line 3", or "".
    """

    name: str
    columns: Sequence[Name]
    num_rows: int
    read: Callable[[Name, Sequence[str]], tuple[np.ndarray, np.ndarray]]
    ids: Callable[[Name], np.ndarray]
    categories: Callable[[Name], tuple[str, ...] | None] = lambda name: None
    place: Callable[[int], str] = lambda row: ""


@dataclasses.dataclass(frozen=True)
class Roles:
    """What the columns are for; see `FederatedDataset.from_dataframe`."""

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


@dataclasses.dataclass(frozen=True)
class _Column:
    """A column of all tables.

    Attributes:
        values: `(rows,)`: numbers, or objects where there are others too.
        missing: `(rows,)` booleans.
        odd: The row of the first value that is no number; None if all are.
    """

    values: np.ndarray
    missing: np.ndarray
    odd: int | None = None

    @property
    def known(self) -> np.ndarray:
        return self.values[~self.missing]


def table_ids(
    tables: Mapping[Any, Any], client: Any, what: str
) -> tuple[str, ...]:
    """The clients of a dict of tables, one each."""
    if client is not None:
        raise ValueError(
            f"client is {client!r}, but there is a dict of {what}, whose keys "
            "are the clients. Leave one of them out."
        )
    if not tables:
        raise ValueError(f"Got no {what}. Expected one for each client.")
    return as_client_ids(tables)


def read_tables(
    tables: Sequence[Table], owners: Sequence[str], roles: Roles
) -> tuple[ClientColumns, tuple[str, ...] | None]:
    """Clients' examples, and the names of classes if labels have some.

    `tables` is one; or one a client, whose ids are `owners`.
    """
    _check_fills(roles.missing)
    if roles.label is None:
        raise TypeError(
            "label is missing. Expected the name of the column of labels."
        )
    if roles.client is None and not owners:
        raise TypeError(
            "client is missing. Expected the name of the column of client "
            "ids; or a dict from client id to data frame, or a list of files, "
            "one a client."
        )
    for table in tables:
        check_columns(table.name, table.columns, roles)
    table = tables[0] if len(tables) == 1 else _joined(tables)
    groups = feature_columns(table.name, table.columns, roles)
    names = [name for group in groups.values() for name in group]
    if len(tables) > 1:
        _check_alike(tables, names, roles)
    columns = {name: _column(table, name) for name in names}
    classes = check_class_names(roles.class_names)
    label = _column(table, roles.label, classes or ())
    _check_numbers(table, columns)
    _check_classes(table, label, roles)
    _check_gaps(table, {**columns, roles.label: label}, roles)
    if not table.num_rows:
        raise ValueError(f"{table.name} has no rows. Expected some.")
    if roles.client is None:
        client_ids = tuple(owners)
        codes = np.repeat(np.arange(len(tables)), [t.num_rows for t in tables])
    else:
        client_ids, codes = client_of_rows(_ids(table, roles.client))
    x = {
        key: _matrix({n: columns[n] for n in group}, roles)
        for key, group in groups.items()
    }
    y, class_names = _labels(table, label, roles, classes)
    element = (x if isinstance(roles.features, Mapping) else x[""], y)
    checked = el.as_element(element, table.name)
    return group_rows(checked, codes, client_ids), class_names


def _ids(table: Table, name: Name) -> np.ndarray:
    ids = table.ids(name)
    gaps = [k for k, i in enumerate(ids.tolist()) if i == "" or is_missing(i)]
    if gaps:
        place = table.place(gaps[0])
        raise ValueError(
            f"{table.name}: column {name!r} (client) has {len(gaps):,} missing "
            f"values{', first' if place else ''}{place}. Expected an id in "
            "every row; drop those rows first, as with "
            f"df.dropna(subset=[{name!r}])."
        )
    return ids


def _joined(tables: Sequence[Table]) -> Table:
    """One table, whose values are missing where a table has no such column."""

    def read(
        name: Name, classes: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        parts = [
            table.read(name, classes)
            if name in table.columns
            else (np.full(table.num_rows, None), np.ones(table.num_rows, bool))
            for table in tables
        ]
        if len({values.dtype for values, _ in parts}) > 1:
            # NumPy would make floats of integers, and texts of numbers.
            parts = [(values.astype(object), gaps) for values, gaps in parts]
        values, missing = map(np.concatenate, zip(*parts, strict=True))
        return values, missing

    def categories(name: Name) -> tuple[str, ...] | None:
        found = {table.categories(name) for table in tables}
        return found.pop() if len(found) == 1 else None

    def place(row: int) -> str:
        for table in tables:
            if row < table.num_rows:
                break
            row -= table.num_rows
        return f"{table.place(row)} of {table.name}"

    return Table(
        "The tables",
        list(dict.fromkeys(n for table in tables for n in table.columns)),
        sum(table.num_rows for table in tables),
        read,
        lambda n: np.concatenate([t.ids(n).astype(object) for t in tables]),
        categories,
        place,
    )


def _check_fills(missing: Any) -> None:
    is_dict = isinstance(missing, Mapping)
    for fill in missing.values() if is_dict else [missing]:
        if is_dict and exact.is_number(fill) and math.isfinite(fill):
            continue
        if not isinstance(fill, str) or fill not in (
            _FILLS if is_dict else ("error", *_FILLS)
        ):
            raise ValueError(
                f"missing is {missing!r}. Expected 'error', or how to fill "
                f"gaps: {', '.join(map(repr, _FILLS))}; or a dict from columns "
                "to one of these or to a number."
            )


def check_columns(name: str, columns: Sequence[Name], roles: Roles) -> None:
    """Raises for columns that are there twice, or have no or two roles."""
    if twice := [n for n in dict.fromkeys(columns) if columns.count(n) > 1]:
        raise ValueError(
            f"{name}: {listed(twice)} appears more than once among the "
            "columns. Rename one of them."
        )
    if roles.client == roles.label:
        raise ValueError(
            f"client and label are the same column, {roles.label!r}. Expected "
            "two different ones."
        )
    for role in ("client", "label"):
        _check_column(name, columns, getattr(roles, role), role)


def _check_column(
    name: str, columns: Sequence[Name], column: Name | None, role: str
) -> None:
    if column is not None and column not in columns:
        raise ValueError(
            f"{name} has no column {column!r} ({role}). It has "
            f"{', '.join(map(repr, columns))}."
        )


def feature_columns(
    name: str, columns: Sequence[Name], roles: Roles
) -> dict[str, list[Name]]:
    """The columns of each part of `x`; of the only part under ""."""
    features = roles.features
    used = [n for n in (roles.client, roles.label) if n is not None]
    if features is None:
        features = [n for n in columns if n not in used]
        for place, column in enumerate(features, 1):
            # Rows are often sorted by their label, which such a feature
            # would tell.
            if column == "" or str(column).startswith("Unnamed: "):
                raise ValueError(
                    f"{name}: column {place} of the features has no "
                    f"name ({column!r}). If it is the index of a data frame, "
                    "write the file with index=False, or choose columns with "
                    "features=[...]; else give it a name."
                )
    groups: dict[Any, Any] = {"": features}
    if isinstance(features, Mapping):
        groups = dict(features)
    if texts := [part for part in groups.values() if isinstance(part, str)]:
        raise TypeError(
            f"features is {groups.get('', groups)!r}. Expected a "
            f"list of columns, as in features={texts[:1]!r}, or a dict of "
            "lists, as in features={'body': ['age', 'weight'], 'ids': "
            "['shop']}."
        )
    chosen = {str(key): list(part) for key, part in groups.items()}
    names = [column for part in chosen.values() for column in part]
    if not names:
        raise ValueError(
            f"{name} has no feature columns. Expected at least one "
            "column other than client and label."
        )
    for part in chosen.values():
        if len(set(part)) < len(part):
            raise ValueError(f"A column is named twice in features: {part}.")
    for column in names:
        if column in used:
            raise ValueError(
                f"Column {column!r} is among the features and is also the "
                "client or label column. Leave it out of features."
            )
        _check_column(name, columns, column, "features")
    for column in roles.missing if isinstance(roles.missing, Mapping) else ():
        if column not in names:
            raise ValueError(
                f"missing has column {column!r}, which isn't among the "
                f"features: {listed(names)}."
            )
    return chosen


def _check_alike(
    tables: Sequence[Table], names: list[Name], roles: Roles
) -> None:
    """Raises for columns that one table lacks, or seems to spell otherwise."""
    lacking = {}
    for table in tables:
        gone = [n for n in names if n not in table.columns]
        gone = [n for n in gone if roles.fill_of(n) is None]
        if gone:
            lacking[table.name] = listed(sorted(set(gone), key=str))
    if lacking:
        shown = [f"{table} has no {n}" for table, n in lacking.items()]
        raise ValueError(
            f"The tables differ in their columns: {'; '.join(shown[:5])}"
            f"{'; ...' if len(shown) > 5 else ''}. Expected the same names "
            "everywhere, in any order. Name those that all have with "
            "features=[...], rename columns that mean the same, or fill what "
            "is missing with missing='mean' (or 'median', 'zero'), which adds "
            "a column that says where."
        )
    # With gaps filled, each of two sites would have a column that is empty at
    # the other.
    seen: dict[str, Name] = {}
    for name in sorted(names, key=str):
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


def _column(table: Table, name: Name, classes: Sequence[str] = ()) -> _Column:
    values, missing = table.read(name, classes)
    return _classified(f"{table.name}: column {name!r}", values, missing)


def _classified(who: str, values: np.ndarray, missing: np.ndarray) -> _Column:
    if values.dtype.kind in "biuf":
        return _Column(values, missing)
    at = np.flatnonzero(~missing)
    present = values[at].tolist()
    odd = next((k for k, v in enumerate(present) if not exact.is_number(v)), -1)
    if odd >= 0:
        return _Column(values, missing, int(at[odd]))
    found = exact.as_numbers(present)
    if found is None:
        raise ValueError(
            f"{who} holds {max(present, key=abs)}, which no dtype of NumPy "
            "holds beside the other values. Divide it, or leave the column "
            "out with features=[...]."
        )
    spread = np.zeros(len(values), found.dtype)
    spread[at] = found
    return _Column(spread, missing)


def _shown(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)


def _check_numbers(table: Table, columns: Mapping[Name, _Column]) -> None:
    found = []
    times = ""
    for name, column in columns.items():
        if column.odd is not None:
            value = column.values[column.odd]
            if hasattr(value, "isoformat") or isinstance(
                value, (np.datetime64, np.timedelta64)
            ):
                times = (
                    "; of times take the seconds since the first, as with "
                    "(t - t.min()).dt.total_seconds()"
                )
            place = table.place(column.odd)
            found.append(f"{name!r} ({_shown(value)}{place})")
    if found:
        raise ValueError(
            f"{table.name}: columns that hold no numbers: "
            f"{', '.join(found)}. Expected numbers in every feature; leave "
            "these out with features=[...], or encode them first, as with "
            f"pandas.get_dummies{times}."
        )


def _check_classes(table: Table, label: _Column, roles: Roles) -> None:
    if label.odd is None or all(
        isinstance(v, (str, bytes)) for v in label.known
    ):
        return
    raise ValueError(
        f"{table.name}: column {roles.label!r} (label) holds "
        f"{_shown(label.values[label.odd])}{table.place(label.odd)}, "
        "beside numbers or values of other kinds. Expected numbers, or texts "
        "that name classes; correct it, or say what may be there with "
        "class_names=[...]."
    )


def _check_gaps(
    table: Table, columns: Mapping[Name, _Column], roles: Roles
) -> None:
    found = []
    for name, column in columns.items():
        gaps = np.flatnonzero(column.missing)
        is_filled = name != roles.label and roles.fill_of(name) is not None
        if len(gaps) and not is_filled:
            place = table.place(int(gaps[0]))
            first = f", first{place}" if place else ""
            found.append(f"{name!r} ({len(gaps):,}{first})")
    if found:
        raise ValueError(
            f"{table.name}: columns with missing values: "
            f"{', '.join(found)}. Expected none; fill those of features with "
            "missing='mean' (or 'median', 'zero'), or with pandas (df.fillna), "
            "drop the rows (df.dropna), or leave the columns out with "
            "features=[...]."
        )


def _filled(name: Name, column: _Column, how: Any) -> np.ndarray:
    """A column without gaps, in a dtype that holds it and what fills it."""
    if not column.missing.any():
        return column.values
    fill = how
    if isinstance(how, str):
        if not len(column.known):
            raise ValueError(
                f"Column {name!r} has no values at all. Leave it out with "
                "features=[...]."
            )
        fill = _FILLS[how](column.known)
    if column.values.dtype.kind in "biu" and float(fill).is_integer():
        fill = int(fill)
    values = column.values.astype(object)
    values[column.missing] = fill
    return _classified(str(name), values, np.zeros(len(values), bool)).values


def _matrix(columns: Mapping[Name, _Column], roles: Roles) -> np.ndarray:
    """`(examples, features)`: `float32`, or integers if all are."""
    values = [_filled(n, c, roles.fill_of(n)) for n, c in columns.items()]
    # After all features, so that those stay where they are. Of columns that
    # are named, always: in other data sets too.
    named = roles.missing if isinstance(roles.missing, Mapping) else ()
    values += [
        c.missing for n, c in columns.items() if n in named or c.missing.any()
    ]
    inexact: dict[Name, str] = {}
    for name, column in columns.items():
        changed = exact.changed_by_float32(column.known)
        if changed is not None:
            inexact[name] = _shown(column.known[changed][0])
    if not inexact:
        return np.stack([v.astype(np.float32) for v in values], axis=1)
    if all(v.dtype.kind in "biu" for v in values):
        objects = np.stack([v.astype(object) for v in values], axis=1)
        whole = exact.as_numbers(objects.ravel().tolist())
        if whole is not None and whole.dtype.kind in "iu":
            return whole.reshape(objects.shape)
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
    table: Table,
    label: _Column,
    roles: Roles,
    names: Sequence[str] | None,
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    y = label.values
    who = f"Column {roles.label!r} (label)"
    if label.odd is not None or names is not None:
        names = names or table.categories(roles.label)
        (y,), found = number_classes([y], [who], names)
        return y, found
    if y.dtype.kind in "biu":
        if y.size and int(y.max()) > np.iinfo(np.int64).max:
            raise ValueError(
                f"{who} holds {int(y.max())}, which int64 can't. Expected "
                "classes, or numbers of moderate size."
            )
        return y.astype(np.int64), None
    changed = exact.changed_by_float32(y)
    if changed is not None:
        raise ValueError(
            f"{who} holds numbers that float32 would change, such as "
            f"{_shown(y[changed][0])}. Subtract the smallest or divide by a "
            "thousand or a million, and undo that in what the model predicts."
        )
    return y.astype(np.float32), None
