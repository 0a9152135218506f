"""Norms of updates, as what clips them needs them.

They are taken in the widest dtype of the update, float32 at least: what is
finite has a norm then, and 1e59 of a float64 model isn't infinite.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend, checks
from fedlearn.encoders.encoder import Value

_FLOAT32 = np.finfo(np.float32)


def l2(value: Value) -> Any:
    """The L2 norm of all arrays together, a scalar of `wide_dtype(value)`.

    Where squares would overflow (or vanish), numbers are divided by the
    largest magnitude first, so that a huge update is scaled down and not
    lost. NaN if a number isn't finite.
    """
    arrays = widened(value)
    if not arrays:
        return ops.zeros((), wide_dtype(value))
    squares = sum(backend.sum_of_squares(a) for a in arrays)
    ordinary = ops.logical_and(squares > 1e-20, ops.isfinite(squares))
    return ops.cond(
        ordinary, lambda: ops.sqrt(squares), lambda: _l2_of_any(arrays)
    )


def _l2_of_any(arrays: Value) -> Any:
    unit = _divisor(linf(arrays))
    return unit * ops.sqrt(
        sum(backend.sum_of_squares(a / unit) for a in arrays)
    )


def _divisor(magnitude: Any) -> Any:
    """What to divide by so that numbers of a magnitude become moderate.

    It is 2**30 nearer to 1: by the magnitude itself, XLA multiplies with a
    reciprocal that may be infinite, or flushed to zero.
    """
    usable = ops.logical_and(magnitude > 0, ops.isfinite(magnitude))
    nearer = ops.where(magnitude > 1, magnitude * 2.0**-30, magnitude * 2.0**30)
    # Of NaN the norm is NaN.
    return ops.where(usable, nearer, ops.ones_like(magnitude))


def l2_of_rows(values: Value) -> Any:
    """The L2 norm of each update of a stack, of shape `(n,)`.

    Infinite only where the norm itself is too large for the dtype.
    """
    arrays = widened(values)
    if not arrays:
        return ops.zeros(ops.shape(values[0])[:1], wide_dtype(values))

    def root(arrays):
        return ops.sqrt(sum(_over_columns(ops.sum, a * a) for a in arrays))

    def of_any():
        unit = _divisor(linf_of_rows(arrays))
        return unit * root([a / along_rows(unit, a) for a in arrays])

    norms = root(arrays)
    ordinary = ops.logical_and(norms > 1e-10, ops.isfinite(norms))
    return ops.cond(ops.all(ordinary), lambda: norms, of_any)


def linf_of_rows(values: Value) -> Any:
    """The largest magnitude of each update of a stack, of shape `(n,)`."""
    arrays = widened(values)
    largest = ops.zeros(ops.shape(values[0])[:1], wide_dtype(values))
    for a in arrays:
        largest = ops.maximum(largest, _over_columns(ops.max, ops.abs(a)))
    return largest


def l1(value: Value) -> Any:
    """The sum of magnitudes, a scalar of `wide_dtype(value)`."""
    return sum(
        (ops.sum(ops.abs(a)) for a in widened(value)),
        start=ops.zeros((), wide_dtype(value)),
    )


def linf(value: Value) -> Any:
    """The largest magnitude, a scalar of `wide_dtype(value)`."""
    largest = ops.zeros((), wide_dtype(value))
    for a in widened(value):
        largest = ops.maximum(largest, ops.max(ops.abs(a)))
    return largest


def scale_down(value: Value, norm: Any, bound: Any) -> Value:
    """`value` times `bound / norm` where `norm` is larger than `bound`.

    What isn't finite stays as it is, for whoever leaves such clients out.
    """
    bound = ops.cast(bound, norm.dtype)
    above = norm > bound
    one = ops.ones_like(norm)
    unit = ops.where(above, _divisor(norm), one)
    # One after the other: the quotient of bound and norm may be too small to
    # be a number. An infinite norm makes zeros.
    rest = ops.where(above, unit / norm, one)
    bound = ops.where(above, bound, one)

    def scaled(array):
        wide = widened_array(array)
        by = [ops.cast(s, wide.dtype) for s in (unit, rest, bound)]
        return ops.cast(wide / by[0] * by[1] * by[2], array.dtype)

    return [scaled(array) for array in value]


def clip_factors(norms: Any, radius: Any) -> Any:
    """`min(1, radius / norm)` of each; zero where a dtype can't hold the norm.

    >>> factors = clip_factors(ops.array([0.0, 1.0, 4.0]), 2.0)
    >>> ops.convert_to_numpy(factors).tolist()
    [1.0, 1.0, 0.5]
    """
    radius = ops.cast(radius, norms.dtype)
    long = norms > radius
    # Without a zero in the denominator, also where the result isn't used.
    factors = ops.where(long, radius / ops.where(long, norms, 1.0), 1.0)
    return ops.where(ops.isfinite(norms), factors, 0.0)


def wide_dtype(value: Value) -> str:
    """`"float64"` if an array is of it, else `"float32"`."""
    dtypes = {keras.backend.standardize_dtype(v.dtype) for v in value}
    return "float64" if "float64" in dtypes else "float32"


def widened(value: Value) -> Value:
    """The arrays that have elements, in `wide_dtype(value)`."""
    # The largest of no numbers isn't defined; their norm is 0.
    dtype = wide_dtype(value)
    return [ops.cast(v, dtype) for v in value if 0 not in v.shape]


def widened_array(array: Any) -> Any:
    """An array in float32, or in float64 if it is of that."""
    return ops.cast(array, wide_dtype([array]))


def check_bound(name: str, value: Any) -> None:
    """Raises a ValueError unless a value is a bound on norms."""
    # Bounds are float32 at clients: one that is subnormal there may be taken
    # for zero, and one that is too large for infinite.
    least, most = float(_FLOAT32.tiny), float(_FLOAT32.max)
    checks.number(name, value, least, "above 0, as float32 has it", most)


def _over_columns(reduce: Any, array: Any) -> Any:
    return reduce(ops.reshape(array, (ops.shape(array)[0], -1)), axis=1)


def along_rows(vector: Any, stack: Any) -> Any:
    """A vector of shape `(n,)` as `(n, 1, ...)`, to meet `(n, ...)`."""
    return ops.reshape(vector, (-1,) + (1,) * (len(stack.shape) - 1))
