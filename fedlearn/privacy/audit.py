"""Epsilon as an attack on one run finds it."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlearn import checks
from fedlearn.privacy.accountant import check_delta
from fedlearn.privacy.require_dp_accounting import require_dp_accounting

_FALSE_POSITIVE_RATES = tuple(10.0**-k for k in range(1, 11))


class CanaryEpsilon(NamedTuple):
    """What canaries tell of epsilon.

    Attributes:
        estimate: From Gaussians that fit: near the truth, on either side, and
            with few canaries rather above. No bound: a claim below it is not
            refuted.
        lower_bound: What epsilon is at least, with the confidence asked for.
    """

    estimate: float
    lower_bound: float


def canary_epsilon(
    cosines: Sequence[float] | np.ndarray,
    dimension: int,
    delta: float,
    confidence: float = 0.95,
) -> CanaryEpsilon:
    """Epsilon from canaries: clients that send nothing but random directions.

    Andrew et al. 2024, "One-shot empirical privacy estimation for federated
    learning", arXiv:2302.03098. In one run some further clients send the
    longest update that is let through, each in a direction of its own, which
    is then looked for in the change of the weights. One that wasn't there has
    a cosine of mean 0 and deviation `1 / sqrt(dimension)` with anything.

    The estimate is the epsilon between that and a Gaussian with the mean and
    deviation of the cosines. For one Gaussian sum it tends to the truth as
    dimension and canaries grow (with 400 it says a tenth too much); where
    clients are sampled it may be far too low.

    The lower bound fits nothing: a cosine above a threshold is a guess that
    the canary was there, and `right <= exp(epsilon) * wrong + delta`. How
    often it is wrong is known exactly, and how often right has a lower limit
    (Clopper and Pearson 1934); it is the best of ten thresholds, whose limits
    hold all at once. A bound above a claimed epsilon refutes the claim; a
    small one proves nothing, as a better attack may find more. Canaries are
    taken for independent: far fewer than `dimension`.

    Args:
        cosines: Of each canary's direction, drawn uniformly from all, and the
            change of the weights: shape `(canaries,)`.
        dimension: How many numbers an update has.
        delta: Above 0 and below 1.
        confidence: With which the lower bound holds.

    Returns:
        The estimate and the lower bound, each 0 or more.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: If dp-accounting isn't installed.

    Example: 1,000 canaries, each in the sum with length 1 and noise 0.5.

    >>> rng = np.random.default_rng(0)
    >>> cosines = (1 + 0.5 * rng.normal(size=1000)) / (0.5 * 100_000**0.5)
    >>> found = canary_epsilon(cosines, 100_000, delta=1e-5)
    >>> [round(float(value), 1) for value in found]
    [10.6, 5.9]
    """
    cosines = _checked(cosines, dimension, confidence)
    check_delta(delta)
    require_dp_accounting()  # scipy comes with it
    scaled = cosines * math.sqrt(dimension)
    mean, deviation = float(np.mean(scaled)), float(np.std(scaled, ddof=1))
    return CanaryEpsilon(
        estimate=max(
            _between((mean, deviation), (0.0, 1.0), delta),
            _between((0.0, 1.0), (mean, deviation), delta),
        ),
        lower_bound=_at_least(cosines, dimension, delta, 1 - confidence),
    )


def _at_least(
    cosines: np.ndarray, dimension: int, delta: float, error: float
) -> float:
    """What epsilon is at least, but for a probability of `error`."""
    from scipy import stats

    # (1 + cosine) / 2 of a random direction has this distribution, exactly.
    half = (dimension - 1) / 2
    null = stats.beta(half, half)
    best = 0.0
    for wrong in _FALSE_POSITIVE_RATES:
        hits = int(np.sum(cosines > 2 * null.isf(wrong) - 1))
        if not hits:
            break
        right = stats.beta.ppf(
            error / len(_FALSE_POSITIVE_RATES), hits, len(cosines) - hits + 1
        )
        if right > delta:
            best = max(best, math.log((right - delta) / wrong))
    return best


def _between(
    p: tuple[float, float], q: tuple[float, float], delta: float
) -> float:
    """The least epsilon with `P(A) <= exp(epsilon) * Q(A) + delta` for all A.

    `p` and `q` are the means and deviations of two Gaussians.
    """
    from scipy import optimize

    if not (p[1] and q[1]):
        return math.inf
    # Beyond 12 deviations there is less than any delta in use.
    x = p[0] + p[1] * np.linspace(-12, 12, 20_001)
    density = np.exp(_log_density(x, *p))
    loss = _log_density(x, *p) - _log_density(x, *q)

    def left_over(epsilon: float) -> float:
        # P where it is above exp(epsilon) * Q, less that.
        excess = -np.expm1(np.minimum(epsilon - loss, 0))
        return float(np.trapezoid(density * excess, x))

    if left_over(0) <= delta:
        return 0.0
    return float(optimize.brentq(lambda e: left_over(e) - delta, 0, loss.max()))


def _log_density(x: np.ndarray, mean: float, deviation: float) -> np.ndarray:
    scaled = (x - mean) / deviation
    return -(scaled**2) / 2 - math.log(deviation * math.sqrt(2 * math.pi))


def _checked(cosines: Any, dimension: int, confidence: float) -> np.ndarray:
    array = np.asarray(cosines, np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(
            "`cosines` must be one number for each of 2 or more canaries. "
            f"Received an array of shape {array.shape}."
        )
    if not np.all(np.abs(array) <= 1):
        wrong = array[~(np.abs(array) <= 1)][0]
        raise ValueError(
            f"`cosines` contains {wrong}. Expected numbers from -1 to 1: the "
            "inner product divided by both lengths. NaN comes from weights "
            "that did not change, or are not finite."
        )
    checks.whole("dimension", dimension, 2, "the number of weights")
    checks.fraction("confidence", confidence, one=False)
    return array
