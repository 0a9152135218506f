"""Logarithm, exponential and cosine with the same bits everywhere.

NumPy takes these from the machine's libraries and vector units, whose last
bit differs; and a last bit decides now and then whose an example is. Here
they are made of additions, multiplications, divisions and exact scalings by
powers of 2 alone, which IEEE 754 fixes to the bit. Logarithms and
exponentials are right to within 2 units in the last place of a float64,
cosines to within 3e-16.
"""

import math

import numpy as np

# ln 2 in two parts: a whole number times the first, up to 2**20, is exact.
_LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")


def _polynomial(x: np.ndarray, coefficients: list[float]) -> np.ndarray:
    """`coefficients[0] + coefficients[1] * x + ...`, by Horner's rule."""
    total = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def log(x: np.ndarray) -> np.ndarray:
    """The natural logarithm of positive finite float64 numbers."""
    mantissa, exponent = np.frexp(x)
    small = mantissa < math.sqrt(0.5)
    mantissa = np.where(small, 2 * mantissa, mantissa)
    exponent = exponent - small
    # ln(m) = 2 atanh(s) with |s| < 0.172, so s**26 is below 2**-60.
    s = (mantissa - 1) / (mantissa + 1)
    square = s * s
    tail = _polynomial(square, [2 / (2 * k + 1) for k in range(1, 13)])
    small_part = exponent * _LN2_LOW + s * square * tail
    return exponent * _LN2_HIGH + (2 * s + small_part)


def exp(x: np.ndarray) -> np.ndarray:
    """The exponential function of float64 numbers, at most 709."""
    # Below -746 the result is under the smallest float64.
    x = np.maximum(x, -800.0)
    power = np.rint(x / (_LN2_HIGH + _LN2_LOW))
    rest = (x - power * _LN2_HIGH) - power * _LN2_LOW
    # |rest| < 0.35, so rest**14 / 14! is below 2**-57.
    series = _polynomial(rest, [1 / math.factorial(k) for k in range(14)])
    return np.ldexp(series, power.astype(np.int64))


def cos_turns(x: np.ndarray) -> np.ndarray:
    """The cosine of float64 angles in full turns: `cos(2 * pi * x)`.

    Exactly 1, 0, -1 and 0 at the quarters of a turn.
    """
    # All of these steps are exact: the angle is folded into [0, 1/4] of a
    # turn, and from 1/8 on the sine of the rest takes over.
    folded = np.abs(x - np.rint(x))
    sign = np.where(folded > 0.25, -1.0, 1.0)
    folded = np.minimum(folded, 0.5 - folded)
    near_zero = folded <= 0.125
    angle = 2 * math.pi * np.where(near_zero, folded, 0.25 - folded)
    square = angle * angle
    cosine = _polynomial(
        square, [(-1) ** k / math.factorial(2 * k) for k in range(10)]
    )
    sine = angle * _polynomial(
        square, [(-1) ** k / math.factorial(2 * k + 1) for k in range(10)]
    )
    # Adding 0 turns -0.0 into 0.0.
    return sign * np.where(near_zero, cosine, sine) + 0.0


def normals(radii: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Standard normal numbers of uniform ones in (0, 1], by Box and Muller.

    `fedlearn.threefry.normals` makes such of tensors.
    """
    return np.sqrt(-2 * log(radii)) * cos_turns(turns)
