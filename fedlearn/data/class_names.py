"""Labels that are texts, as integers that number the names of classes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def is_text(values: Any) -> bool:
    """Whether an array holds texts alone, and at least one."""
    if not isinstance(values, np.ndarray) or not values.size:
        return False
    if values.dtype.kind in "SUT":
        return True
    return values.dtype.kind == "O" and all(
        isinstance(v, (str, bytes)) for v in values.flat
    )


def categories_of(values: Any) -> tuple[str, ...] | None:
    """The categories of a pandas column or Categorical, if they are texts."""
    found = getattr(getattr(values, "dtype", None), "categories", None)
    if found is None:
        return None
    names = list(found)
    if not names or not all(isinstance(name, str) for name in names):
        return None
    return tuple(map(str, names))


def check_class_names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Names that a user gave.

    Raises:
        TypeError: If they are no texts.
        ValueError: If a name is there twice, or there is none.
    """
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


def _as_texts(values: np.ndarray) -> list[str]:
    return [
        v.decode("utf-8") if isinstance(v, bytes) else str(v)
        for v in values.reshape(-1).tolist()
    ]


def number_classes(
    labels: Sequence[np.ndarray],
    whose: Sequence[str],
    names: Sequence[str] | None = None,
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Labels as `int64` numbers of classes, from 0.

    Args:
        labels: Arrays of texts; or of numbers, which number `names` already
            unless all names are numbers themselves (or True and False).
        whose: Begins the message about each of the arrays.
        names: Of the classes, in order; by default those that appear, sorted.

    Returns:
        An array of the same shape for each of `labels`, and the names.

    Raises:
        ValueError: If a label isn't among `names`, a number may be either of
            two classes, or some are texts and some are not.

    Example:

    >>> labels = [np.array(["dog", "cat"]), np.array(["dog"])]
    >>> number_classes(labels, ["Client 'a'", "Client 'b'"])
    ([array([1, 0]), array([1])], ('cat', 'dog'))
    """
    texts = [
        _as_texts(part) if part.dtype.kind in "OSUT" else None
        for part in labels
    ]
    if names is None:
        for part, words, who in zip(labels, texts, whose, strict=True):
            if part.size and words is None:
                raise ValueError(
                    f"{who}: labels are of dtype {part.dtype}, but texts "
                    "elsewhere. Expected one kind everywhere; of numbers and "
                    "texts, class_names=[...] says which number is which text."
                )
        names = sorted({text for part in texts or () for text in part or ()})
    index = {name: k for k, name in enumerate(names)}
    numbers = []
    for part, words, who in zip(labels, texts, whose, strict=True):
        if words is None:
            numbers.append(_of_numbers(part, names, who))
            continue
        odd = next((word for word in words if word not in index), None)
        if odd is not None:
            raise ValueError(
                f"{who}: the label {odd!r} is not among the class names "
                f"{listed(names)}. Correct it, or add it to class_names."
            )
        numbers.append(
            np.fromiter(
                (index[w] for w in words), np.int64, len(words)
            ).reshape(part.shape)
        )
    return numbers, tuple(names)


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
    values = [_value(name) for name in names]
    if None in values or part.dtype.kind not in "biu":
        numbers = _in_range(part, names, who)
        for k, value in enumerate(values):
            if value is not None and value != k and (part == value).any():
                raise ValueError(
                    f"{who}: a label is the number {value:g}, which may be "
                    f"class {listed(names[int(value) : int(value) + 1])} or "
                    f"class {names[k]!r} of the class names {listed(names)}. "
                    "Expected texts, or names that are no numbers."
                )
        return numbers
    numbers = np.full(part.shape, -1, np.int64)
    for k, value in enumerate(values):
        numbers[part == value] = k
    if (numbers < 0).any():
        raise ValueError(
            f"{who}: the label {part[numbers < 0].flat[0].item()!r} is not "
            f"among the class names {listed(names)}. Correct it, or add it to "
            "class_names."
        )
    return numbers


def _in_range(part: np.ndarray, names: Sequence[str], who: str) -> np.ndarray:
    if part.size and part.dtype.kind not in "biu":
        raise ValueError(
            f"{who}: labels are of dtype {part.dtype}. Expected texts, or "
            f"integers that number the class names {listed(names)} from 0."
        )
    if part.size and not (part.min() >= 0 and part.max() < len(names)):
        raise ValueError(
            f"{who}: labels lie between {part.min()} and {part.max()}, but "
            f"there are {len(names):,} class names: {listed(names)}. Number "
            "the classes from 0, or name all of them in class_names."
        )
    return part.astype(np.int64)


def name_classes(
    metrics: Mapping[str, Any],
    names: Sequence[str] | None,
    metric_names: Iterable[str],
) -> dict[str, Any]:
    """Metrics with a value for each class, by the names of the classes.

    Args:
        metrics: By name; those of classes are `recall_0`, `recall_1`, ....
        names: Of the classes; None to leave the metrics as they are.
        metric_names: Of the model's metrics. One that is itself called
            `recall_0` keeps its name.

    Example:

    >>> metrics = {"loss": 0.5, "recall_0": 1.0, "recall_1": 0.5}
    >>> name_classes(metrics, ["cat", "dog"], ["recall"])
    {'loss': 0.5, 'recall_cat': 1.0, 'recall_dog': 0.5}
    """
    own = set(metric_names)
    renamed: dict[str, str] = {}
    for metric in own if names is not None else ():
        numbered = [f"{metric}_{k}" for k in range(len(names or ()))]
        if (
            all(n in metrics and n not in own for n in numbered)
            and f"{metric}_{len(numbered)}" not in metrics
        ):
            pairs = zip(numbered, names or (), strict=True)
            renamed |= {n: f"{metric}_{name}" for n, name in pairs}
    return {renamed.get(key, key): value for key, value in metrics.items()}


def listed(names: Sequence[Any], most: int = 8) -> str:
    """Some of the names, for messages.

    Example:

    >>> listed(["cat", "dog", "mouse"], most=2)
    "'cat', 'dog', ... (3 in all)"
    """
    shown = ", ".join(repr(name) for name in names[:most])
    if len(names) > most:
        shown += f", ... ({len(names):,} in all)"
    return shown
