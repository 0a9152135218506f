"""How many of many."""

import math


def check_fraction(fraction: float) -> None:
    """Raises a ValueError unless `0 < fraction <= 1`."""
    if not 0 < fraction <= 1:
        raise ValueError(
            f"`fraction` must be above 0 and at most 1. Received: {fraction!r}."
        )


def num_kept(size: int, fraction: float) -> int:
    """`size * fraction`, rounded up.

    Example: 0.07 of 100 is 7, though 100 * 0.07 is a little more in floats.

    >>> num_kept(100, 0.07), num_kept(3, 0.5), num_kept(0, 0.5)
    (7, 2, 0)
    """
    return min(size, math.ceil(size * fraction * (1 - 1e-12)))
