"""Where a client's arrays live; a file format is a function to a source."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from fedlearn import seeds
from fedlearn.data import element as el


class Source(Protocol):
    """The clients' arrays, wherever they are."""

    client_ids: tuple[str, ...]

    def num_examples(self, client_id: str) -> int: ...

    def load(self, client_id: str) -> el.Element:
        """The arrays of one client, read-only, in new containers."""


class InMemory:
    """An element for each client; cast to dtypes that hold all of them."""

    is_plain = True

    def __init__(self, elements: Mapping[str, el.Element]) -> None:
        self.client_ids = tuple(elements)
        names = [f"Client {i!r}" for i in elements]
        unified = el.unified([*elements.values()], names)
        self._elements = dict(zip(elements, unified, strict=True))

    def num_examples(self, client_id: str) -> int:
        return el.num_examples(self._elements[client_id])

    def load(self, client_id: str) -> el.Element:
        return el.map_arrays(lambda a: a, self._elements[client_id])


class ClientColumns:
    """All clients' examples in one column each, client after client.

    Those of client `k` are `offsets[k]:offsets[k + 1]` of each of `columns`:
    NumPy arrays, or of `fedlearn.data.columns`.
    """

    def __init__(
        self,
        client_ids: tuple[str, ...],
        offsets: np.ndarray,
        columns: Any,
    ) -> None:
        self.client_ids = client_ids
        self._offsets = offsets
        self._columns = columns
        self._index = {name: k for k, name in enumerate(client_ids)}

    @property
    def is_plain(self) -> bool:
        """Whether all examples lie in memory as they are handed out."""
        return all(isinstance(c, np.ndarray) for c in el.arrays(self._columns))

    def num_examples(self, client_id: str) -> int:
        k = self._index[client_id]
        return int(self._offsets[k + 1] - self._offsets[k])

    def load(self, client_id: str) -> el.Element:
        k = self._index[client_id]
        return el.take(self._columns, slice(*self._offsets[k : k + 2].tolist()))

    def all_examples(self) -> el.Element:
        """Every client's examples, in the order of `client_ids`."""
        return el.take(self._columns, slice(int(self._offsets[-1])))


def group_rows(
    element: el.Element, codes: np.ndarray, client_ids: tuple[str, ...]
) -> ClientColumns:
    """Examples sorted by client: `codes` are places in `client_ids`."""
    counts = np.bincount(codes, minlength=len(client_ids))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    if np.any(codes[1:] < codes[:-1]):
        order = np.argsort(codes, kind="stable")
        element = el.take(element, order)
    return ClientColumns(client_ids, offsets, element)


class Mapped:
    """Another source's arrays, changed by a function when they are read."""

    def __init__(
        self,
        source: Source,
        fn: Callable[[el.Element], el.Element],
        same_length: bool = False,
    ) -> None:
        self._source = source
        self._fn = fn
        self._same_length = same_length
        self._counts: dict[str, int] = {}
        self.client_ids = source.client_ids

    @property
    def knows_sizes(self) -> bool:
        return self._same_length and getattr(self._source, "knows_sizes", True)

    def num_examples(self, client_id: str) -> int:
        if self._same_length:
            return self._source.num_examples(client_id)
        # The function may drop examples, so only running it tells.
        if client_id not in self._counts:
            self.load(client_id)
        return self._counts[client_id]

    def load(self, client_id: str) -> el.Element:
        who = f"Client {client_id!r}"
        stored = self._source.load(client_id)
        try:
            changed = self._fn(stored)
        except Exception as error:
            error.add_note(f"{who}: raised by the function given to map.")
            raise
        element = el.as_element(changed, f"{who}: what map's function gave")
        found, before = el.num_examples(element), el.num_examples(stored)
        if self._same_length and found != before:
            raise ValueError(
                f"{who}: the function given to map made {found:,} of "
                f"{before:,} examples, but it was called with "
                "same_length=True. Leave that out."
            )
        self._counts[client_id] = found
        return element


class ExampleSplit:
    """One side of a random split of each client's examples."""

    def __init__(
        self, source: Source, fraction: float, seed: int, first: bool
    ) -> None:
        self._source = source
        self._fraction = fraction
        self._seed = seed
        self._first = first
        self.client_ids = source.client_ids

    @property
    def knows_sizes(self) -> bool:
        return getattr(self._source, "knows_sizes", True)

    def _num_first(self, total: int) -> int:
        num_first = int(self._fraction * total + 0.5)
        if total >= 2:
            num_first = min(max(num_first, 1), total - 1)
        return num_first

    def num_examples(self, client_id: str) -> int:
        total = self._source.num_examples(client_id)
        num_first = self._num_first(total)
        return num_first if self._first else total - num_first

    def load(self, client_id: str) -> el.Element:
        stored = self._source.load(client_id)
        total = el.num_examples(stored)
        order = seeds.permutation(
            total, self._seed, "split_examples", client_id
        )
        num_first = self._num_first(total)
        rows = order[:num_first] if self._first else order[num_first:]
        # In the stored order, which for text and time series means much.
        return el.take(stored, np.sort(rows))
