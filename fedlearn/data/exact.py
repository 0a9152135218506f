"""Dtypes that hold numbers as they are, or how to say that none does."""

from collections.abc import Sequence

import numpy as np

# float32 has 24 bits for a number's digits, float64 53.
FLOAT32_INTEGERS = 1 << 24
FLOAT64_INTEGERS = 1 << 53

# Fractions are rounded to float32 everywhere in machine learning, by one part
# in 17 million; a column that is far from 0 for its spread (time stamps with
# fractions) loses more than this part of the spread.
_MOST_LOST = 2.0**-12
_DIGITS = 2.0**-23


def _significant(values: np.ndarray) -> np.ndarray:
    """Integers without the zeros at the end of their binary digits."""
    if values.dtype.kind == "b":
        return values.astype(np.uint64)
    # The absolute value of the smallest int64 is only right as uint64.
    size = values.astype(np.uint64)
    if values.dtype.kind == "i":
        size = np.where(values < 0, np.uint64(0) - size, size)
    lowest = size & (np.uint64(0) - size)
    return size // np.maximum(lowest, np.uint64(1))


def changed_by_float32(values: np.ndarray) -> np.ndarray | None:
    """Where `float32` doesn't hold numbers; None where it does.

    Whole numbers are held if each of them is exact. Fractions are rounded,
    as Keras does it; they are held unless one becomes infinite, or rounding
    moves one by over a 4,096th of the span of all (of an eight-millionth of
    itself, if all are equal).

    Args:
        values: `(n,)` booleans, integers or floats, without NaN.

    Returns:
        `(n,)` booleans, some of them true; or None.

    Example:

    >>> changed_by_float32(np.array([1, 16_777_216, 16_777_217]))
    array([False, False,  True])
    >>> changed_by_float32(np.array([0.1, 0.2])) is None
    True
    """
    if values.dtype.kind in "biu":
        if values.dtype.itemsize <= 2:
            return None
        changed = _significant(values) > FLOAT32_INTEGERS
        return changed if changed.any() else None
    if values.dtype.itemsize <= 4:
        return None
    finite = np.isfinite(values)
    known = values[finite]
    if not len(known):
        return None
    with np.errstate(over="ignore"):
        narrow = known.astype(np.float32).astype(values.dtype)
    moved = np.abs(narrow - known)
    if (known == np.floor(known)).all():
        lost = moved > 0
    else:
        span = float(known.max()) - float(known.min())
        # A column without spread may be too small for float32, and become 0.
        lost = moved > (_MOST_LOST * span if span else _DIGITS * np.abs(known))
        lost |= ~np.isfinite(narrow)
    if not lost.any():
        return None
    changed = np.zeros(len(values), bool)
    changed[finite] = lost
    return changed


def join(parts: Sequence[np.ndarray]) -> np.ndarray | None:
    """Numbers end to end, in a dtype that holds each of them as it is.

    Args:
        parts: Arrays of booleans, integers or floats.

    Returns:
        One array; None if no dtype of NumPy holds all of them.

    Example:

    >>> join([np.array([1, 2], "int32"), np.array([2**40])]).dtype
    dtype('int64')
    >>> join([np.array([0.5]), np.array([2**53 + 1])]) is None
    True
    """
    dtypes = {part.dtype for part in parts}
    if len(dtypes) == 1:
        return np.concatenate(parts)
    kinds = {dtype.kind for dtype in dtypes}
    if kinds <= set("biu"):
        wide = np.result_type(*dtypes)
        if wide.kind != "f":
            return np.concatenate(parts).astype(wide, copy=False)
        # int64 beside uint64: whichever of them has room.
        low = min((int(p.min()) for p in parts if p.size), default=0)
        high = max((int(p.max()) for p in parts if p.size), default=0)
        for wide in (np.dtype(np.int64), np.dtype(np.uint64)):
            if np.iinfo(wide).min <= low and high <= np.iinfo(wide).max:
                return np.concatenate([p.astype(wide) for p in parts])
        return None
    integers = [p for p in parts if p.dtype.kind in "iu"]
    if any((_significant(p) > FLOAT64_INTEGERS).any() for p in integers):
        return None
    floats = [dtype for dtype in dtypes if dtype.kind == "f"]
    if integers or kinds & set("b"):
        floats.append(np.dtype(np.float64))
    wide = np.result_type(*floats)
    return np.concatenate([p.astype(wide) for p in parts])
