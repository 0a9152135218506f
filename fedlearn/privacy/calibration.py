"""The least noise for a budget."""

import functools
import math
from collections.abc import Callable
from typing import Any

from fedlearn.privacy.accountant import (
    AccountantName,
    check_accountant,
    check_delta,
    check_supports,
    tightest,
)
from fedlearn.privacy.epsilon import SamplerName, participation_of
from fedlearn.privacy.gaussian import Gaussian
from fedlearn.privacy.guarantee import Guarantee

# Of the noise multiplier; brentq gets there in a handful of steps.
_TOLERANCE = 1e-5
_LARGEST = 2.0**24


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
    one asked for, and with `1e-5` less it would be more.

    Args:
        epsilon: Above 0.
        rounds: Number of rounds, 1 or more.
        delta: As the others, see `compute_epsilon`.
        population: See there.
        clients_per_round: See there.
        sampler: See there.
        accountant: See there. With PLD it takes some ten times as long as
            one `compute_epsilon`.
        min_separation: See there.
        mechanism: See there.

    Raises:
        ValueError: If an argument is out of range, the accountant can't
            account for the sampler, or no noise suffices.

    >>> noise_multiplier = calibrate_noise_multiplier(
    ...     epsilon=2.0,
    ...     rounds=1000,
    ...     delta=1e-5,
    ...     population=10_000,
    ...     clients_per_round=100,
    ...     accountant="rdp",
    ... )
    >>> round(noise_multiplier, 3)
    1.022
    """
    if accountant is not None:
        check_accountant(accountant)
    check_delta(delta)
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon is {epsilon!r}. Expected a number above 0.")
    if rounds < 1:
        raise ValueError(f"rounds is {rounds!r}. Expected 1 or more.")
    participation = participation_of(
        sampler, population, clients_per_round, min_separation
    )

    def with_noise(noise_multiplier: float) -> Guarantee:
        return Guarantee(mechanism(noise_multiplier), participation, delta)

    def spent(noise_multiplier: float, name: AccountantName | None) -> float:
        return with_noise(noise_multiplier).epsilon(rounds, name)

    if accountant is not None:
        check_supports(accountant, with_noise(1.0).composition(rounds))

    enough = _search(lambda z: spent(z, "rdp"), epsilon, start=1.0, step=2.0)
    if (
        accountant == "rdp"
        or tightest(with_noise(enough).composition(rounds)) == "rdp"
    ):
        return enough
    # PLD asks for some percent less, and takes seconds: it is never tried far
    # from the answer.
    return _search(lambda z: spent(z, None), epsilon, start=enough, step=1.1)


def _search(
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
