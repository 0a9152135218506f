from collections.abc import Callable, Iterable
from typing import Any

from fedlearn.data.client_id import as_client_ids, unknown_client
from fedlearn.data.federated_dataset import FederatedDataset


class _Poisoned:
    """A source: one data set for malicious clients, one for all others."""

    def __init__(
        self,
        honest: FederatedDataset,
        poisoned: FederatedDataset,
        malicious: frozenset[str],
    ) -> None:
        self._honest = honest
        self._poisoned = poisoned
        self._malicious = malicious
        self.client_ids = honest.client_ids

    def num_examples(self, client_id: str) -> int:
        return self._honest.num_examples(client_id)

    def load(self, client_id: str) -> Any:
        if client_id in self._malicious:
            return self._poisoned[client_id]
        return self._honest[client_id]


def poison(
    dataset: FederatedDataset,
    malicious: Iterable[str],
    fn: Callable[[Any], Any],
) -> FederatedDataset:
    """The data set with malicious clients' arrays changed, lazily.

    `fn` as for `FederatedDataset.map`; it keeps the number of examples.
    Raises KeyError if a malicious client isn't in `dataset`.
    """
    ids = as_client_ids(malicious)
    for client_id in ids:
        if client_id not in dataset:
            raise unknown_client(client_id, dataset.client_ids)
    poisoned = dataset.map(fn, same_length=True)
    return FederatedDataset(_Poisoned(dataset, poisoned, frozenset(ids)))
