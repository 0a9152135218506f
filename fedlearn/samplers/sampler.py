import abc
import operator
from collections.abc import Iterable
from typing import Any

from fedlearn import checks
from fedlearn.data.client_id import as_client_ids
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.privacy.participation import Participation, SamplerName
from fedlearn.serialization import Configurable


class Sampler(Configurable, abc.ABC):
    """Says which clients take part in a round.

    A sampler holds no state: the clients of a round depend on its arguments
    and the round's number alone, so a resumed run draws those that an
    unbroken one would have drawn. A subclass implements `_sample`, and, to be
    used with a private aggregator, says in `draws` how clients take part, or
    in `participation`.

    Args:
        clients: A `FederatedDataset`, or the ids of the clients.
        clients_per_round: How many take part; for `Poisson`, on average.

    Raises:
        ValueError: If `clients_per_round` is not from 1 to the number of
            clients, or an id appears twice.
    """

    draws: SamplerName | None = None
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
        checks.number("clients_per_round", clients_per_round)
        if self.draws not in (None, "poisson"):
            clients_per_round = checks.whole(
                "clients_per_round", clients_per_round
            )
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

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A class that draws in its own way can't inherit another's accounting.
        own = vars(cls).keys()
        if {"sample", "_sample"} & own and not {"draws", "participation"} & own:
            cls.draws = None
            cls.participation = Sampler.participation  # type: ignore[method-assign]
        if {"sample", "_sample"} & own and "candidates" not in own:
            cls.candidates = Sampler.candidates  # type: ignore[method-assign]

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

    def candidates(self, round_num: int) -> Iterable[str]:
        """Who may be in a round, where not all can be reached.

        The ids of `sample`, and then of those that it would have drawn after
        them, if it could draw more than that.

        Args:
            round_num: As of `sample`.
        """
        return self.sample(round_num)

    @abc.abstractmethod
    def _sample(self, round_num: int) -> list[int]:
        """Where in `client_ids` the clients of a round are, each once."""

    @property
    def participation(self) -> Participation:
        """How clients take part, for the accounting of `fedlearn.privacy`.

        Raises:
            NotImplementedError: If the class doesn't say it.
        """
        if self.draws is None:
            raise NotImplementedError(
                f"The sampler {type(self).__name__} has no privacy accounting: "
                "it doesn't say how often and how randomly a client takes "
                "part. Say it in `draws`, a name that fedlearn.privacy."
                "Participation takes, or use the sampler Poisson."
            )
        return Participation(
            self.draws,
            len(self.client_ids),
            self.clients_per_round,
            getattr(self, "min_separation", None),
        )

    def terms(self, who_counts: bool = False) -> str:
        """What of it a guarantee over many rounds rests on.

        Rounds drawn by two samplers with the same terms count as rounds of
        one.

        Args:
            who_counts: Whether on who was really drawn, as for single
                examples. Else, where rounds are drawn independently of each
                other, the seed doesn't matter; elsewhere it says how far
                apart a client's turns are.
        """
        if not who_counts:
            participation = self.participation
            if participation.sampler in ("poisson", "uniform"):
                return participation.description
        return f"{type(self).__name__} with {self.arguments}"

    @property
    def clients(self) -> list[str]:
        """The ids of the clients."""
        return list(self.client_ids)

    @property
    def arguments(self) -> dict[str, Any]:
        """Its config without the clients, which belong to the data."""
        config = self.get_config()
        return {k: v for k, v in config.items() if k != "clients"}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.arguments.items())
        return (
            f"<{type(self).__name__} of {len(self.client_ids):,} clients: "
            f"{arguments}>"
        )
