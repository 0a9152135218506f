from collections.abc import Iterable

from fedlearn import seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.privacy.participation import check_separation
from fedlearn.samplers.sampler import Sampler


class MinSeparation(Sampler):
    """Draws a fixed number of clients, none twice within some rounds.

    Of two rounds in which a client takes part, t and t', `|t - t'|` is a
    multiple of `min_separation`, so never less than that. The clients are
    divided by seed into `min_separation` groups of the same size up to one;
    round t draws uniformly, without replacement, from group
    `t mod min_separation`. This partition is that of Choquette-Choo et al.
    2023, "(Amplified) banded matrix factorization: a unified approach to
    private training", https://arxiv.org/abs/2306.08153, who amplify privacy by
    sampling from such a group; here the cohort has a fixed size.

    Args:
        clients: A `FederatedDataset`, or the ids of the clients.
        clients_per_round: How many take part.
        min_separation: Least distance of two rounds of one client, 1 or
            more; with 1 every round draws from all clients.
        seed: An integer.

    Raises:
        ValueError: If `clients_per_round * min_separation` is above the
            number of clients.

    Example:

    >>> sampler = MinSeparation(list("abcdef"), 2, min_separation=3)
    >>> cohorts = [sampler.sample(t) for t in range(3)]
    >>> sorted(sum(cohorts, []))
    ['a', 'b', 'c', 'd', 'e', 'f']
    >>> sorted(sampler.sample(3)) == sorted(cohorts[0])
    True
    """

    draws = "min_separation"
    clients_per_round: int

    def __init__(
        self,
        clients: FederatedDataset | Iterable[str],
        clients_per_round: int,
        min_separation: int,
        seed: int = 0,
    ) -> None:
        super().__init__(clients, clients_per_round)
        total = len(self.client_ids)
        self.min_separation = check_separation(
            total, self.clients_per_round, min_separation
        )
        self.seed = seed
        order = seeds.permutation(total, seed, "min_separation", "groups")
        self._groups = [
            order[k :: self.min_separation] for k in range(self.min_separation)
        ]

    def candidates(self, round_num: int) -> list[str]:
        return [self.client_ids[k] for k in self._order(round_num)]

    def _sample(self, round_num: int) -> list[int]:
        return self._order(round_num)[: self.clients_per_round]

    def _order(self, round_num: int) -> list[int]:
        """All places of the round's group, in the order of drawing."""
        group = self._groups[round_num % self.min_separation]
        key = (self.seed, "min_separation", round_num)
        return group[seeds.permutation(len(group), *key)].tolist()
