"""Labels that are texts, as integers that number the names of classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def is_text(values: Any) -> bool:
    """Whether an array holds texts alone, and at least one."""
    if not isinstance(values, np.ndarray) or not values.size:
        return False
    return values.dtype.kind in "SUT" or (
        values.dtype.kind == "O"
        and all(isinstance(v, (str, bytes)) for v in values.flat)
    )


def categories_of(values: Any) -> tuple[str, ...] | None:
    """The categories of a pandas column or Categorical, if they are texts."""
    found = getattr(getattr(values, "dtype", None), "categories", None)
    names = () if found is None else tuple(found)
    return names if all(isinstance(n, str) for n in names) and names else None


def check_class_names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Names that a user gave: texts, each once."""
    if names is None:
        return None
    if isinstance(names, (str, bytes)) or not all(
        isinstance(name, str) for name in names
    ):
        raise TypeError(
            f"class_names is {names!r}. Expected a list of texts, as in "
            "class_names=['ill', 'well']: class 0 is the first."
        )
    found = tuple(map(str, names))
    if not found or len(set(found)) != len(found):
        raise ValueError(
            f"class_names is {list(names)!r}. Expected at least one name, and "
            "each once."
        )
    return found


def number_classes(
    labels: Sequence[np.ndarray],
    whose: Sequence[str],
    names: Sequence[str] | None = None,
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Labels as `int64` numbers of classes, and the names of the classes.

    Labels that are numbers number `names` (by default those that appear,
    sorted) unless all names are numbers, or True and False. `whose` begins
    the messages.

    >>> number_classes([np.array(["dog", "cat"])], ["Client 'a'"])
    ([array([1, 0])], ('cat', 'dog'))
    """
    texts = [
        [v.decode() if isinstance(v, bytes) else str(v) for v in part.flat]
        if part.dtype.kind in "OSUT"
        else None
        for part in labels
    ]
    if names is None:
        for part, words, who in zip(labels, texts, whose, strict=True):
            if part.size and words is None:
                raise ValueError(
                    f"{who}: labels are of dtype {part.dtype}, but texts "
                    "elsewhere. Expected one kind everywhere, or class_names."
                )
        names = sorted({text for part in texts for text in part or ()})
    index = {name: k for k, name in enumerate(names)}
    numbers = []
    for part, words, who in zip(labels, texts, whose, strict=True):
        if words is None:
            numbers.append(_of_numbers(part, names, who))
            continue
        for word in words:
            if word not in index:
                raise _unknown_label(word, names, who)
        found = np.array([index[word] for word in words], np.int64)
        numbers.append(found.reshape(part.shape))
    return numbers, tuple(names)


def _unknown_label(label: Any, names: Sequence[str], who: str) -> ValueError:
    return ValueError(
        f"{who}: the label {label!r} is not among the class names "
        f"{listed(names)}. Correct it, or add it to class_names."
    )


def _value(name: str) -> float | None:
    """The number that a name is; None if it is none."""
    flag = {"true": 1.0, "false": 0.0}.get(name.lower())
    try:
        return float(name) if flag is None else flag
    except ValueError:
        return None


def _of_numbers(part: np.ndarray, names: Sequence[str], who: str) -> np.ndarray:
    """Labels that are numbers: what the names say of them, or the classes'."""
    if part.dtype.kind == "f" and (
        np.isfinite(part).all() and (part == np.floor(part)).all()
    ):
        part = part.astype(np.int64)  # a tool on the way made 1.0 of 1
    if part.size and part.dtype.kind not in "biu":
        raise ValueError(
            f"{who}: labels are of dtype {part.dtype}. Expected texts, or "
            f"integers that number the class names {listed(names)} from 0."
        )
    values = [_value(name) for name in names]
    if None not in values:
        numbers = np.full(part.shape, -1, np.int64)
        for k, value in enumerate(values):
            numbers[part == value] = k
        if (numbers < 0).any():
            odd = part[numbers < 0].flat[0].item()
            raise _unknown_label(odd, names, who)
        return numbers
    if part.size and not (part.min() >= 0 and part.max() < len(names)):
        raise ValueError(
            f"{who}: labels lie between {part.min()} and {part.max()}, but "
            f"there are {len(names):,} class names: {listed(names)}. Number "
            "the classes from 0, or name all of them in class_names."
        )
    for k, value in enumerate(values):
        if value is not None and value != k and (part == value).any():
            raise ValueError(
                f"{who}: the label {value:g} may be class number {k} by its "
                f"name {names[k]!r}, or that of this number. Expected texts, "
                "or names that are no numbers."
            )
    return part.astype(np.int64)


def listed(names: Sequence[Any], most: int = 8) -> str:
    """Some of the names, for messages: `'cat', 'dog', ... (3 in all)`."""
    shown = ", ".join(repr(name) for name in names[:most])
    if len(names) > most:
        shown += f", ... ({len(names):,} in all)"
    return shown
