import numpy as np

from fedlearn.encoders import discrete_distribution, discrete_noise
from fedlearn.encoders.discrete_noise import DiscreteNoise, Plan


class Skellam(DiscreteNoise):
    """Skellam noise from each client, for a secure sum.

    Of Agarwal, Kairouz and Liu 2021, "The Skellam mechanism for
    differentially private federated learning" (arXiv:2110.04995): each client
    adds the difference of two Poisson numbers. Such numbers add up to the
    same kind, so the sum of all shares is exactly what is accounted for.
    Arguments, and how messages are made: see `DiscreteNoise`.

    Example:

    >>> skellam = Skellam(1.0, norm=1.0, clients_per_round=10)
    >>> plan = skellam.plan(1000)
    >>> bool(plan.granularity < 1e-3)
    True
    """

    label = "Skellam"

    def probabilities(self, std: float) -> np.ndarray:
        return discrete_distribution.skellam(std**2)

    def zcdp(self, plan: Plan, size: int) -> tuple[float, float]:
        variance = self.clients_per_round * plan.local_std**2
        l1 = discrete_noise.integer_l1(plan.sensitivity, size)
        return skellam_zcdp(l1, plan.sensitivity, variance)


def skellam_zcdp(l1: float, l2: float, variance: float) -> tuple[float, float]:
    """What Skellam noise of a variance `v` in the sum of integers guarantees.

    Agarwal et al. 2021, theorem 3.5: at integer orders `a > 1` the Rényi
    divergence is at most

        a l2^2 / (2 v) + min(((2 a - 1) l2^2 + 6 l1) / (4 v^2), 3 l1 / (2 v)).

    Either of the two is a line in `a`. Between integers nothing is claimed.
    Returns `(rho, xi)`, for a divergence of at most `rho a + xi`.
    """
    rho = l2**2 / (2 * variance)
    xi = max((6 * l1 - l2**2) / (4 * variance**2), 0.0)
    return discrete_noise.smallest_at_order(
        [
            (rho + l2**2 / (2 * variance**2), xi),
            (rho, 3 * l1 / (2 * variance)),
        ]
    )
