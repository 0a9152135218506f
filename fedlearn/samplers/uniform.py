from collections.abc import Iterable

import numpy as np

from fedlearn import seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.samplers.sampler import Sampler


class Uniform(Sampler):
    """Draws `clients_per_round` clients without replacement, each round anew.

    Every set of that size is equally likely. This is the sampling of McMahan
    et al. 2017, "Communication-efficient learning of deep networks from
    decentralized data", https://arxiv.org/abs/1602.05629.

    Args:
        clients: A `FederatedDataset`, or the ids of the clients.
        clients_per_round: How many take part.
        seed: An integer.

    Example:

    >>> sampler = Uniform(["a", "b", "c", "d"], clients_per_round=2)
    >>> len(sampler.sample(0))
    2
    >>> sampler.sample(7) == sampler.sample(7)
    True
    """

    draws = "uniform"
    clients_per_round: int

    def __init__(
        self,
        clients: FederatedDataset | Iterable[str],
        clients_per_round: int,
        seed: int = 0,
    ) -> None:
        super().__init__(clients, clients_per_round)
        self.seed = seed

    def _sample(self, round_num: int) -> list[int]:
        total, wanted = len(self.client_ids), self.clients_per_round
        key = (self.seed, "uniform_sampler", round_num)
        if 3 * wanted >= total:
            return seeds.permutation(total, *key)[:wanted].tolist()
        # The first distinct ones of a stream of independent draws are a
        # sample without replacement; its cost does not grow with the number
        # of clients. Of draws from more than 3 * wanted clients, one in
        # three at most is a repeat, so 2 * wanted nearly always suffice.
        size = 2 * wanted
        while True:
            draws = (seeds.uniform(size, *key) * total).astype(np.int64)
            distinct = list(dict.fromkeys(draws.tolist()))
            if len(distinct) >= wanted:
                return distinct[:wanted]
            # A longer piece of the same stream, which begins the same.
            size *= 2
