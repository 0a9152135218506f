"""Client ids: always `str`, whatever the user's column or dict holds."""

import datetime
import decimal
import difflib
import numbers
import uuid
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

import numpy as np

from fedlearn.data.exact import is_number


def as_client_id(value: Any) -> str:
    """The id as a string: `"a"`, `3` and `3.0` give `"a"`, `"3"` and `"3"`.

    A column of integers turns into floats in many tools on its way, so a
    float without a fraction counts as that integer. A UUID is written with
    its hyphens; a date or time stamp as in ISO 8601, with as few parts as
    tell it: midnight is the date alone.
    """
    if isinstance(value, str):  # first: most are
        text = str(value)
    elif is_missing(value):
        name = "NaN" if isinstance(value, numbers.Number) else value
        raise ValueError(
            f"A client id is missing ({name}). Expected an id for every "
            "example; drop those rows or give them an id first."
        )
    elif isinstance(value, bytes):
        text = value.decode("utf-8")
    elif is_number(value):
        text = str(int(value)) if value % 1 == 0 else str(value)
    elif isinstance(value, uuid.UUID):
        text = str(value)
    elif isinstance(value, datetime.date | np.datetime64):
        text = _time(value)
    else:
        raise TypeError(
            f"A client id is of type {type(value).__name__}: {value!r}. "
            "Expected a string, an integer, a UUID or a time stamp."
        )
    if not text:
        raise ValueError("A client id is the empty string.")
    return text


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: `None`, NaN, NaT, pandas's NA."""
    # pandas has its own NA and NaT, which do not compare.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, (float, np.floating)):
        return bool(np.isnan(value))
    if isinstance(value, decimal.Decimal):
        return value.is_nan()
    return isinstance(value, (np.datetime64, np.timedelta64)) and bool(
        np.isnat(value)
    )


def _time(value: Any) -> str:
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.isoformat()
    if not isinstance(value, np.datetime64):
        # By its text, which has the nanoseconds of a pandas.Timestamp.
        value = np.datetime64(value.isoformat())
    # What a data frame holds in nanoseconds, and a list as dates, are the
    # same ids.
    return str(np.datetime_as_string(value, unit="auto"))


def as_client_ids(values: Iterable[Any]) -> tuple[str, ...]:
    """Many ids, in order; an error where two are the same string."""
    if isinstance(values, (str, bytes)):
        raise TypeError(
            f"Expected a sequence of client ids, but got the single id "
            f"{values!r}. Pass [{values!r}] to name one client."
        )
    seen: dict[str, Any] = {}
    for value in values:
        client_id = as_client_id(value)
        if client_id not in seen:
            seen[client_id] = value
            continue
        other = seen[client_id]
        twice = f"Client id {client_id!r} appears more than once"
        if type(other) is type(value) and other == value:
            raise ValueError(f"{twice}. Expected every client at most once.")
        raise ValueError(
            f"{twice}: as {other!r} ({type(other).__name__}) and as {value!r} "
            f"({type(value).__name__}). Ids are kept as strings: give one of "
            "them another, or make all ids strings first."
        )
    return tuple(seen)


def ids_array(ids: Any) -> np.ndarray:
    """Ids as given, of which NumPy makes two equal texts of `[1, "1"]`."""
    if isinstance(ids, np.ndarray):
        return ids
    if hasattr(ids, "to_numpy"):
        return np.asarray(ids.to_numpy())
    if not isinstance(ids, (list, tuple)):
        return np.asarray(ids)
    return np.fromiter(ids, object, len(ids))


def client_of_rows(ids: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """The clients, sorted as strings, and which of them has each row.

    >>> client_of_rows(np.array([10, 9, 10]))
    (('10', '9'), array([0, 1, 0]))
    """
    # tolist() makes integers of time stamps that have nanoseconds, and other
    # digits of float32.
    values = list(ids) if ids.dtype.kind in "fM" else ids.tolist()
    seen: dict[Any, int] = {}
    try:
        found = (seen.setdefault(value, len(seen)) for value in values)
        codes = np.fromiter(found, np.int64, len(ids))
    except TypeError:  # not hashable, so no id either
        as_client_ids(values)
        raise
    names = as_client_ids(seen)
    # 10 sorts after 2, but "10" before "2".
    client_ids = tuple(sorted(names))
    index = {name: k for k, name in enumerate(client_ids)}
    rank = np.array([index[name] for name in names])
    return client_ids, rank[codes]


def unknown_client(client_id: Any, known: Collection[str]) -> KeyError:
    """The error for an id that is not in the data set, with a near match."""
    message = (
        f"No client {client_id!r} in this data set of {len(known):,} clients."
    )
    if not isinstance(client_id, str):
        message += f" Ids are strings, not {type(client_id).__name__}."
    # difflib compares some 10,000 ids a second.
    near = [*islice(known, 2000)]
    match = difflib.get_close_matches(str(client_id), near, n=1)
    if match:
        message += f" Did you mean {match[0]!r}?"
    elif near:
        message += f" The first is {near[0]!r}."
    return KeyError(message)
