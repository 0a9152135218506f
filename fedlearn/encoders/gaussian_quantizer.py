"""Normally distributed numbers in a few bits."""

import functools
import math
import statistics
from typing import Any

import numpy as np
from keras import ops

# For 1 to 8 bits, what makes the expected squared error smallest; with ever
# more bits it goes to the root of 3.
_DEVIATIONS = (1.0, 1.4553, 1.5273, 1.5883, 1.6384, 1.6751, 1.699, 1.7133)


@functools.cache
def levels(bits: int) -> np.ndarray:
    """The numbers that standard normal ones are rounded to, increasing float32.

    The edges of the cells divide a wider normal distribution into equal
    shares, so that a few operations find a number's cell. With many bits the
    best has the deviation sqrt(3) (Panter and Dite 1951, "Quantization
    distortion in pulse-count modulation with nonuniform spacing of levels").
    With 1 to 8 bits expected squared errors are at most 1, 1, 1, 1, 1, 2, 2
    and 4 percent above those of the best levels (Lloyd 1982, "Least squares
    quantization in PCM"; Max 1960, "Quantizing for minimum distortion").
    """
    places = _places(bits)
    return np.polynomial.Polynomial(_coefficients(bits))(
        places**2
    ) * places.astype(np.float32)


def codes(numbers: Any, bits: int) -> Any:
    """Which of `levels(bits)` each number becomes, whole float32 numbers."""
    if bits == 1:
        return ops.cast(numbers >= 0, "float32")
    half = 2.0 ** (bits - 1)
    scale = 1 / (_DEVIATIONS[bits - 1] * math.sqrt(2))
    shares = ops.erf(numbers * scale) * half + half
    return ops.floor(ops.minimum(shares, 2 * half - 0.5))


def values(codes: Any, bits: int) -> Any:
    """The levels of codes, by a polynomial: faster than looking them up."""
    count = 2**bits
    places = codes * (2 / count) + (1 / count - 1)
    coefficients = _coefficients(bits)
    result = coefficients[-1]
    if bits > 1:
        squares = places * places
        for coefficient in reversed(coefficients[:-1]):
            result = result * squares + coefficient
    return places * result


def _places(bits: int) -> np.ndarray:
    # The middles of equal parts of the interval from -1 to 1.
    count = 2**bits
    return (2 * np.arange(count) + 1) / count - 1


@functools.cache
def _coefficients(bits: int) -> tuple[float, ...]:
    # An odd polynomial through the means of the cells of positive numbers,
    # or near them where there are more cells than coefficients: as near as
    # they are likely.
    half = 2 ** (bits - 1)
    wide = statistics.NormalDist(0, _DEVIATIONS[bits - 1])
    normal = statistics.NormalDist()
    edges = [wide.inv_cdf(0.5 + i / (2 * half)) for i in range(half)]
    shares = -np.diff([1 - normal.cdf(e) for e in edges] + [0])
    means = -np.diff([normal.pdf(e) for e in edges] + [0]) / shares
    places = _places(bits)[half:]
    powers = places[:, None] ** (2 * np.arange(min(bits, half)) + 1)
    weights = np.sqrt(shares)
    solution, *_ = np.linalg.lstsq(
        powers * weights[:, None], means * weights, rcond=None
    )
    return tuple(map(float, solution))
