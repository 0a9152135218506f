"""Tables of discrete distributions, and samples that are drawn from them.

Random 32-bit words are looked up in a table of the distribution function, which
can be vectorised. So probabilities are multiples of `2**-32`: fine for
research; against somebody who counts on the last bits, take an exact sampler
(Canonne, Kamath and Steinke 2020, arXiv:2004.00010).
"""

import math
from typing import Any

import numpy as np
from keras import ops

_MAX_STD = 1e5


def discrete_gaussian(std: float) -> np.ndarray:
    """The probabilities of the discrete Gaussian on 0, 1, 2, ..., float64.

    `P(k)` is proportional to `exp(-k**2 / (2 std**2))` on all integers. Below 1
    its standard deviation is a little smaller than `std`.
    """
    k = np.arange(_reach(std))
    p = np.exp(-0.5 * (k / std) ** 2)
    return p / (p[0] + 2 * p[1:].sum())


def skellam(variance: float) -> np.ndarray:
    """The probabilities of the symmetric Skellam distribution on 0, 1, 2, ...

    `exp(-variance) I_k(variance)`, with the modified Bessel functions, which
    come from `I_(k-1) = I_(k+1) + (2 k / variance) I_k` from above, where it is
    stable (Miller's algorithm).
    """
    reach = _reach(math.sqrt(variance))
    p = np.zeros(2 * reach + 2)
    p[-2] = 1e-300
    for k in range(len(p) - 2, 0, -1):
        p[k - 1] = p[k + 1] + (2 * k / variance) * p[k]
        if p[k - 1] > 1e200:
            p[k - 1 :] *= 1e-250
    p = p[:reach]
    return p / (p[0] + 2 * p[1:].sum())


def _reach(std: float) -> int:
    if not 0 < std <= _MAX_STD:
        raise ValueError(
            f"A table of a discrete distribution of deviation {std:.4g} was "
            f"asked for; it must be above 0 and at most {_MAX_STD:.0e}. Take "
            "fewer bits, or a larger granularity."
        )
    # Skellam's tail is the heavier one, and is Poisson's where std is small.
    return math.ceil(10 * std + 40)


def thresholds(half: np.ndarray) -> np.ndarray:
    """The distribution function of a symmetric distribution, as a table.

    Of the probabilities of 0, 1, 2, ...: increasing int32 values for `-m` to
    `m - 1`, the first words that stand for a larger integer.
    """
    # Of -m, ..., -1, summed from the tail, where the numbers are small.
    below = np.cumsum(half[:0:-1])
    lower = np.round(below * 2.0**32).astype(np.int64)
    lower = lower[lower > 0]
    # P(X <= k) = 1 - P(X <= -k - 1): exactly as many words on both sides.
    table = np.concatenate([lower, 2**32 - lower[::-1]]) - 2**31
    return table.astype(np.int32)


def lookup(table: np.ndarray, words: Any) -> Any:
    """Int32 samples, of a table of `thresholds` and random int32 words."""
    above = ops.searchsorted(ops.convert_to_tensor(table), words, side="right")
    return ops.cast(above, "int32") - np.int32(len(table) // 2)
