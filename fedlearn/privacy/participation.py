import dataclasses
from typing import Any, Literal

from fedlearn import checks
from fedlearn.privacy.composition import Composition, Neighbouring
from fedlearn.privacy.require_dp_accounting import require_dp_accounting

SamplerName = Literal[
    "poisson", "uniform", "full", "round_robin", "min_separation"
]

# Between which data sets one accounts, and a phrase for people.
_KINDS: dict[str, tuple[Neighbouring, str]] = {
    "poisson": ("add-or-remove-one", "Poisson sampling of {k} in {n} clients"),
    "uniform": (
        "replace-one",
        "uniform sampling of exactly {k} in {n} clients",
    ),
    "full": ("add-or-remove-one", "all {n} clients in every round"),
    "round_robin": ("zero-out", "{k} of {n} clients in turn"),
    "min_separation": (
        "zero-out",
        "{k} of {n} clients, each at most once in {separation} rounds",
    ),
}


@dataclasses.dataclass(frozen=True)
class Participation:
    """Who of how many clients takes part: what a sampler tells the accounting.

    For noise that is drawn anew each round `compose` says how much the
    sampling hides; for noise that is correlated over rounds it counts how
    often a client takes part at most (`max_participations`), and how many
    rounds lie between (`min_separation`).

    Which data sets are neighbours goes with the sampling:

    * `"poisson"`, each client by itself with one probability, and `"full"`,
      all clients in every round: a client is there or not.
    * `"uniform"`, so many clients, all sets equally likely: the number of
      clients is public, so neighbours differ in one client's data
      ("replace-one"). Replacing an update of norm 1 moves the sum by up to 2,
      and so noise multipliers count half: theorem 27 of Wang et al. 2019,
      "Subsampled Rényi differential privacy and analytical moments
      accountant", https://arxiv.org/abs/1808.00087, takes the noise relative
      to what a replacement moves.
    * `"round_robin"`, everyone in turn, and `"min_separation"`: a client's
      data are there or not ("zero-out" of Kairouz et al. 2021,
      https://arxiv.org/abs/2103.00039, definition 1.1): without its place in
      the order all others would move. Sampling doesn't amplify: a client
      counts as often as it can take part at most.

    Args:
        sampler: One of these names, those of `fedlearn.samplers`.
        population: Number of clients.
        clients_per_round: How many take part, with `"poisson"` on average;
            None, with `"full"`, for all.
        min_separation: Least distance of two rounds of one client, for
            `"min_separation"` only; otherwise it follows.

    Raises:
        ValueError: If an argument is out of range, or goes with another
            sampler.

    Example:

    >>> turns = Participation("round_robin", 10, clients_per_round=4)
    >>> turns.min_separation, turns.max_participations(rounds=5)
    (2, 2)
    >>> print(turns.description)
    4 of 10 clients in turn
    """

    sampler: SamplerName
    population: int
    clients_per_round: Any = None
    min_separation: Any = None

    def __post_init__(self) -> None:
        sampler, wanted = self.sampler, self.clients_per_round
        if sampler not in _KINDS:
            raise ValueError(
                f"sampler is {sampler!r}, which has no accounting. Expected "
                f"one of {', '.join(map(repr, _KINDS))}. For a sampler of "
                "your own, give it a `participation` and use `Guarantee`."
            )
        n = checks.whole("population", self.population, 1, "number of clients")
        if sampler == "full":
            if wanted not in (None, n):
                raise ValueError(
                    f"clients_per_round is {wanted!r}, but with "
                    f'sampler="full" all of the {n:,} clients take part. Leave '
                    "it at that number or name another sampler."
                )
            wanted = n
        elif sampler != "poisson":
            wanted = checks.whole("clients_per_round", wanted)
        if not 0 < wanted <= n:
            raise ValueError(
                f"clients_per_round is {wanted!r}, but the population has "
                f"{n:,} clients. Expected above 0 and at most {n:,}."
            )
        separation = self.min_separation
        if (sampler == "min_separation") != (separation is not None):
            raise ValueError(
                f"sampler is {sampler!r} and min_separation {separation!r}. "
                'Give min_separation with sampler="min_separation", and only '
                "then."
            )
        if separation is not None:
            separation = check_separation(n, wanted, separation)
        elif sampler == "round_robin":
            separation = n // wanted
        object.__setattr__(self, "clients_per_round", wanted)
        object.__setattr__(self, "min_separation", separation or 1)

    @property
    def neighbouring(self) -> Neighbouring:
        """Between which data sets `compose` accounts."""
        return _KINDS[self.sampler][0]

    @property
    def description(self) -> str:
        """A phrase for people: "Poisson sampling of 10 in 100 clients"."""
        wanted = self.clients_per_round
        if self.sampler == "min_separation" and self.min_separation == 1:
            return (
                f"any {wanted:,} of {self.population:,} clients, which may be "
                "the same in every round"
            )
        return _KINDS[self.sampler][1].format(
            k=f"{wanted:,g}" if self.sampler == "poisson" else f"{wanted:,}",
            n=f"{self.population:,}",
            separation=f"{self.min_separation:,}",
        )

    @property
    def cohort_sizes(self) -> tuple[int, int]:
        """The least and the largest number of clients that a round may have."""
        if self.sampler == "poisson":
            return 0, self.population
        return self.clients_per_round, self.clients_per_round

    def max_participations(self, rounds: int) -> int:
        """How often one client takes part in the first rounds, at most."""
        if self.sampler == "round_robin":
            # Of the T * m turns in T rounds, every N-th is the same client's.
            return -(-rounds * self.clients_per_round // self.population)
        return -(-rounds // self.min_separation)

    def compose(self, event: Any, rounds: int) -> Composition:
        """What `rounds` rounds release.

        Args:
            event: A `dp_accounting.DpEvent`: what a round releases of those
                who take part in it. Its noise multipliers are the noise's
                standard deviation over the largest norm that one client adds
                to a sum.
            rounds: A number of rounds.
        """
        if self.sampler == "poisson":
            dp = require_dp_accounting()
            probability = self.clients_per_round / self.population
            event = dp.PoissonSampledDpEvent(probability, event)
        elif self.sampler == "uniform":
            dp = require_dp_accounting()
            if not isinstance(event, dp.GaussianDpEvent):
                raise ValueError(
                    "Uniform sampling can be accounted for with Gaussian noise "
                    f"only. Received: {event}. Use the sampler `Poisson`."
                )
            event = dp.SampledWithoutReplacementDpEvent(
                self.population,
                self.clients_per_round,
                dp.GaussianDpEvent(event.noise_multiplier / 2),
            )
        times = self.max_participations(rounds)
        return Composition(event, times, self.neighbouring)


def check_separation(population: int, wanted: int, separation: Any) -> int:
    """A `min_separation` for which there are enough clients."""
    separation = checks.whole("min_separation", separation)
    needed = wanted * separation
    if needed > population:
        raise ValueError(
            f"{wanted:,} clients per round, each at most once in "
            f"{separation:,} rounds, need {needed:,} clients, but there are "
            f"{population:,}. Lower clients_per_round to "
            f"{population // separation:,} or min_separation to "
            f"{population // wanted:,}."
        )
    return separation
