"""What every sampler is."""

import abc
import operator
from collections.abc import Iterable
from typing import Any

from fedlearn.data.client_id import as_client_ids
from fedlearn.data.federated_dataset import FederatedDataset


class Sampler(abc.ABC):
    """Says which clients take part in a round.

    A sampler holds no state: the clients of a round depend on its arguments
    and the round's number alone, so a resumed run draws those that an
    unbroken one would have drawn. A subclass implements `_sample`.

    Args:
        clients: A `FederatedDataset`, or the ids of the clients.
        clients_per_round: How many take part; for `Poisson`, on average.

    Raises:
        ValueError: If `clients_per_round` is not from 1 to the number of
            clients, or an id appears twice.
    """

    clients_per_round: float

    def __init__(
        self,
        clients: FederatedDataset | Iterable[str],
        clients_per_round: float,
    ) -> None:
        if isinstance(clients, FederatedDataset):
            self.client_ids = clients.client_ids
        else:
            self.client_ids = as_client_ids(clients)
        total = len(self.client_ids)
        if not total:
            raise ValueError(
                f"{type(self).__name__} got no clients. Expected some."
            )
        if not 1 <= clients_per_round <= total:
            raise ValueError(
                f"clients_per_round is {clients_per_round!r}, but there are "
                f"{total:,} clients. Expected 1 to {total:,}."
            )
        self.clients_per_round = clients_per_round

    def sample(self, round_num: int) -> list[str]:
        """The ids of the clients that take part in a round, each once.

        Args:
            round_num: The round's number, from 0.

        Raises:
            ValueError: If `round_num` is negative.
        """
        round_num = operator.index(round_num)
        if round_num < 0:
            raise ValueError(
                f"round_num is {round_num}. Expected 0 or a later round."
            )
        ids = self.client_ids
        return [ids[k] for k in self._sample(round_num)]

    @abc.abstractmethod
    def _sample(self, round_num: int) -> list[int]:
        """Where in `client_ids` the clients of a round are, each once."""

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The arguments, without the clients: those belong to the data."""

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        clients: FederatedDataset | Iterable[str],
    ) -> "Sampler":
        """A sampler of these clients with the arguments of `get_config`."""
        return cls(clients, **config)

    def __repr__(self) -> str:
        config = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return (
            f"<{type(self).__name__} of {len(self.client_ids):,} clients: "
            f"{config}>"
        )


def check_whole(clients_per_round: int) -> int:
    """`clients_per_round` of a sampler that draws exactly so many.

    Raises:
        TypeError: If it is no integer.
    """
    try:
        return operator.index(clients_per_round)
    except TypeError:
        raise TypeError(
            f"clients_per_round is {clients_per_round!r}. Expected an integer."
        ) from None
