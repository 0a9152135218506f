"""Norms of updates, as what clips them needs them."""

from typing import Any

from keras import ops

from fedlearn import backend
from fedlearn.encoders.encoder import Value


def l2(value: Value) -> Any:
    """The L2 norm of all arrays together.

    Where squares would overflow (or vanish), numbers are divided by the
    largest magnitude first, so that a huge update is scaled down and not
    lost. NaN if a number isn't finite.

    Args:
        value: A list of float arrays.

    Returns:
        A float32 scalar.

    Example:

    >>> float(l2([ops.array([3e30]), ops.array([[4e30]])])) > 4.9e30
    True
    """
    arrays = _float32(value)
    if not arrays:
        return ops.zeros((), "float32")
    squares = sum(backend.sum_of_squares(a) for a in arrays)
    ordinary = ops.logical_and(squares > 1e-20, ops.isfinite(squares))
    return ops.cond(
        ordinary, lambda: ops.sqrt(squares), lambda: _l2_of_any(arrays)
    )


def _l2_of_any(arrays: Value) -> Any:
    largest = linf(arrays)
    unit = ops.where(largest == 0, ops.ones_like(largest), largest)
    return largest * ops.sqrt(
        sum(backend.sum_of_squares(a / unit) for a in arrays)
    )


def l1(value: Value) -> Any:
    """The sum of magnitudes, a float32 scalar."""
    return sum(
        (ops.sum(ops.abs(a)) for a in _float32(value)),
        start=ops.zeros((), "float32"),
    )


def linf(value: Value) -> Any:
    """The largest magnitude, a float32 scalar."""
    largest = ops.zeros((), "float32")
    for a in _float32(value):
        largest = ops.maximum(largest, ops.max(ops.abs(a)))
    return largest


def scale_down(value: Value, norm: Any, bound: Any) -> Value:
    """`value` times `bound / norm` where `norm` is larger than `bound`.

    What isn't finite stays as it is, for whoever leaves such clients out.

    Args:
        value: A list of float arrays.
        norm: Theirs, a float32 scalar.
        bound: A float or a float32 scalar.
    """
    above = norm > bound
    # Of the branch that isn't taken nothing may come through, not even 0 / 0.
    scale = ops.where(above, bound / ops.where(above, norm, 1.0), 1.0)
    return [v * ops.cast(scale, v.dtype) for v in value]


def _float32(value: Value) -> Value:
    # The largest of no numbers isn't defined; their norm is 0.
    return [ops.cast(v, "float32") for v in value if 0 not in v.shape]
