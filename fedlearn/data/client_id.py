"""Client ids: always `str`, whatever the user's column or dict holds."""

import difflib
import math
import numbers
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any


def as_client_id(value: Any) -> str:
    """The id as a string: `"a"`, `3` and `3.0` give `"a"`, `"3"` and `"3"`.

    A column of integers turns into floats in many tools on its way, so a
    float without a fraction counts as that integer.

    Raises:
        ValueError: If the id is missing (`None`, NaN, an empty string).
        TypeError: If it is neither text nor a number.
    """
    if isinstance(value, str):
        text = str(value)
    elif isinstance(value, bytes):
        text = value.decode("utf-8")
    elif isinstance(value, numbers.Integral):
        text = str(int(value))
    elif isinstance(value, numbers.Real):
        number = float(value)
        if math.isnan(number):
            raise ValueError(
                "A client id is NaN (missing). Expected an id for every "
                "example; drop those rows or give them an id first."
            )
        text = str(int(number)) if number.is_integer() else str(number)
    elif value is None:
        raise ValueError("A client id is None. Expected a string.")
    else:
        raise TypeError(
            f"A client id is of type {type(value).__name__}: {value!r}. "
            "Expected a string or an integer."
        )
    if not text:
        raise ValueError("A client id is the empty string.")
    return text


def as_client_ids(values: Iterable[Any]) -> tuple[str, ...]:
    """Many ids, in order, each once.

    Raises:
        ValueError: If an id appears twice, naming the first that does.
        TypeError: If `values` is one string instead of a sequence of them.
    """
    if isinstance(values, (str, bytes)):
        raise TypeError(
            f"Expected a sequence of client ids, but got the single id "
            f"{values!r}. Pass [{values!r}] to name one client."
        )
    ids = tuple([as_client_id(value) for value in values])
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        for client_id in ids:
            if client_id in seen:
                raise ValueError(
                    f"Client id {client_id!r} appears more than once. "
                    "Expected every client at most once."
                )
            seen.add(client_id)
    return ids


def unknown_client(client_id: Any, known: Collection[str]) -> KeyError:
    """The error for an id that is not in the data set, with a near match."""
    message = f"No client {client_id!r} in this data set of {len(known):,}"
    message += " client." if len(known) == 1 else " clients."
    if not isinstance(client_id, str):
        message += (
            f" Client ids are strings, and this is of type "
            f"{type(client_id).__name__}."
        )
    text = str(client_id)
    # difflib compares some 10,000 ids a second, so a large data set is
    # searched only among the ids that begin alike.
    start = text[: max(1, len(text) // 2)].lower()
    near: Iterable[str] = known
    if len(known) > 2000:
        near = (i for i in known if i.lower().startswith(start))
    match = difflib.get_close_matches(text, islice(near, 2000), n=1)
    if match:
        message += f" Did you mean {match[0]!r}?"
    elif known:
        message += f" The first is {next(iter(known))!r}."
    return KeyError(message)
