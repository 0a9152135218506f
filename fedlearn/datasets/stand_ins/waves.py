"""Cosines for pictures: quick, rough, and the same on every machine."""

import numpy as np

from fedlearn import portable_math

_STEPS = 4096
_TABLE = portable_math.cos_turns(np.arange(_STEPS) / _STEPS).astype(np.float32)


def wave(turns: np.ndarray) -> np.ndarray:
    """The cosine of angles in full turns, to within 0.002, from a table.

    Returns:
        A `float32` array.

    Example:

    >>> wave(np.array([0.0, 0.5, -1.0])).tolist()
    [1.0, -1.0, 1.0]
    """
    steps = np.floor(turns * np.float32(_STEPS)).astype(np.int32)
    return _TABLE[steps & (_STEPS - 1)]


def grain(shape: tuple[int, ...], raw: np.ndarray) -> np.ndarray:
    """Noise with mean 0 and deviation 1, of four random bytes each.

    A sum of bytes is nearly normal, and cheap to draw.

    Args:
        shape: Of the result.
        raw: At least half as many random `uint64` as it has numbers.

    Returns:
        A `float32` array.

    Example:

    >>> grain((4,), np.zeros(2, np.uint64)).round(1)
    array([-3.5, -3.5, -3.5, -3.5], dtype=float32)
    """
    size = int(np.prod(shape))
    # The order of the bytes must not depend on the machine.
    four = raw.astype("<u8").view(np.uint8)[: 4 * size].reshape(4, *shape)
    total = four[0].astype(np.int16)
    for more in four[1:]:
        total += more
    return (total.astype(np.float32) - np.float32(510)) / np.float32(147.8)
