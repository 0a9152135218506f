import abc
import functools
import math

from fedlearn import checks, seeds
from fedlearn.serialization import Configurable


class Durations(Configurable, abc.ABC):
    """How long clients take for their part of a round, in seconds.

    Example: a minute for everyone.

    >>> class Minute(Durations):
    ...     def seconds(self, client_id, seed):
    ...         return 60.0
    >>> Minute().seconds("anna", seed=3)
    60.0
    """

    @abc.abstractmethod
    def seconds(self, client_id: str, seed: int) -> float:
        """The time from the download to the upload, positive.

        Args:
            client_id: Who.
            seed: Of this time that it takes part.
        """


class HalfNormal(Durations):
    """Each time the magnitude of a normal number, whoever it is.

    What Nguyen et al. 2022, "Federated learning with buffered asynchronous
    aggregation", arXiv:2106.06639, section 5, simulate training times with.

    Args:
        scale: The normal distribution's deviation, in seconds.

    Example:

    >>> durations = HalfNormal(scale=10.0)
    >>> durations.seconds("anna", 1) == durations.seconds("ben", 1)
    True
    """

    def __init__(self, scale: float = 1.0):
        self.scale = checks.positive("scale", scale)

    def seconds(self, client_id: str, seed: int) -> float:
        return self.scale * abs(float(seeds.normal(1, seed, "duration")[0]))


class LogNormal(Durations):
    """Fast and slow clients, with a heavy tail: some take very long.

    A client's own median is `median * exp(sigma * normal)`, the same in all
    its rounds; each time it takes that times `exp(spread * normal)`.

    Args:
        median: Of all clients, in seconds.
        sigma: How far clients are from each other: with 1.0 one in six takes
            over 2.7 times the median.
        spread: How far a client's times are from each other.
        seed: Of which clients are slow.

    Example:

    >>> durations = LogNormal(median=60.0, sigma=1.0, spread=0.0)
    >>> durations.seconds("anna", 1) == durations.seconds("anna", 2)
    True
    """

    def __init__(
        self,
        median: float = 1.0,
        sigma: float = 1.0,
        spread: float = 0.1,
        seed: int = 0,
    ):
        self.median = checks.positive("median", median)
        self.sigma = checks.number("sigma", sigma)
        self.spread = checks.number("spread", spread)
        self.seed = checks.whole("seed", seed, least=0)

    def seconds(self, client_id: str, seed: int) -> float:
        own = own_normal(self.seed, "own", client_id)
        this = seeds.normal(1, seed, "duration")[0]
        exponent = self.sigma * own + self.spread * this
        # Beyond some 10**300 no float goes, and no client comes back.
        return self.median * math.exp(min(exponent, 600.0))


@functools.lru_cache(1 << 17)
def own_normal(seed: int, what: str, client_id: str) -> float:
    """What a client is like in all its rounds, drawn once."""
    return float(seeds.normal(1, seed, what, client_id)[0])
