import functools
from collections.abc import Callable
from typing import Any

from fedlearn import checks
from fedlearn.privacy.accountant import (
    ACCOUNTANTS,
    Accountant,
    AccountantName,
    check_delta,
)
from fedlearn.privacy.guarantee import Guarantee
from fedlearn.privacy.mechanism import Gaussian
from fedlearn.privacy.participation import Participation, SamplerName

# Of the noise multiplier; brentq gets there in a handful of steps.
_TOLERANCE = 1e-5
_LARGEST = 2.0**24


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

    Which data sets are neighbours depends on the sampler, see
    `Participation`; `Guarantee.statement` and `plan` say it.

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
            is.
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

    >>> plan = dict(rounds=1000, population=10_000, clients_per_round=100)
    >>> epsilon = compute_epsilon(
    ...     noise_multiplier=1.0, delta=1e-5, accountant="rdp", **plan)
    >>> round(epsilon, 4)
    2.1014
    """
    part = Participation(sampler, population, clients_per_round, min_separation)
    guarantee = Guarantee(mechanism(noise_multiplier), part, delta)
    return guarantee.epsilon(rounds, accountant)


def calibrate_noise_multiplier(
    *,
    epsilon: float,
    rounds: int,
    delta: float,
    population: int,
    clients_per_round: float,
    sampler: SamplerName = "poisson",
    accountant: AccountantName | None = None,
    min_separation: int | None = None,
    mechanism: Callable[[float], Any] = Gaussian,
) -> float:
    """The least noise multiplier with which a run keeps to a budget.

    The inverse of `compute_epsilon`: with the result, epsilon is at most the
    one asked for, and with `1e-5` less it would be more. With PLD it takes
    some ten times as long as one `compute_epsilon`.

    Args:
        epsilon: Above 0.
        rounds: Number of rounds, 1 or more.
        delta: This and all others as for `compute_epsilon`.

    Raises:
        ValueError: If an argument is out of range, the accountant can't
            account for the sampler, or no noise suffices.

    >>> plan = dict(rounds=1000, population=10_000, clients_per_round=100)
    >>> z = calibrate_noise_multiplier(
    ...     epsilon=2.0, delta=1e-5, accountant="rdp", **plan)
    >>> round(z, 3)
    1.022
    """
    checks.one_of("accountant", accountant, ACCOUNTANTS)
    checks.positive("epsilon", epsilon)
    checks.whole("rounds", rounds)
    check_delta(delta)
    part = Participation(sampler, population, clients_per_round, min_separation)

    def with_noise(noise_multiplier: float) -> Guarantee:
        return Guarantee(mechanism(noise_multiplier), part, delta)

    def spent(noise_multiplier: float, name: AccountantName | None) -> float:
        return with_noise(noise_multiplier).epsilon(rounds, name)

    def refusal(noise_multiplier: float) -> str:
        return Accountant().refusal(
            with_noise(noise_multiplier).composition(rounds)
        )

    if accountant == "pld" and (why := refusal(1.0)):
        raise ValueError(why)
    enough = least_noise(
        lambda z: spent(z, "rdp"), epsilon, start=1.0, step=2.0
    )
    if accountant == "rdp" or refusal(enough):
        return enough
    # PLD asks for some percent less, and takes seconds: it is never tried far
    # from the answer.
    return least_noise(
        lambda z: spent(z, None), epsilon, start=enough, step=1.1
    )


def least_noise(
    spent: Callable[[float], float], budget: float, start: float, step: float
) -> float:
    """The least noise with which no more than the budget is spent."""
    spent = functools.cache(spent)  # PLD: a second each
    low = high = start
    if spent(start) > budget:
        while spent(high) > budget:
            low, high = high, high * step
            if high > _LARGEST:
                raise ValueError(
                    f"No noise was found with which epsilon is {budget!r} or "
                    f"less (tried up to {low:,.0f}). Expected a larger "
                    "epsilon or delta, or fewer rounds."
                )
    else:
        while spent(low) <= budget:
            low, high = low / step, low
            if low < _TOLERANCE:
                return high
    from scipy import optimize  # comes with dp-accounting

    found = optimize.brentq(
        lambda z: spent(z) - budget, low, high, xtol=_TOLERANCE / 2
    )
    # The root is within the tolerance, on either side.
    while spent(found) > budget:
        found += _TOLERANCE / 2
    return float(found)
