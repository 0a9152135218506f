"""How large numbers are, where their squares would be too large for floats."""

from typing import Any

from keras import ops


def largest_magnitude(vector: Any) -> Any:
    """The largest magnitude in a vector; NaN if there is a NaN.

    Args:
        vector: A float32 array of shape `(size,)`.

    Returns:
        A float32 scalar, 0 of an empty vector.

    Example:

    >>> float(largest_magnitude(ops.convert_to_tensor([1.0, -3.0])))
    3.0
    """
    if vector.shape[0] == 0:
        return ops.zeros((), "float32")
    # Cheaper than a pass of `abs`.
    return ops.maximum(ops.max(vector), -ops.min(vector))


def inverse(scale: Any) -> Any:
    """1 / scale; 0 of zero and of what processors may take for zero."""
    tiny = scale < 1e-37
    return ops.where(tiny, 0.0, 1 / ops.where(tiny, 1.0, scale))
