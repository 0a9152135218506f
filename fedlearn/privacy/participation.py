"""How often, and how randomly, a client takes part in a run.

What a sampler says of itself to the accounting. Two kinds of facts follow
from it: for noise that is drawn anew each round, how much the sampling hides
(`compose`); for noise that is correlated over rounds, how often a client can
take part at most and how many rounds lie between (`max_participations` and
`min_separation`).
"""

import abc
import dataclasses
import operator
from typing import Any

from fedlearn.privacy.composition import Composition, Neighbouring
from fedlearn.privacy.require_dp_accounting import require_dp_accounting


@dataclasses.dataclass(frozen=True)
class Participation(abc.ABC):
    """Who of how many clients takes part.

    Args:
        population: Number of clients.
        clients_per_round: How many take part in a round.

    Raises:
        TypeError: If `population` is no integer.
        ValueError: If `clients_per_round` isn't above 0 and at most
            `population`.
    """

    population: int
    clients_per_round: float

    def __post_init__(self) -> None:
        _check_integer("population", self.population)
        if self.population < 1:
            raise ValueError(
                f"population is {self.population!r}. Expected the number of "
                "clients, 1 or more."
            )
        if not 0 < self.clients_per_round <= self.population:
            raise ValueError(
                f"clients_per_round is {self.clients_per_round!r}, but the "
                f"population has {self.population:,} clients. Expected above "
                f"0 and at most {self.population:,}."
            )

    @property
    @abc.abstractmethod
    def neighbouring(self) -> Neighbouring:
        """Between which data sets `compose` accounts."""

    @property
    @abc.abstractmethod
    def description(self) -> str:
        """A phrase for people: "Poisson sampling of 10 in 100 clients"."""

    @property
    def cohort_sizes(self) -> tuple[int, int]:
        """The least and the largest number of clients that a round may have."""
        return 0, self.population

    @property
    def min_separation(self) -> int:
        """Least distance of two rounds of one client, 1 or more."""
        return 1

    def max_participations(self, rounds: int) -> int:
        """How often one client takes part in the first rounds, at most."""
        return rounds

    def compose(self, event: Any, rounds: int) -> Composition:
        """What `rounds` rounds release.

        Args:
            event: A `dp_accounting.DpEvent`: what a round releases of those
                who take part in it. Its noise multipliers are the noise's
                standard deviation over the largest norm that one client adds
                to a sum.
            rounds: A number of rounds.
        """
        return Composition(
            event, self.max_participations(rounds), self.neighbouring
        )


@dataclasses.dataclass(frozen=True)
class PoissonSampling(Participation):
    """Each client by itself with one probability, each round anew.

    >>> PoissonSampling(population=1_000, clients_per_round=10).probability
    0.01
    """

    @property
    def neighbouring(self) -> Neighbouring:
        return "add-or-remove-one"

    @property
    def probability(self) -> float:
        """The probability with which a client takes part in a round."""
        return self.clients_per_round / self.population

    @property
    def description(self) -> str:
        return (
            f"Poisson sampling of {self.clients_per_round:,g} in "
            f"{self.population:,} clients"
        )

    def compose(self, event: Any, rounds: int) -> Composition:
        dp = require_dp_accounting()
        sampled = dp.PoissonSampledDpEvent(self.probability, event)
        return Composition(sampled, rounds, self.neighbouring)


@dataclasses.dataclass(frozen=True)
class _FixedSize(Participation):
    def __post_init__(self) -> None:
        _check_integer("clients_per_round", self.clients_per_round)
        super().__post_init__()

    @property
    def cohort_sizes(self) -> tuple[int, int]:
        return int(self.clients_per_round), int(self.clients_per_round)


@dataclasses.dataclass(frozen=True)
class UniformSampling(_FixedSize):
    """So many clients, all sets equally likely, each round anew.

    The number of clients is public, so neighbours differ in one client's
    data and not in the number ("replace-one"). Replacing an update of norm 1
    moves the sum by up to 2, and so `compose` halves the noise multipliers:
    theorem 27 of Wang et al. 2019, "Subsampled Rényi differential privacy
    and analytical moments accountant", https://arxiv.org/abs/1808.00087,
    takes the noise relative to what a replacement moves.
    """

    @property
    def neighbouring(self) -> Neighbouring:
        return "replace-one"

    @property
    def description(self) -> str:
        return (
            f"uniform sampling of exactly {self.clients_per_round:,} in "
            f"{self.population:,} clients"
        )

    def compose(self, event: Any, rounds: int) -> Composition:
        dp = require_dp_accounting()
        if not isinstance(event, dp.GaussianDpEvent):
            raise ValueError(
                "Uniform sampling can be accounted for with Gaussian noise "
                f"only. Received: {event}. Use the sampler `Poisson`."
            )
        sampled = dp.SampledWithoutReplacementDpEvent(
            self.population,
            self.clients_per_round,
            dp.GaussianDpEvent(event.noise_multiplier / 2),
        )
        return Composition(sampled, rounds, self.neighbouring)


@dataclasses.dataclass(frozen=True)
class Everyone(_FixedSize):
    """All clients in every round."""

    clients_per_round: float = 0

    def __post_init__(self) -> None:
        if self.clients_per_round not in (0, self.population):
            raise ValueError(
                f"clients_per_round is {self.clients_per_round!r}, but with "
                'sampler="full" all of the '
                f"{self.population!r} clients take part. Leave it at that "
                "number or name another sampler."
            )
        object.__setattr__(self, "clients_per_round", self.population)
        super().__post_init__()

    @property
    def neighbouring(self) -> Neighbouring:
        return "add-or-remove-one"

    @property
    def description(self) -> str:
        return f"all {self.population:,} clients in every round"


@dataclasses.dataclass(frozen=True)
class Turns(_FixedSize):
    """Everyone in turn, in one order, again and again.

    Neighbours differ in one client's data being there or not ("zero-out" of
    Kairouz et al. 2021, https://arxiv.org/abs/2103.00039, definition 1.1):
    without its place in the order all others would move.

    >>> turns = Turns(population=10, clients_per_round=4)
    >>> turns.min_separation, turns.max_participations(rounds=5)
    (2, 2)
    """

    @property
    def neighbouring(self) -> Neighbouring:
        return "zero-out"

    @property
    def description(self) -> str:
        return (
            f"{self.clients_per_round:,} of {self.population:,} clients in turn"
        )

    @property
    def min_separation(self) -> int:
        return int(self.population // self.clients_per_round)

    def max_participations(self, rounds: int) -> int:
        # Of the T * m turns in T rounds, every N-th is the same client's.
        turns = rounds * int(self.clients_per_round)
        return -(-turns // self.population)


@dataclasses.dataclass(frozen=True)
class Separated(_FixedSize):
    """No client again before `separation` rounds have passed.

    >>> Separated(100, 10, separation=5).max_participations(rounds=11)
    3
    """

    separation: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_integer("min_separation", self.separation)
        if self.separation < 1:
            raise ValueError(
                f"min_separation is {self.separation!r}. Expected 1 or more "
                "rounds."
            )
        needed = self.clients_per_round * self.separation
        if needed > self.population:
            raise ValueError(
                f"{self.clients_per_round:,} clients per round, each at most "
                f"once in {self.separation:,} rounds, need {needed:,} "
                f"clients, but the population has {self.population:,}. Lower "
                "clients_per_round or min_separation."
            )

    @property
    def neighbouring(self) -> Neighbouring:
        return "zero-out"

    @property
    def description(self) -> str:
        return (
            f"{self.clients_per_round:,} of {self.population:,} clients, each "
            f"at most once in {self.separation:,} rounds"
        )

    @property
    def min_separation(self) -> int:
        return self.separation

    def max_participations(self, rounds: int) -> int:
        return -(-rounds // self.separation)


def _check_integer(name: str, value: Any) -> None:
    try:
        operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}. Expected an integer.") from None
