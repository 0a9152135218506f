import math

from fedlearn import checks
from fedlearn.privacy.mechanism import Correlated, check_noise_multiplier
from fedlearn.privacy.participation import Participation


class Tree(Correlated):
    """Gaussian noise on every node of a binary tree over the rounds.

    Kairouz et al. 2021, "Practical and private (deep) learning without
    sampling or shuffling", https://arxiv.org/abs/2103.00039. It needs no
    random sampling: a client counts as often as it can take part at most.
    All nodes together are one Gaussian mechanism, also if later updates
    depend on earlier releases (Denisov et al. 2022,
    https://arxiv.org/abs/2202.08312, theorem 2.1). Neighbours: "zero-out".

    Args:
        noise_multiplier: Standard deviation of a node's noise over the clip
            norm.
        restart_every: Rounds after which a new tree begins; `None` for one
            tree.

    >>> Tree(noise_multiplier=5.0, restart_every=64)
    tree noise, multiplier 5, restarts every 64 rounds
    """

    def __init__(
        self, noise_multiplier: float, restart_every: int | None = None
    ) -> None:
        if restart_every is not None:
            checks.whole("restart_every", restart_every)
        self.noise_multiplier = check_noise_multiplier(noise_multiplier)
        self.restart_every = restart_every

    def sensitivity(self, participation: Participation, rounds: int) -> float:
        return tree_sensitivity(
            min(rounds, self.restart_every or rounds),
            participation.min_separation,
            participation.max_participations(rounds),
        )

    def __repr__(self) -> str:
        restarts = (
            f"restarts every {self.restart_every:,} rounds"
            if self.restart_every
            else "no restarts"
        )
        return f"tree noise, multiplier {self.noise_multiplier:.4g}, {restarts}"


def tree_sensitivity(
    steps: int, min_separation: int, max_participations: int
) -> float:
    """A bound on how far one client moves the nodes of all trees, in L2.

    Let the client's updates have norm 1. A node over which it takes part c
    times moves by c at most, and the square of the norm, the sum of c^2 over
    nodes, is the sum over participations and the nodes above them of c. On
    level h, of `2**h` steps, c is `ceil(2**h / min_separation)` at most. The
    bound is reached if steps and separation are powers of two; with one
    participation in each tree it is the bound of Kairouz et al. 2021,
    appendix D.

    Args:
        steps: Length of a tree.
        min_separation: Least distance of two rounds of one client.
        max_participations: How often it takes part, in all trees.

    >>> tree_sensitivity(8, min_separation=8, max_participations=1) ** 2
    4.0
    """
    levels = range(steps.bit_length())
    above = sum(
        min(max_participations, -(-(2**h) // min_separation)) for h in levels
    )
    return math.sqrt(max_participations * above)
