from collections.abc import Iterable

import numpy as np

from fedlearn import seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.samplers.sampler import Sampler


class Poisson(Sampler):
    """Takes each client by itself with one probability, each round anew.

    The number of clients varies from round to round and may be 0. This is
    the sampling under which a differentially private round is amplified in
    most accounting (Abadi et al. 2016, "Deep learning with differential
    privacy", https://arxiv.org/abs/1607.00133; McMahan et al. 2018,
    https://arxiv.org/abs/1710.06963).

    Args:
        clients: A `FederatedDataset`, or the ids of the clients.
        clients_per_round: How many take part on average; the probability
            of each is this divided by the number of clients.
        seed: An integer.

    Example:

    >>> sampler = Poisson([f"{i:03d}" for i in range(100)], 10)
    >>> sampler.probability
    0.1
    >>> 0 <= len(sampler.sample(0)) <= 100
    True
    """

    draws = "poisson"

    def __init__(
        self,
        clients: FederatedDataset | Iterable[str],
        clients_per_round: float,
        seed: int = 0,
    ) -> None:
        super().__init__(clients, clients_per_round)
        self.seed = seed

    @property
    def probability(self) -> float:
        """The probability with which a client takes part in a round."""
        return self.clients_per_round / len(self.client_ids)

    def _sample(self, round_num: int) -> list[int]:
        coins = seeds.uniform(
            len(self.client_ids), self.seed, "poisson_sampler", round_num
        )
        return np.flatnonzero(coins < self.probability).tolist()
