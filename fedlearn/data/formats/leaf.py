"""The JSON files of LEAF (Caldas et al. 2018, arXiv:1812.01097).

A file is an object with `users` (a list of ids), `num_samples` (how many
examples each has) and `user_data` (from id to an object with the lists `x`
and `y`). A data set is several such files, with other users in each.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from fedlearn.data import element as el
from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.formats.one_by_one import checked_ids
from fedlearn.data.sources import InMemory, in_memory


def _column(values: Any, name: str) -> np.ndarray:
    """A list of numbers, of strings, or of equally long lists of them.

    Integers become `int64`, other numbers `float32`, strings objects of type
    `bytes`.
    """
    if not isinstance(values, list):
        raise ValueError(f"{name!r} is no list")
    # As objects first: left to itself, NumPy makes text of [1, "a"] and pads
    # every string to the longest.
    leaves = np.array(values, object)
    kinds = {type(leaf) for leaf in leaves.flat}
    if kinds == {str}:
        encoded = np.empty(leaves.size, object)
        encoded[:] = [leaf.encode() for leaf in leaves.flat]
        return encoded.reshape(leaves.shape)
    if list in kinds:
        raise ValueError(f"the lists in {name!r} differ in length or depth")
    if not kinds <= {int, float, bool}:
        odd = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(
            f"{name!r} holds values of type {odd}; expected numbers only, or "
            "strings only"
        )
    if kinds and float not in kinds:
        return leaves.astype(np.int64)
    # Out of range gives infinity, which is reported here, not as a warning.
    with np.errstate(over="ignore"):
        numbers = leaves.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name!r} holds a number that float32 has not")
    return numbers


def _user(stored: dict[str, Any]) -> el.Element:
    element = {name: _column(stored[name], name) for name in ("x", "y")}
    if element["x"].dtype.kind == "i":
        element["x"] = element["x"].astype(np.float32)
    if len(element["x"]) != len(element["y"]):
        raise ValueError(
            f"'x' has {len(element['x']):,} examples, but 'y' has "
            f"{len(element['y']):,}"
        )
    return element


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | ValueError:
    """What to make of a JSON object, as soon as it has been read.

    A user's lists take ten times the memory of the arrays that they become,
    so they are made arrays at once. The user's name is known only outside
    of this object: what is wrong in it is handed on.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        return ValueError(f"the key {twice!r} is there twice")
    if {"x", "y"} <= made.keys():
        try:
            return _user(made)
        except (ValueError, OverflowError) as error:
            return ValueError(str(error))
    return made


def _constant(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no number")


def _parse(path: Path) -> Any:
    try:
        return json.loads(
            path.read_bytes().decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        raise FormatError(
            f"{path} is no whole JSON file: {error}. It may be cut short; "
            "make or fetch it again."
        ) from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not in UTF-8: {error}.") from error
    except RecursionError as error:
        raise FormatError(
            f"{path} nests lists or objects too deep for LEAF's format."
        ) from error
    except ValueError as error:
        raise FormatError(f"{path}: {error}.") from error


def _checked(value: Any, kind: type, what: str, path: Path) -> Any:
    if isinstance(value, ValueError):
        raise FormatError(f"{path}: {what}: {value}.")
    if not isinstance(value, kind):
        noun = "an object" if kind is dict else "a list"
        raise FormatError(f"{path}: {what} is not {noun}. Expected LEAF JSON.")
    return value


def _read_file(path: Path) -> dict[str, el.Element]:
    """One file's users."""
    whole = _checked(_parse(path), dict, "the file", path)
    missing = [
        key for key in ("users", "num_samples", "user_data") if key not in whole
    ]
    if missing:
        raise FormatError(
            f"{path} has no key {', '.join(map(repr, missing))}. Expected "
            "LEAF's keys 'users', 'num_samples' and 'user_data'."
        )
    users = _checked(whole["users"], list, "'users'", path)
    counts = _checked(whole["num_samples"], list, "'num_samples'", path)
    data = _checked(whole["user_data"], dict, "'user_data'", path)
    if not all(isinstance(user, str) for user in users):
        raise FormatError(f"{path}: 'users' holds an id that is no string.")
    if users:
        checked_ids(users, path)
    if set(users) != data.keys():
        odd = min(set(users) ^ data.keys())
        raise FormatError(
            f"{path}: user {odd!r} is in only one of 'users' and "
            "'user_data'. Expected the same users in both."
        )
    if len(counts) != len(users):
        raise FormatError(
            f"{path}: 'num_samples' has {len(counts):,} numbers for "
            f"{len(users):,} users."
        )
    for user, count in zip(users, counts, strict=True):
        what = f"user {user!r}"
        element = _checked(data[user], dict, what, path)
        if not isinstance(element.get("x"), np.ndarray):
            raise FormatError(
                f"{path}: {what} has the keys {sorted(element)}. Expected "
                "'x' and 'y'."
            )
        found = el.num_examples(element)
        if type(count) is not int or count != found:
            raise FormatError(
                f"{path}: {what} has {count!r} examples by 'num_samples', "
                f"but {found:,} in 'user_data'."
            )
    return {user: data[user] for user in users}


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.json"))
    if files:
        return files
    inner = sorted({file.parent.name for file in path.glob("*/*.json")})
    hint = f" Name one of its folders {inner}." if inner else ""
    raise FormatError(f"{path} holds no .json files.{hint}")


def read_leaf(path: str | os.PathLike[str]) -> InMemory:
    """See `FederatedDataset.from_leaf`."""
    path = Path(path)
    users: dict[str, el.Element] = {}
    for file in _files(path):
        more = _read_file(file)
        if twice := users.keys() & more.keys():
            raise FormatError(
                f"{file}: user {min(twice)!r} is in an earlier file of "
                f"{path} too. Expected each user in one file; a folder that "
                "holds both parts of a split has to be divided."
            )
        users.update(more)
    # A user may have only whole numbers by chance.
    if any(u["y"].dtype.kind == "f" and len(u["y"]) for u in users.values()):
        for user in users.values():
            if user["y"].dtype.kind == "i":
                user["y"] = user["y"].astype(np.float32)
    try:
        return in_memory(
            {i: el.read_only(users[i]) for i in checked_ids(users, path)}
        )
    except FormatError:
        raise
    except ValueError as error:
        raise FormatError(f"{path}: {error}") from error
