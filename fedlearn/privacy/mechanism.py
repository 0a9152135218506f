"""What every mechanism is."""

import abc
import math

from fedlearn.privacy.composition import Composition
from fedlearn.privacy.participation import Participation


class Mechanism(abc.ABC):
    """Noise that is added to the sums of a run.

    A private aggregator names one: `aggregator.dp_event()`.
    """

    @abc.abstractmethod
    def compose(self, participation: Participation, rounds: int) -> Composition:
        """What the first `rounds` rounds release."""


def check_noise_multiplier(value: float) -> float:
    """The value, as a float.

    Raises:
        ValueError: If it is negative or no number.
    """
    if not 0 <= value < math.inf:
        raise ValueError(
            f"noise_multiplier is {value!r}. Expected 0 or more: the noise's "
            "standard deviation over the clip norm."
        )
    return float(value)
