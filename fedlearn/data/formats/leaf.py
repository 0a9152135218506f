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
from fedlearn.data.sources import InMemory


def _column(values: Any, name: str) -> np.ndarray:
    """A list of numbers, of strings, or of equally long lists of them."""
    # As objects first: left to itself, NumPy makes text of [1, "a"] and pads
    # every string to the longest.
    leaves = np.array(values, object)
    kinds = {type(leaf) for leaf in leaves.flat}
    if leaves.ndim == 0 or list in kinds:
        raise ValueError(f"the lists in {name!r} differ in length or depth")
    if kinds == {str}:
        return el.encoded(leaves)
    if not kinds <= {int, float, bool}:
        odd = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(
            f"{name!r} holds values of type {odd}. Expected numbers only, or "
            "strings only"
        )
    if kinds and float not in kinds and name == "y":
        return leaves.astype(np.int64)
    # Out of range gives infinity, which is reported here, not as a warning.
    with np.errstate(over="ignore"):
        numbers = leaves.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name!r} holds a number that float32 has not")
    return numbers


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | ValueError:
    """A user's arrays, at once: as lists they take ten times the memory.

    What is wrong is handed on to where the user's name is known.
    """
    made = dict(pairs)
    if not {"x", "y"} <= made.keys():
        return made
    try:
        element = {name: _column(made[name], name) for name in ("x", "y")}
        return dict(el.as_element(element, "its lists"))
    except (ValueError, OverflowError) as error:
        return ValueError(str(error))


def _read_file(path: Path) -> dict[str, el.Element]:
    """One file's users."""
    try:
        whole = json.loads(
            path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_object
        )
        users, counts = whole["users"], whole["num_samples"]
        data = whole["user_data"]
        found = {user: data[user] for user in users}
        pairs = list(zip(users, counts, strict=True))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(
            f"{path} is no whole JSON file in UTF-8: {error}. It may be cut "
            "short; make or fetch it again."
        ) from error
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise FormatError(
            f"{path} is no file of LEAF ({error!r}). Expected an object with "
            "'users', 'num_samples' and 'user_data', of the same users."
        ) from error
    for user, count in pairs:
        element = found[user]
        if isinstance(element, ValueError):
            raise FormatError(f"{path}: user {user!r}: {element}.")
        if not isinstance(element, dict) or element.keys() != {"x", "y"}:
            raise FormatError(
                f"{path}: user {user!r} holds {list(element)}. Expected lists "
                "'x' and 'y'."
            )
        if count != el.num_examples(element):
            raise FormatError(
                f"{path}: user {user!r} has {count!r} examples by "
                f"'num_samples', but {el.num_examples(element):,} in "
                "'user_data'."
            )
    return found


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if files := sorted(path.glob("*.json")):
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
        return InMemory({i: users[i] for i in checked_ids(users, path)})
    except ValueError as error:
        raise FormatError(f"{path}: {error}") from error
