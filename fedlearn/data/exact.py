"""Dtypes that hold numbers as they are, or how to say that none does."""

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

# float32 has 24 bits for a number's digits: it holds all integers up to this.
_WHOLE = 1 << 24

# A column that is far from 0 for its spread (time stamps with fractions) loses
# more than this part of the spread.
_MOST_LOST = 2.0**-12
_DIGITS = 2.0**-23


def changed_by_float32(values: np.ndarray) -> np.ndarray | None:
    """Where `float32` doesn't hold `(n,)` numbers; None where it does.

    Whole numbers have to be exact. Fractions may be rounded, by up to a
    4,096th of the span of all (an eight-millionth of itself, if all are equal).

    >>> changed_by_float32(np.array([1, 16_777_216, 16_777_217]))
    array([False, False,  True])
    """
    if values.dtype.kind in "biu":
        if values.min(initial=0) >= -_WHOLE and values.max(initial=0) <= _WHOLE:
            return None
        # Python compares integers with floats exactly.
        narrow = values.astype(np.float32).tolist()
        changed = np.array(narrow, object) != values.astype(object)
    else:
        known = values[np.isfinite(values)]
        with np.errstate(over="ignore"):
            narrow = known.astype(np.float32).astype(values.dtype)
        lost = np.abs(narrow - known)
        changed = np.zeros(len(values), bool)
        if (known != np.floor(known)).any():
            # A column without spread may be too small, and become 0.
            span = float(np.ptp(known))
            least = _MOST_LOST * span if span else _DIGITS * np.abs(known)
            changed[np.isfinite(values)] = (lost > least) | np.isinf(narrow)
        else:
            changed[np.isfinite(values)] = lost > 0
    return changed if changed.any() else None


def is_number(value: Any) -> bool:
    """Whether it is a real number; to NumPy, a time span is one."""
    import decimal

    return isinstance(
        value, (numbers.Real, decimal.Decimal, np.bool_)
    ) and not isinstance(value, np.timedelta64)


def as_numbers(values: Sequence[Any]) -> np.ndarray | None:
    """Numbers of Python in a dtype that holds each of them as it is.

    Integers if all are, else `float64`; None if no dtype holds all.
    """
    whole = (numbers.Integral, np.bool_)
    if all(isinstance(v, whole) for v in values):
        for dtype in (np.int64, np.uint64):
            try:
                return np.array([int(v) for v in values], dtype)
            except OverflowError:
                continue
    floats = [float(v) for v in values]
    for given, rounded in zip(values, floats, strict=True):
        if isinstance(given, whole) and int(given) != rounded:
            return None
    return np.array(floats)
