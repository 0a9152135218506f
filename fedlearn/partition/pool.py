"""What every partitioner does: check the examples, deal them, name clients."""

from typing import Any

import numpy as np

from fedlearn import seeds
from fedlearn.data import element as el
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.data.formats.arrays import pooled_examples
from fedlearn.data.sources import group_rows


class Pool:
    """The examples that the partitioner of a name divides."""

    def __init__(self, x: Any, y: Any, num_clients: int, name: str) -> None:
        # Labels that are texts become numbers of classes.
        self.element, self._class_names = pooled_examples((x, y), name)
        self.total = el.num_examples(self.element)
        self.num_clients = num_clients
        self.name = name
        if num_clients < 1:
            raise ValueError(
                f"{name}: num_clients is {num_clients!r}. Expected at least 1."
            )
        if num_clients > self.total:
            raise ValueError(
                f"{name}: num_clients is {num_clients:,}, but there are only "
                f"{self.total:,} examples. Expected at most one client an "
                "example."
            )

    def check_room(self, min_examples: int) -> None:
        """Checks that every client can have `min_examples`."""
        needed = min_examples * self.num_clients
        if min_examples < 0 or needed > self.total:
            raise ValueError(
                f"{self.name}: {self.num_clients:,} clients with at least "
                f"{min_examples!r} examples each need {needed:,}, but there "
                f"are {self.total:,}. Lower num_clients or min_examples."
            )

    def labels(self) -> np.ndarray:
        """One label an example."""
        return labels_of(self.element[1], self.name)

    def order(self, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
        """The examples in random order; if need be, sorted by label."""
        order = seeds.permutation(self.total, seed, self.name, "examples")
        if labels is None:
            return order
        return order[np.argsort(labels[order], kind="stable")]

    def dealt(
        self, owners: np.ndarray, element: Any = None
    ) -> FederatedDataset:
        """The data set in which example i is client `owners[i]`'s.

        Examples whose owner is no client are left out.
        """
        kept = np.flatnonzero(owners < self.num_clients)
        element = self.element if element is None else element
        if len(kept) < len(owners):
            element = el.take(element, kept)
        width = len(str(self.num_clients - 1))
        ids = tuple(f"{k:0{width}d}" for k in range(self.num_clients))
        return FederatedDataset(
            group_rows(element, owners[kept], ids),
            class_names=self._class_names,
        )


def labels_of(y: Any, name: str) -> np.ndarray:
    """One label an example, as a 1-D array; ValueError for anything else."""
    if not isinstance(y, np.ndarray):
        raise ValueError(
            f"{name}: y is a {type(y).__name__} of arrays. Expected one "
            "array of labels."
        )
    if y.shape[1:] not in ((), (1,)):
        hint = " Of one-hot labels y.argmax(axis=1) makes class numbers."
        raise ValueError(
            f"{name}: y has shape {y.shape}. Expected one label an example, "
            f"shape ({len(y)},).{hint if y.ndim == 2 else ''}"
        )
    labels = y.reshape(-1)
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        raise ValueError(
            f"{name}: y holds fractions or NaN. Expected class labels."
        )
    return labels


def deal(order: np.ndarray, cuts: np.ndarray, owners: Any) -> np.ndarray:
    """The owner of each example, where piece i of `order` has `owners[i]`."""
    dealt = np.empty(len(order), np.int64)
    dealt[order] = np.repeat(owners, np.diff(cuts))
    return dealt


def dealt_evenly(total: int, pieces: int, *key: seeds.Key) -> np.ndarray:
    """The owner of each of `total` things, which are dealt at random."""
    order = seeds.permutation(total, *key)
    return deal(order, even_cuts(total, pieces), range(pieces))


def even_cuts(total: int, pieces: int) -> np.ndarray:
    """Ends of pieces of the same size up to one, from 0 to `total`."""
    return np.arange(pieces + 1) * total // pieces
