from collections.abc import Iterable, Iterator
from itertools import islice

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

    def candidates(self, round_num: int) -> Iterator[str]:
        return (self.client_ids[k] for k in self._order(round_num))

    def _sample(self, round_num: int) -> list[int]:
        return list(islice(self._order(round_num), self.clients_per_round))

    def _order(self, round_num: int) -> Iterator[int]:
        """All places, in the order in which they are drawn."""
        total, wanted = len(self.client_ids), self.clients_per_round
        key = (self.seed, "uniform_sampler", round_num)
        drawn: dict[int, None] = {}
        # The first distinct ones of a stream of independent draws are a
        # sample without replacement; its cost does not grow with the number
        # of clients. Of draws from more than 3 * wanted clients, one in
        # three at most is a repeat, so 2 * wanted nearly always suffice.
        size = 2 * wanted
        while 3 * wanted < total and size < 64 * wanted:
            places = (seeds.uniform(size, *key) * total).astype(np.int64)
            # A longer piece of the same stream begins the same.
            for place in places.tolist():
                if place not in drawn:
                    drawn[place] = None
                    yield place
            size *= 2
        for place in seeds.permutation(total, *key).tolist():
            if place not in drawn:
                yield place
