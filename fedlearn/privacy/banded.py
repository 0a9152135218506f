"""Noise correlated over rounds by a banded Toeplitz matrix.

With a strategy matrix `C`, lower triangular, the noise of the rounds is
`C^-1 w`, `w` independent and Gaussian: what a round adds in noise, later
ones take back in part. `C` is told by `c`, its first column.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedlearn import checks
from fedlearn.privacy.mechanism import Correlated, check_noise_multiplier
from fedlearn.privacy.participation import Participation
from fedlearn.privacy.require_dp_accounting import require_dp_accounting


class BandedMatrix(Correlated):
    """Gaussian noise made by a banded Toeplitz strategy.

    Choquette-Choo et al. 2023, "(Amplified) banded matrix factorization: a
    unified approach to private training", https://arxiv.org/abs/2306.08153,
    without the amplification: a client counts as often as it can take part at
    most. The paper proves it for Poisson sampling inside of each group of
    clients, of which there are as many as bands; the sampler `MinSeparation`
    draws a fixed number of a group, and that isn't proven to be as good.
    Neighbours: "zero-out".

    Args:
        noise_multiplier: Standard deviation of `w` over the clip norm. It is
            not relative to the strategy's sensitivity: that grows with the
            rounds, and is accounted for.
        coefficients: First column of the strategy, without its zeros.
    """

    def __init__(
        self, noise_multiplier: float, coefficients: Sequence[float]
    ) -> None:
        self.noise_multiplier = check_noise_multiplier(noise_multiplier)
        self.coefficients = tuple(map(float, coefficients))

    def sensitivity(self, participation: Participation, rounds: int) -> float:
        return toeplitz_sensitivity(
            self.coefficients,
            rounds,
            participation.min_separation,
            participation.max_participations(rounds),
        )

    def __repr__(self) -> str:
        return (
            f"banded matrix noise, multiplier {self.noise_multiplier:.4g}, "
            f"{len(self.coefficients)} bands"
        )


def toeplitz_sensitivity(
    coefficients: Sequence[float] | np.ndarray,
    rounds: int,
    min_separation: int,
    max_participations: int | None = None,
) -> float:
    """How far one client with updates of norm 1 moves `C x`, in L2.

    The largest norm of a sum of columns of `C`, each times a vector of norm
    1, over the sets of rounds in which a client may take part. With columns
    that don't overlap, or coefficients that are positive and never rise,
    taking part as early and as often as allowed is the worst (Kalinin and
    Lampert 2024, "Banded square root matrix factorization for differentially
    private model training", https://arxiv.org/abs/2405.13763, theorem 2).

    Args:
        coefficients: `(bands,)`; first column of the strategy.
        rounds: Number of rows and columns.
        min_separation: Least distance of two rounds of one client.
        max_participations: How often it takes part at most; `None`: as often
            as the separation allows.

    Raises:
        ValueError: If an argument is out of range, or columns overlap and
            the coefficients rise or are negative.

    >>> toeplitz_sensitivity([1.0], rounds=9, min_separation=1)
    3.0
    >>> toeplitz_sensitivity([3.0, 4.0], rounds=9, min_separation=9)
    5.0
    """
    c = np.asarray(coefficients, np.float64)
    if c.ndim != 1 or not len(c) or not np.isfinite(c).all():
        raise ValueError(
            "coefficients must be a list of one or more finite numbers. "
            f"Received: {coefficients!r}."
        )
    checks.whole("rounds", rounds)
    checks.whole("min_separation", min_separation)
    falling = (c >= 0).all() and (np.diff(c) <= 0).all()
    often = -(-rounds // min_separation)
    if max_participations is not None:
        checks.whole("max_participations", max_participations)
        often = min(often, max_participations)
    if often > 1 and len(c) > min_separation and not falling:
        raise ValueError(
            f"{len(c)} bands overlap where a client may come again after "
            f"{min_separation} rounds, and then the sensitivity is known only "
            "for coefficients that are 0 or more and never rise. Use fewer "
            "bands, a longer separation or `square_root_coefficients`."
        )
    moved = np.zeros(rounds)
    for start in range(0, often * min_separation, min_separation):
        column = c[: rounds - start]
        moved[start : start + len(column)] += column
    return float(np.linalg.norm(moved))


def square_root_coefficients(bands: int) -> np.ndarray:
    """The strategy "banded square root", columns of norm 1.

    `C C` would be the matrix of prefix sums if it weren't cut to bands: the
    coefficients of `(1 - x)^(-1/2)` (Kalinin and Lampert 2024,
    https://arxiv.org/abs/2405.13763). They are positive and fall, so
    `toeplitz_sensitivity` knows them with any separation. With one band this
    is independent noise.

    Args:
        bands: Number of coefficients, 1 or more.

    Returns:
        `(bands,)` float64 array, in closed form: the same on every machine.

    >>> c = square_root_coefficients(3)
    >>> [round(float(x / c[0]), 3) for x in c]
    [1.0, 0.5, 0.375]
    """
    checks.whole("bands", bands)
    j = np.arange(1, bands)
    c = np.concatenate([[1.0], np.cumprod((2 * j - 1) / (2 * j))])
    return c / np.linalg.norm(c)


def optimal_coefficients(bands: int, rounds: int) -> np.ndarray:
    """The Toeplitz strategy with the least error of the sums so far.

    Minimises `mean_squared_error` from the banded square root on, for clients
    that come again after `bands` rounds or more, as McKenna 2024, "Scaling up
    the banded matrix factorization mechanism for differentially private ML",
    https://arxiv.org/abs/2405.15913, does. Needs SciPy, which comes with the
    extra `privacy`; its last digits may differ between machines, so keep the
    coefficients with the run.

    Args:
        bands: Number of coefficients, 1 to `rounds`.
        rounds: Number of rounds for which to optimise.

    Returns:
        `(bands,)` float64 array of norm 1.

    >>> best = optimal_coefficients(bands=4, rounds=32)
    >>> known = square_root_coefficients(4)
    >>> mean_squared_error(best, 32) < mean_squared_error(known, 32)
    True
    """
    if not 1 <= bands <= rounds:
        raise ValueError(
            f"bands is {bands!r}. Expected 1 to the number of rounds, "
            f"{rounds!r}."
        )
    require_dp_accounting()
    from scipy import optimize, signal

    weights = np.arange(rounds, 0, -1.0) / rounds

    def loss(tail: np.ndarray) -> tuple[float, Any]:
        c = np.concatenate([[1.0], tail])
        g = signal.lfilter([1.0], c, np.ones(rounds))
        error = float(weights @ g**2)
        # The derivative of a / c is -a / c^2: once more through the filter,
        # backwards in time.
        h = signal.lfilter([1.0], c, (2 * weights * g)[::-1])[::-1]
        slope = -np.array([h[k:] @ g[: rounds - k] for k in range(1, bands)])
        norm = float(c @ c)
        gradient = 2 * tail * error / norm / error + slope / error
        return math.log(norm) + math.log(error), gradient

    start = square_root_coefficients(bands)
    if bands == 1:
        return start
    # The scale of `c` doesn't matter, so the first coefficient is fixed.
    found = optimize.minimize(
        loss, start[1:] / start[0], jac=True, method="L-BFGS-B"
    )
    c = np.concatenate([[1.0], found.x])
    return c / np.linalg.norm(c)


def mean_squared_error(
    coefficients: Sequence[float] | np.ndarray, rounds: int
) -> float:
    """Variance of the noise in the sum of rounds 1 to t, mean over t.

    With noise scaled for a client that takes part once (the column's norm),
    and unit noise multiplier and clip norm. Independent noise, `[1.0]`, has
    `(rounds + 1) / 2`.

    >>> mean_squared_error([1.0], rounds=9)
    5.0
    """
    c = np.asarray(coefficients, np.float64)
    g = np.ones(rounds)
    for t in range(rounds):
        past = g[max(0, t - len(c) + 1) : t][::-1]
        g[t] = (1.0 - c[1 : len(past) + 1] @ past) / c[0]
    # Entry (s, t) of A C^-1 is g[s - t].
    return float(c @ c * (np.arange(rounds, 0, -1) @ g**2) / rounds)
