"""What every partitioner does: check the pool, deal it, name the clients."""

from typing import Any

import numpy as np

from fedlearn.data import element as el
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.data.formats.arrays import pooled_examples
from fedlearn.data.sources import group_rows


def pooled(
    x: Any, y: Any, num_clients: int, name: str
) -> tuple[Any, int, tuple[str, ...] | None]:
    """The examples as one element `(x, y)`, and how many they are.

    Labels that are texts become the numbers of classes, whose names come
    third.

    Raises:
        ValueError: If there are more clients than examples; `name` begins
            the message.
    """
    element, class_names = pooled_examples((x, y), name)
    total = el.num_examples(element)
    if num_clients < 1:
        raise ValueError(
            f"{name}: num_clients is {num_clients!r}. Expected at least 1."
        )
    if num_clients > total:
        raise ValueError(
            f"{name}: num_clients is {num_clients:,}, but there are only "
            f"{total:,} examples. Expected at most one client an example."
        )
    return element, total, class_names


def labels_of(y: Any, name: str) -> np.ndarray:
    """One label an example, as a 1-D array.

    Raises:
        ValueError: If `y` holds no single labels.
    """
    if not isinstance(y, np.ndarray):
        raise ValueError(
            f"{name}: y is a {type(y).__name__} of arrays. Expected one "
            "array of labels."
        )
    if y.shape[1:] not in ((), (1,)):
        hint = ""
        if y.ndim == 2:
            hint = (
                " One-hot labels can be turned into class numbers with "
                "y.argmax(axis=1)."
            )
        raise ValueError(
            f"{name}: y has shape {y.shape}. Expected one label an example, "
            f"shape ({len(y)},).{hint}"
        )
    labels = y.reshape(-1)
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        raise ValueError(
            f"{name}: y holds fractions or NaN. Expected class labels."
        )
    return labels


def clients(
    element: Any,
    codes: np.ndarray,
    num_clients: int,
    class_names: tuple[str, ...] | None,
) -> FederatedDataset:
    """The data set in which example i is client `codes[i]`'s."""
    width = len(str(num_clients - 1))
    ids = tuple(f"{k:0{width}d}" for k in range(num_clients))
    source = group_rows(element, codes, ids)
    return FederatedDataset(source, class_names=class_names)


def deal(order: np.ndarray, cuts: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """The owner of each example, where piece i of `order` has `owners[i]`."""
    codes = np.empty(len(order), np.int64)
    codes[order] = np.repeat(owners, np.diff(cuts))
    return codes


def even_cuts(total: int, pieces: int) -> np.ndarray:
    """Ends of pieces of the same size up to one, from 0 to `total`."""
    return np.arange(pieces + 1) * total // pieces
