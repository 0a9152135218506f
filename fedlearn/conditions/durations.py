import abc
import functools
import math

from fedlearn import checks, seeds
from fedlearn.serialization import Configurable


class Durations(Configurable, abc.ABC):
    """How long clients train in a round, in seconds.

    Example: ten seconds, and half a second for each example.

    >>> class Alike(Durations):
    ...     def seconds(self, client_id, seed, num_examples):
    ...         return 10 + 0.5 * num_examples
    >>> Alike().seconds("anna", seed=3, num_examples=100)
    60.0
    """

    @abc.abstractmethod
    def seconds(
        self, client_id: str, seed: int, num_examples: int | None
    ) -> float:
        """The time from the download to the upload, at least 0.

        Args:
            client_id: Who.
            seed: Of this time that it takes part.
            num_examples: How many examples it trains on, each as often as it
                does: its number times the local epochs. None where it isn't
                known, or must not decide who counts: behind an aggregator's
                noise.
        """


class HalfNormal(Durations):
    """Each time the magnitude of a normal number, whatever a client has.

    What Nguyen et al. 2022, "Federated learning with buffered asynchronous
    aggregation", arXiv:2106.06639, section 5, simulate training times with.

    Args:
        scale: The normal distribution's deviation, in seconds.

    Example:

    >>> durations = HalfNormal(scale=10.0)
    >>> durations.seconds("anna", 1, 10) == durations.seconds("ben", 1, 999)
    True
    """

    def __init__(self, scale: float = 1.0):
        self.scale = checks.positive("scale", scale)

    def seconds(
        self, client_id: str, seed: int, num_examples: int | None
    ) -> float:
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
        num_examples: For how many examples, each local epoch counted, that
            is; who trains on twice as many takes twice as long. With None all
            take as long, whatever they have.

    Example: a minute for 100 examples.

    >>> durations = LogNormal(60.0, sigma=0, spread=0, num_examples=100)
    >>> durations.seconds("anna", seed=1, num_examples=5 * 200)
    600.0
    """

    def __init__(
        self,
        median: float = 1.0,
        sigma: float = 1.0,
        spread: float = 0.1,
        seed: int = 0,
        num_examples: float | None = None,
    ):
        self.median = checks.positive("median", median)
        self.sigma = checks.number("sigma", sigma)
        self.spread = checks.number("spread", spread)
        self.seed = checks.whole("seed", seed, least=0)
        if num_examples is not None:
            num_examples = checks.positive("num_examples", num_examples)
        self.num_examples = num_examples

    def seconds(
        self, client_id: str, seed: int, num_examples: int | None
    ) -> float:
        share = 1.0
        if self.num_examples is not None and num_examples is not None:
            share = num_examples / self.num_examples
        own = self.sigma * own_normal(self.seed, "own", client_id)
        this = self.spread * seeds.normal(1, seed, "duration")[0]
        return self.median * share * factor(own + this)


def factor(exponent: float) -> float:
    """`exp`; a number that nobody lives to see where that is no float."""
    return math.exp(min(exponent, 600.0))


@functools.lru_cache(1 << 17)
def own_normal(seed: int, what: str, client_id: str) -> float:
    """What a client is like in all its rounds, drawn once."""
    return float(seeds.normal(1, seed, what, client_id)[0])
