"""Epsilon of a plan: before a run, or of a paper's numbers."""

from collections.abc import Callable
from typing import Any, Literal

from fedlearn.privacy.accountant import AccountantName
from fedlearn.privacy.gaussian import Gaussian
from fedlearn.privacy.guarantee import Guarantee, Statement
from fedlearn.privacy.participation import (
    Everyone,
    Participation,
    PoissonSampling,
    Separated,
    Turns,
    UniformSampling,
)

SamplerName = Literal[
    "poisson", "uniform", "full", "round_robin", "min_separation"
]

_BY_NAME: dict[str, type[Participation]] = {
    "poisson": PoissonSampling,
    "uniform": UniformSampling,
    "full": Everyone,
    "round_robin": Turns,
    "min_separation": Separated,
}


def compute_epsilon(
    *,
    noise_multiplier: float,
    rounds: int,
    delta: float,
    population: int,
    clients_per_round: float,
    sampler: SamplerName = "poisson",
    accountant: AccountantName | None = None,
    min_separation: int | None = None,
    mechanism: Callable[[float], Any] = Gaussian,
) -> float:
    """Epsilon of a run, for a client with all of its data.

    Which data sets are neighbours depends on the sampler; `describe` says it.
    "poisson" and "full": a client is there or not (add or remove one).
    "uniform": a client has other data (replace one), which moves a sum twice
    as far. "round_robin" and "min_separation": a client's data are there or
    not (zero out), and sampling doesn't amplify: a client counts as often as
    it can take part at most.

    Args:
        noise_multiplier: The noise's standard deviation over the clip norm,
            both of the sum.
        rounds: Number of rounds.
        delta: Above 0, and well below `1 / population`.
        population: Number of clients that may be drawn.
        clients_per_round: How many take part; with "poisson" on average.
        sampler: `"poisson"`, `"uniform"`, `"full"`, `"round_robin"` or
            `"min_separation"`: as in `fedlearn.samplers`.
        accountant: `"pld"`, tight, takes seconds; or `"rdp"`, an upper bound
            that is a bit higher, takes milliseconds. "uniform" needs "rdp",
            and so does very little noise. `None` for the tightest that there
            is; `describe` names it.
        min_separation: With that sampler, the least distance of two rounds
            of one client.
        mechanism: Makes the mechanism of a noise multiplier: `Gaussian`,
            noise drawn anew each round, or for instance
            `lambda z: Tree(z, restart_every=100)`.

    Returns:
        Epsilon; infinite without noise, 0 after 0 rounds.

    Raises:
        ValueError: If an argument is out of range, or the accountant can't
            account for the sampler.

    >>> epsilon = compute_epsilon(
    ...     noise_multiplier=1.0,
    ...     rounds=1000,
    ...     delta=1e-5,
    ...     population=10_000,
    ...     clients_per_round=100,
    ...     accountant="rdp",
    ... )
    >>> round(epsilon, 4)
    2.1014
    """
    participation = participation_of(
        sampler, population, clients_per_round, min_separation
    )
    guarantee = Guarantee(mechanism(noise_multiplier), participation, delta)
    return guarantee.epsilon(rounds, accountant)


def describe(
    *,
    noise_multiplier: float,
    rounds: int,
    delta: float,
    population: int,
    clients_per_round: float,
    sampler: SamplerName = "poisson",
    accountant: AccountantName | None = None,
    min_separation: int | None = None,
    mechanism: Callable[[float], Any] = Gaussian,
) -> Statement:
    """`compute_epsilon`, with all that it takes to mean something.

    Args and errors as there; `accountant=None` takes the tightest.

    >>> print(
    ...     describe(
    ...         noise_multiplier=8.0,
    ...         rounds=50,
    ...         delta=1e-3,
    ...         population=60,
    ...         clients_per_round=60,
    ...         sampler="full",
    ...         accountant="rdp",
    ...     )
    ... )
    epsilon 3.045 at delta 0.001 after 50 rounds, for a client with all of its
    data (add-or-remove-one: one client is there or not); all 60 clients in
    every round; Gaussian noise, multiplier 8; accountant RDP
    """
    participation = participation_of(
        sampler, population, clients_per_round, min_separation
    )
    guarantee = Guarantee(mechanism(noise_multiplier), participation, delta)
    return guarantee.statement(rounds, accountant)


def participation_of(
    sampler: str,
    population: int,
    clients_per_round: float,
    min_separation: int | None = None,
) -> Participation:
    """The participation of a sampler by its name."""
    if sampler not in _BY_NAME:
        known = ", ".join(map(repr, _BY_NAME))
        raise ValueError(
            f"sampler is {sampler!r}, which has no accounting. Expected one "
            f"of {known}. For a sampler of your own, give it a "
            "`participation` and use `Guarantee`."
        )
    if (sampler == "min_separation") != (min_separation is not None):
        raise ValueError(
            f"sampler is {sampler!r} and min_separation {min_separation!r}. "
            'Give min_separation with sampler="min_separation", and only then.'
        )
    if min_separation is not None:
        return Separated(population, clients_per_round, min_separation)
    return _BY_NAME[sampler](population, clients_per_round)
