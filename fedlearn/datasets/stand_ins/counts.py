"""How many clients there are, and how many examples each of them has."""

import numpy as np

from fedlearn import portable_math, seeds


def check_count(name: str, value: int) -> None:
    """Raises unless `value` is an integer above 0.

    Raises:
        ValueError: That says which argument it was.

    Example:

    >>> check_count("num_clients", 3)
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, np.integer))
        or value < 1
    ):
        raise ValueError(
            f"{name} is {value!r}. Expected an integer, at least 1."
        )


def client_size(
    mean: float, spread: float, low: int, high: int, *key: seeds.Key
) -> int:
    """A log-normal number of examples, as of people who write freely.

    Args:
        mean: What sizes are on average, but for the limits.
        spread: Standard deviation of the logarithm.
        low: The smallest size.
        high: The largest size.
        *key: Whose size it is.

    Example:

    >>> 10 <= client_size(100, 0.3, 10, 400, 0, "doc") <= 400
    True
    """
    exponent = spread * seeds.normal(1, *key) - spread * spread / 2
    size = int(np.rint(mean * portable_math.exp(exponent))[0])
    return min(max(size, low), high)
