from collections.abc import Iterable
from typing import Any

import numpy as np

from fedlearn.attacks.poisoned_clients import poison
from fedlearn.data.federated_dataset import FederatedDataset


def label_flip(
    dataset: FederatedDataset, malicious: Iterable[str], num_classes: int
) -> FederatedDataset:
    """The data set with malicious clients' labels flipped.

    Label `y` becomes `num_classes - 1 - y`, as in Fang et al. 2020, "Local
    model poisoning attacks to Byzantine-robust federated learning", section
    5.1. The clients then train honestly.

    Args:
        dataset: With `(x, y)` or `(x, y, sample_weight)`; `y` holds integers.
        malicious: Ids of the clients to change, for instance from `choose`.
        num_classes: Labels are 0 to `num_classes - 1`.

    Raises:
        KeyError: If a malicious client isn't in `dataset`.
        ValueError: If a client's labels aren't integers in that range, when
            it is read.

    Example:

    >>> ds = FederatedDataset.from_clients(
    ...     {"a": ([[1.0]], [3]), "b": ([[1.0]], [3])})
    >>> bad = label_flip(ds, ["b"], num_classes=10)
    >>> int(bad["a"][1][0]), int(bad["b"][1][0])
    (3, 6)
    """

    def flip(client: Any) -> Any:
        x, y, *rest = as_tuple(client)
        check_labels(y, num_classes)
        return (x, (num_classes - 1 - y).astype(y.dtype), *rest)

    return poison(dataset, malicious, flip)


def as_tuple(client: Any) -> tuple:
    """A client's `(x, y)` or `(x, y, sample_weight)`, or a clear error."""
    if isinstance(client, tuple) and len(client) >= 2:
        return client
    raise ValueError(
        "This attack changes the labels of `(x, y)` or `(x, y, "
        f"sample_weight)`. Received: {type(client).__name__}. Make tuples of "
        "dicts with `dataset.map(fn)` first."
    )


def check_labels(y: Any, num_classes: int) -> None:
    """Raises unless `y` is an array of integers below `num_classes`."""
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "iu":
        found = getattr(y, "dtype", type(y).__name__)
        raise ValueError(
            f"Labels must be an array of integers to be flipped. Received: "
            f"{found}."
        )
    if y.size and not (y.min() >= 0 and y.max() < num_classes):
        raise ValueError(
            f"Labels must be 0 to {num_classes - 1} for num_classes="
            f"{num_classes}. Received {y.min()} to {y.max()}."
        )
