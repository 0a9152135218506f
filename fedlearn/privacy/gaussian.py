"""Gaussian noise, drawn anew each round."""

from fedlearn.privacy.composition import Composition
from fedlearn.privacy.mechanism import Mechanism, check_noise_multiplier
from fedlearn.privacy.participation import Participation
from fedlearn.privacy.require_dp_accounting import require_dp_accounting


class Gaussian(Mechanism):
    """Independent Gaussian noise on each round's sum of clipped updates.

    Args:
        noise_multiplier: The noise's standard deviation over the clip norm.
        *others: Those of further sums of the same round, such as the count
            that adaptive clipping needs. Sums of the same clients are one
            sum, and its noise multiplier is `combined(...)`.

    >>> Gaussian(1.0).noise_multiplier
    1.0
    """

    def __init__(self, noise_multiplier: float, *others: float) -> None:
        self.noise_multiplier = combined(noise_multiplier, *others)

    def compose(self, participation: Participation, rounds: int) -> Composition:
        dp = require_dp_accounting()
        if not self.noise_multiplier:
            # No accountant takes a sampled one.
            return Composition(
                dp.NonPrivateDpEvent(), rounds, participation.neighbouring
            )
        event = dp.GaussianDpEvent(self.noise_multiplier)
        return participation.compose(event, rounds)

    def __repr__(self) -> str:
        return f"Gaussian noise, multiplier {self.noise_multiplier:.4g}"


def combined(*noise_multipliers: float) -> float:
    """The noise multiplier of some Gaussian sums taken as one.

    Scaled to the same noise, the norms that one client adds to them make one
    vector, so `z**-2 = z_1**-2 + z_2**-2 + ...` (McMahan et al. 2018, "A
    general approach to adding differential privacy to iterative training
    procedures", https://arxiv.org/abs/1812.06210, section 3).

    >>> combined(3.0, 4.0)
    2.4
    """
    values = [check_noise_multiplier(z) for z in noise_multipliers]
    if 0 in values or len(values) == 1:
        return min(values)
    return sum(z**-2 for z in values) ** -0.5
