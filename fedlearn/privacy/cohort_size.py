"""How many clients a round must have for what is claimed of it."""

import math
from typing import NamedTuple

from fedlearn.privacy.composition import Composition
from fedlearn.privacy.mechanism import Mechanism
from fedlearn.privacy.participation import Participation


class CohortSize(NamedTuple):
    """Numbers of clients with which a link does what it says.

    Noise that clients add in shares is too little if fewer come; a sum modulo
    a number wraps around if more do, and then one client moves it further
    than any clip allows.

    Attributes:
        least: No round may have fewer clients.
        most: No round may have more.
        why: What happens otherwise, and the way out: for an error.
    """

    least: float
    most: float
    why: str

    def check(self, participation: Participation) -> None:
        """Raises ValueError if a round may be smaller or larger."""
        least, most = participation.cohort_sizes
        if least < self.least or most > self.most:
            wanted = (
                f"{self.least:,g} or more"
                if self.most == math.inf
                else f"{self.least:,g} to {self.most:,g}"
            )
            raise ValueError(
                f"Rounds may have {least:,} to {most:,} clients "
                f"({participation.description}). Expected {wanted}. {self.why}"
            )


class Sized(Mechanism):
    """A mechanism that holds for rounds of certain sizes only.

    Args:
        released: A `Mechanism`.
        *sizes: Those of all links; each must hold.

    Example:

    >>> from fedlearn.privacy import Gaussian, PoissonSampling
    >>> mechanism = Sized(Gaussian(1.0), CohortSize(0, 20, "It wraps around."))
    >>> mechanism.compose(PoissonSampling(100, 10), 1)
    Traceback (most recent call last):
        ...
    ValueError: Rounds may have 0 to 100 clients (Poisson sampling of 10 in
    100 clients). Expected 0 to 20. It wraps around.
    """

    def __init__(self, released: Mechanism, *sizes: CohortSize) -> None:
        self.released = released
        self.sizes = sizes

    def compose(self, participation: Participation, rounds: int) -> Composition:
        for size in self.sizes:
            size.check(participation)
        return self.released.compose(participation, rounds)

    def __repr__(self) -> str:
        return repr(self.released)
