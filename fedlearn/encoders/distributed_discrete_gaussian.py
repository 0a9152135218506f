import math

import numpy as np

from fedlearn.encoders import discrete_distribution, discrete_noise
from fedlearn.encoders.discrete_noise import DiscreteNoise, Plan


class DistributedDiscreteGaussian(DiscreteNoise):
    """Discrete Gaussian noise from each client, for a secure sum.

    Of Kairouz, Liu and Steinke 2021, "The distributed discrete Gaussian
    mechanism for federated learning with secure aggregation"
    (arXiv:2102.06387). A sum of discrete Gaussians isn't quite one; what that
    costs is small once a share has a deviation of a step or more. Arguments,
    and how messages are made: see `DiscreteNoise`.

    Example:

    >>> gaussian = DistributedDiscreteGaussian(1.0, 1.0, 10)
    >>> rho, xi = gaussian.zcdp(gaussian.plan(1000), 1000)
    >>> round(rho, 4)  # that of Gaussian noise
    0.5
    """

    label = "discrete Gaussian"

    def probabilities(self, std: float) -> np.ndarray:
        return discrete_distribution.discrete_gaussian(std)

    def zcdp(self, plan: Plan, size: int) -> tuple[float, float]:
        return distributed_discrete_gaussian_zcdp(
            discrete_noise.integer_l1(plan.sensitivity, size),
            plan.sensitivity,
            plan.local_std,
            self.clients_per_round,
            size,
        )


def distributed_discrete_gaussian_zcdp(
    l1: float, l2: float, local_std: float, num_clients: int, size: int
) -> tuple[float, float]:
    """What a sum of discrete Gaussians on integers guarantees, `(rho, xi)`.

    Kairouz et al. 2021, proposition 14, for shares of a deviation of half a
    step or more (else a ValueError): with `s` the deviation of the sum,
    `sqrt(num_clients) * local_std`, and

        t = 10 sum_(k=1)^(num_clients-1) exp(-2 pi^2 local_std^2 k / (k + 1)),

    the Renyi divergence at order `a` is at most the smallest of

        (a / 2) (l2 / s)^2 + t size,
        (a / 2) ((l2 / s)^2 + 2 t l1 / s + t^2 size),
        (a / 2) (l2 / s + t sqrt(size))^2,

    `rho a + xi`. `l1` and `l2` are the largest norms of a client's integers.
    """
    if num_clients > 1 and local_std < 0.5:
        raise ValueError(
            f"A share of the noise has a deviation of {local_std:.3g} steps, "
            "and nothing is proven of sums of discrete Gaussians of less than "
            "0.5. Take more bits, more noise, or Skellam, whose sums are "
            "exact."
        )
    s = math.sqrt(num_clients) * local_std
    k = np.arange(1, num_clients)
    t = 10 * float(np.exp(-2 * (math.pi * local_std) ** 2 * k / (k + 1)).sum())
    return discrete_noise.smallest_at_order(
        [
            ((l2 / s) ** 2 / 2, t * size),
            (((l2 / s) ** 2 + 2 * t * l1 / s + t**2 * size) / 2, 0.0),
            ((l2 / s + t * math.sqrt(size)) ** 2 / 2, 0.0),
        ]
    )
