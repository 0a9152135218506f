"""Noise that the last bits of a sum don't betray.

Which sums of a float and of floating-point noise are possible at all depends
on the float's last bits (Mironov 2012, "On significance of the least
significant bits for differential privacy"). So both are rounded to multiples
of one step first, 2**-24 deviations of the noise, and added as integers. A
value on the grid plus rounded noise is the rounded sum of that value and
Gaussian noise: made of the outcome of a Gaussian mechanism, and telling no
more. Rounding may move the value, by less than a step in each number between
neighbours; `standard_deviation` makes up for that.

What is left to trust is that NumPy's normal numbers, of 53 bits, are normal.
"""

import math
from typing import Any

import numpy as np
from keras import ops

from fedlearn.encoders import norms

STEPS_PER_DEVIATION = 2.0**24

# int32 holds a value of 64 deviations and noise of 64 more.
_LARGEST_STEPS = 2**30

# Steps of less would not be normal numbers in float32, or values too many
# steps for it.
_LEAST_DEVIATION = 2.0**-100
_LEAST_MULTIPLIER = 2.0**-64


def steps_dtype(array: Any) -> str:
    """In which dtype noise for an array (or its spec) is kept, as steps."""
    wide = norms.wide_dtype([array])
    return "float64" if wide == "float64" else "int32"


def to_steps(noise: np.ndarray, dtype: str) -> np.ndarray:
    """Noise, in units of its deviation, as a whole number of steps.

    Raises ValueError for more than 64 deviations, which come where noise that
    is correlated over rounds isn't scaled to about 1.
    """
    steps = np.rint(noise * STEPS_PER_DEVIATION)
    if dtype == "int32" and (np.abs(steps) >= _LARGEST_STEPS).any():
        raise ValueError(
            "The noise of a round is more than 64 times as large as the noise "
            "multiplier says. Scale what correlates it over rounds, such as "
            "the coefficients of BandedMatrixNoise, to a norm of 1, and the "
            "multiplier with it."
        )
    return np.asarray(steps, dtype)


def draw(shape: Any, rng: np.random.Generator) -> np.ndarray:
    """Standard normal numbers, float64: finer than any step."""
    return rng.standard_normal(tuple(map(int, shape)))


def standard_deviation(noise_multiplier: float, bound: Any, size: int) -> Any:
    """The deviation of noise for a value that is rounded to the grid.

    A client moves the value by a vector of norm `bound`, and the rounded one
    by `bound + step * sqrt(size)` at most, where `step` is the deviation over
    `STEPS_PER_DEVIATION`. With a noise multiplier of 1 and a million numbers
    that is 0.006 % more. Raises ValueError if the steps would be as long as
    what they hide.
    """
    multiplier = max(noise_multiplier, _LEAST_MULTIPLIER)
    rounding = multiplier * math.sqrt(size) / STEPS_PER_DEVIATION
    if rounding > 0.5:
        raise ValueError(
            f"A noise multiplier of {noise_multiplier:g} on {size:,} numbers "
            "is too much for the resolution of float32. Expected at most "
            f"{0.5 * STEPS_PER_DEVIATION / math.sqrt(size):,.4g}."
        )
    std = ops.cast(multiplier / (1 - rounding) * bound, "float32")
    return ops.maximum(std, np.float32(_LEAST_DEVIATION))


def add(value: Any, steps: Any, std: Any) -> Any:
    """A value with noise (of `to_steps`), both rounded to steps.

    >>> noisy = add(ops.array([1.0, 2.0]), np.array([0, 2**23], "int32"), 2.0)
    >>> ops.convert_to_numpy(noisy).tolist()
    [1.0, 3.0]
    """
    wide = norms.widened_array(value)
    step = ops.cast(std, wide.dtype) / STEPS_PER_DEVIATION
    # A product with the step comes last, so that it is of the sum alone. A
    # sum of floats is rounded as a whole, which is as good.
    at = ops.round(wide / step)
    if steps_dtype(value) == "float64":
        return (at + steps) * step
    near = ops.abs(at) < _LARGEST_STEPS
    whole = ops.cast(ops.where(near, at, ops.zeros_like(at)), "int32") + steps
    # Farther away floats are multiples of 64 steps: what is rounded off the
    # noise to be one as well is independent of the value.
    total = ops.where(
        near, ops.cast(whole, wide.dtype), at + ops.cast(steps, wide.dtype)
    )
    return ops.cast(total * step, value.dtype)
