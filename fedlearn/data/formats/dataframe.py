"""Tables, of data frames and of files, as clients' examples.

Columns become `x`, `y` and clients. Tables of several clients are put
together by the names of their columns.
"""

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fedlearn.data import element as el
from fedlearn.data import exact
from fedlearn.data.class_names import (
    categories_of,
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
        columns: Their names, in order; one may be there twice.
        read: From a column's name to what has `to_numpy`, or an array.
        lines: The line of each row, where there are lines.
    """

    name: str
    columns: Sequence[Name]
    read: Callable[[Name], Any]
    lines: Sequence[int] = ()

    @property
    def num_rows(self) -> int:
        if self.lines or not self.columns:
            return len(self.lines)
        return len(_array(self.read(self.columns[0])))


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
    """`(rows,)` numbers, or objects if row `odd` has none; and its gaps."""

    values: np.ndarray
    missing: np.ndarray
    odd: int | None = None

    @property
    def known(self) -> np.ndarray:
        return self.values[~self.missing]


# From a column's name and values, and the names of classes in it, to numbers
# where the values stand for some.
Convert = Callable[[Name, np.ndarray, Sequence[str]], np.ndarray]


def read_dataframe(
    df: Any, roles: Roles
) -> tuple[ClientColumns, tuple[str, ...] | None]:
    """See `FederatedDataset.from_dataframe`."""
    is_dict = isinstance(df, Mapping) and not hasattr(df, "columns")
    frames = df if is_dict else {None: df}
    for frame in frames.values():
        if not hasattr(frame, "columns"):
            raise TypeError(
                f"from_dataframe got a {type(frame).__name__}. Expected a "
                "data frame, such as pandas.DataFrame, or a dict of them by "
                "client."
            )
    tables = [
        Table(
            f"Client {str(i)!r}" if is_dict else "The data frame",
            list(frame.columns),
            frame.__getitem__,
        )
        for i, frame in frames.items()
    ]
    ids = table_ids(df, roles.client, "data frames") if is_dict else ()
    return read_tables(tables, ids, roles)


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


class _Joined:
    """Tables, one under the other; a row's number counts those of all."""

    def __init__(self, tables: Sequence[Table], convert: Convert) -> None:
        self.tables = tables
        self.convert = convert
        self.who = tables[0].name if len(tables) == 1 else "The tables"
        self.columns = list(dict.fromkeys(n for t in tables for n in t.columns))
        self.sizes = [table.num_rows for table in tables]

    def place(self, row: int) -> str:
        """Says where a row is: " in line 3", or ""."""
        ends = np.cumsum(self.sizes)
        k = int(np.searchsorted(ends, row, side="right"))
        table = self.tables[k]
        from_end = row - int(ends[k])
        where = f" in line {table.lines[from_end]}" if table.lines else ""
        return where + (f" of {table.name}" if len(ends) > 1 else "")

    def gaps(self, missing: np.ndarray) -> str:
        """How many rows are missing, and the first of them."""
        place = self.place(int(missing.argmax()))
        return f"{missing.sum():,}{', first' if place else ''}{place}"

    def values(self, name: Name) -> np.ndarray:
        """A column of all tables; None where a table lacks it."""
        parts = [
            _array(table.read(name))
            if name in table.columns
            else np.full(size, None)
            for table, size in zip(self.tables, self.sizes, strict=True)
        ]
        if len({part.dtype for part in parts}) > 1:
            # NumPy would make floats of integers, and texts of numbers.
            parts = [_objects(part) for part in parts]
        return np.concatenate(parts)

    def column(self, name: Name, class_names: Sequence[str] = ()) -> _Column:
        """A column, as numbers if all are."""
        values = self.convert(name, self.values(name), class_names)
        return _classified(f"{self.who}: column {name!r}", values)

    def class_names(self, name: Name) -> tuple[str, ...] | None:
        """The names of classes that a column says may be in it."""
        found = {categories_of(table.read(name)) for table in self.tables}
        return found.pop() if len(found) == 1 else None


def read_tables(
    tables: Sequence[Table],
    owners: Sequence[str],
    roles: Roles,
    convert: Convert = lambda name, values, class_names: values,
) -> tuple[ClientColumns, tuple[str, ...] | None]:
    """Clients' examples, and the names of classes if labels have some.

    `tables` is one; or one a client, whose ids are `owners`.
    """
    _check_fills(roles.missing)
    if roles.label is None or (roles.client is None and not owners):
        raise TypeError(
            "client or label is missing. Expected the columns of client ids "
            "and labels; or, without client, a dict from client id to data "
            "frame, or a list of files, one a client."
        )
    for each in tables:
        check_columns(each.name, each.columns, roles)
    table = _Joined(tables, convert)
    groups = feature_columns(table.who, table.columns, roles)
    names = [name for group in groups.values() for name in group]
    _check_spelling(tables, names)
    classes = check_class_names(roles.class_names)
    label = table.column(roles.label, classes or ())
    columns = {name: table.column(name) for name in names}
    _check_values(table, columns, label, roles)
    if not sum(table.sizes):
        raise ValueError(f"{table.who} has no rows. Expected some.")
    if roles.client is None:
        client_ids = tuple(owners)
        codes = np.repeat(np.arange(len(tables)), table.sizes)
    else:
        client_ids, codes = client_of_rows(_ids(table, roles.client))
    x = {
        key: _matrix({n: columns[n] for n in group}, roles)
        for key, group in groups.items()
    }
    if classes is None and label.odd is not None:
        classes = table.class_names(roles.label)
    y, class_names = _labels(roles.label, label, classes)
    element = (x if isinstance(roles.features, Mapping) else x[""], y)
    checked = el.as_element(element, table.who)
    return group_rows(checked, codes, client_ids), class_names


def _array(column: Any) -> np.ndarray:
    if isinstance(column, np.ndarray):
        return column
    values = np.asarray(column.to_numpy())
    kind = getattr(getattr(column, "dtype", None), "kind", "")
    if values.dtype.kind == "f" and kind in ("i", "u"):
        # pandas makes floats of integers with gaps.
        return np.asarray(column.to_numpy(dtype=object))
    return values


def _objects(values: np.ndarray) -> np.ndarray:
    # Time stamps stay what they are, which astype makes integers of.
    return np.fromiter(values, object, len(values))


def _classified(who: str, values: np.ndarray) -> _Column:
    if values.dtype.kind in "biuf":
        return _Column(values, np.isnan(values))
    values = _objects(values)
    missing = np.fromiter(map(is_missing, values), bool, len(values))
    at = np.flatnonzero(~missing)
    known = values[at].tolist()
    for row, value in zip(at.tolist(), known, strict=True):
        if not exact.is_number(value):
            return _Column(values, missing, row)
    found = exact.as_numbers(known)
    if found is None:
        raise ValueError(
            f"{who} holds {max(known, key=abs)}, which no dtype of NumPy "
            "holds beside the other values. Divide it, or leave the column "
            "out with features=[...]."
        )
    spread = np.zeros(len(values), found.dtype)
    spread[at] = found
    return _Column(spread, missing)


def _ids(table: _Joined, name: Name) -> np.ndarray:
    ids = table.values(name)
    missing = np.array([is_missing(i) or i == "" for i in ids.tolist()])
    if missing.any():
        raise ValueError(
            f"{table.who}: column {name!r} (client) has missing values "
            f"({table.gaps(missing)}). Expected an id in every row; drop those "
            f"rows first, as with df.dropna(subset=[{name!r}])."
        )
    return ids


def _check_fills(missing: Any) -> None:
    is_dict = isinstance(missing, Mapping)
    words = list(_FILLS) if is_dict else ["error", *_FILLS]
    for fill in missing.values() if is_dict else [missing]:
        is_number = is_dict and exact.is_number(fill) and math.isfinite(fill)
        if not is_number and fill not in words:
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
        column = getattr(roles, role)
        if column is not None and column not in columns:
            raise ValueError(
                f"{name} has no column {column!r} ({role}). It has "
                f"{', '.join(map(repr, columns))}."
            )


def feature_columns(
    name: str, columns: Sequence[Name], roles: Roles
) -> dict[str, list[Name]]:
    """The columns of each part of `x`; of the only part under ""."""
    features: Any = roles.features
    others = [n for n in columns if n not in (roles.client, roles.label)]
    if features is None:
        features = others
        # Rows are often sorted by their label, which an index would tell.
        if "" in others or any(str(n).startswith("Unnamed: ") for n in others):
            raise ValueError(
                f"{name}: a column has no name. If it is the index of a data "
                "frame, write the file with index=False, or choose columns "
                "with features=[...]; else give it a name."
            )
    groups = features if isinstance(features, Mapping) else {"": features}
    if texts := [part for part in groups.values() if isinstance(part, str)]:
        raise TypeError(
            f"features is {features!r}. Expected a list of columns, as in "
            f"features={texts[:1]!r}, or a dict of lists, as in "
            "features={'body': ['age', 'weight'], 'ids': ['shop']}."
        )
    chosen = {str(key): list(part) for key, part in groups.items()}
    for part in chosen.values():
        for column in part:
            if column not in others or part.count(column) > 1:
                raise ValueError(
                    f"{name}: features has {column!r}. Expected columns other "
                    f"than client and label, each once: {listed(others)}."
                )
    names = [column for part in chosen.values() for column in part]
    if not names:
        raise ValueError(
            f"{name} has no feature columns. Expected at least one "
            "column other than client and label."
        )
    for column in roles.missing if isinstance(roles.missing, Mapping) else ():
        if column not in names:
            raise ValueError(
                f"missing has column {column!r}, which isn't among the "
                f"features: {listed(names)}."
            )
    return chosen


def _check_spelling(tables: Sequence[Table], names: Sequence[Name]) -> None:
    """Raises for what would be two columns, each filled at another client."""
    seen: dict[str, Name] = {}
    for name in names:
        plain = "".join(filter(str.isalnum, str(name).casefold()))
        other = seen.setdefault(plain, name)
        both = any({name, other} <= {*table.columns} for table in tables)
        if name != other and not both:
            raise ValueError(
                f"No table has both of the columns {other!r} and {name!r}, "
                "which seem to be the same. Give them one name, or names that "
                "differ in more than the case of letters and marks."
            )


def _shown(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)


def _check_values(
    table: _Joined,
    columns: Mapping[Name, _Column],
    label: _Column,
    roles: Roles,
) -> None:
    """Raises for features that are no numbers, odd labels, and gaps."""
    odd = {
        name: f"{_shown(column.values[column.odd])}{table.place(column.odd)}"
        for name, column in {**columns, roles.label: label}.items()
        if column.odd is not None
    }
    held = odd.pop(roles.label, None)
    if odd:
        raise ValueError(
            f"{table.who}: columns that hold no numbers: "
            f"{', '.join(f'{name!r} ({what})' for name, what in odd.items())}. "
            "Expected numbers in every feature; leave these out with "
            "features=[...], or encode them first: texts as with "
            "pandas.get_dummies, times as seconds since the first, as with "
            "(t - t.min()).dt.total_seconds()."
        )
    if held and not all(isinstance(v, (str, bytes)) for v in label.known):
        raise ValueError(
            f"{table.who}: column {roles.label!r} (label) holds {held}, beside "
            "numbers or values of other kinds. Expected numbers, or texts that "
            "name classes; correct it, or say what may be there with "
            "class_names=[...]."
        )
    gaps = [
        f"{name!r} ({table.gaps(column.missing)})"
        for name, column in {**columns, roles.label: label}.items()
        if column.missing.any()
        and (name == roles.label or roles.fill_of(name) is None)
    ]
    if gaps:
        raise ValueError(
            f"{table.who}: columns with missing values: {', '.join(gaps)}. "
            "Expected none, and the same columns everywhere; fill features "
            "with missing='mean' (or 'median', 'zero'), or with pandas "
            "(df.fillna), drop the rows (df.dropna), or leave the columns out "
            "with features=[...]."
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
    return _classified(f"Column {name!r}", values).values


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
    name: Name, label: _Column, names: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    y = label.values
    who = f"Column {name!r} (label)"
    if label.odd is not None or names is not None:
        (y,), found = number_classes([y], [who], names)
        return y, found
    changed: np.ndarray | None
    if y.dtype.kind in "biu":
        narrow = y.astype(np.int64)
        changed = (narrow < 0) & (y > 0)
    else:
        with np.errstate(over="ignore"):
            narrow = y.astype(np.float32)
        changed = exact.changed_by_float32(y)
    if changed is not None and changed.any():
        raise ValueError(
            f"{who} holds numbers that {narrow.dtype} would change, such as "
            f"{_shown(y[changed][0])}. Subtract the smallest or divide by a "
            "thousand or a million, and undo that in what the model predicts."
        )
    return narrow, None
