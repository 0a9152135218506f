"""How far is too far: a radius given as a number, or found in the round."""

from typing import Any, Literal

from keras import ops

from fedlearn.aggregators.robust_rule import checked_positive


def checked_radius(name: str, value: Any) -> float | Literal["median"]:
    """A finite number above zero or `"median"`, or a clear error."""
    if value == "median":
        return "median"
    if isinstance(value, str):
        raise ValueError(
            f"`{name}` must be a number above 0, or 'median' for one that "
            f"follows the updates. Received: {value!r}."
        )
    return checked_positive(name, value)


def clip_factors(norms: Any, radius: Any) -> Any:
    """What brings vectors of these norms to a radius, and no shorter ones.

    Args:
        norms: Floats of shape `(n,)`.
        radius: A scalar, at least 0.

    Returns:
        Of shape `(n,)`: `min(1, radius / norm)`; zero where their
        dtype can't hold the norm.

    Example:

    >>> factors = clip_factors(ops.array([0.0, 1.0, 4.0]), 2.0)
    >>> ops.convert_to_numpy(factors).tolist()
    [1.0, 1.0, 0.5]
    """
    radius = ops.cast(radius, norms.dtype)
    long = norms > radius
    # Without a zero in the denominator, also where the result isn't used.
    factors = ops.where(long, radius / ops.where(long, norms, 1.0), 1.0)
    return ops.where(ops.isfinite(norms), factors, 0.0)
