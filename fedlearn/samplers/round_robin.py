from collections.abc import Iterable

from fedlearn import seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.samplers.sampler import Sampler


class RoundRobin(Sampler):
    """Goes through the clients in one order, again and again.

    At any time no client has taken part more than once more than another,
    and `len(clients) / clients_per_round` rounds lie between two turns of a
    client. A round that reaches the end of the order goes on at its
    beginning.

    Args:
        clients: A `FederatedDataset`, or the ids of the clients.
        clients_per_round: How many take part.
        seed: An integer, for a random order; `None` keeps the order of
            `clients`.

    Example:

    >>> sampler = RoundRobin(["a", "b", "c"], clients_per_round=2, seed=None)
    >>> [sampler.sample(r) for r in range(3)]
    [['a', 'b'], ['c', 'a'], ['b', 'c']]
    """

    draws = "round_robin"
    clients_per_round: int

    def __init__(
        self,
        clients: FederatedDataset | Iterable[str],
        clients_per_round: int,
        seed: int | None = 0,
    ) -> None:
        super().__init__(clients, clients_per_round)
        self.seed = seed
        total = len(self.client_ids)
        # One order for all passes: with a new one each pass, a round across
        # the end of a pass could draw a client twice.
        self._order = (
            list(range(total))
            if seed is None
            else seeds.permutation(total, seed, "round_robin").tolist()
        )

    def _sample(self, round_num: int) -> list[int]:
        total, wanted = len(self._order), self.clients_per_round
        start = round_num * wanted % total
        taken = self._order[start : start + wanted]
        return taken + self._order[: wanted - len(taken)]
