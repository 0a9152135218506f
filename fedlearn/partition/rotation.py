"""Images turned about their centre."""

import numpy as np

from fedlearn import portable_math


def rotate(images: np.ndarray, degrees: float) -> np.ndarray:
    """Images turned counterclockwise about their centre, bilinearly.

    Args:
        images: `(n, height, width)` or `(n, height, width, channels)`.
        degrees: The angle.

    Returns:
        An array of the same shape and dtype; beyond the border of an image
        its nearest pixel goes on.

    Example:

    >>> rotate(np.array([[[1.0, 2.0], [3.0, 4.0]]]), 90)
    array([[[2., 4.],
            [1., 3.]]])
    """
    height, width = images.shape[1:3]
    turns = np.array(degrees / 360)
    cosine = portable_math.cos_turns(turns)
    # Folded first, so that the subtraction keeps a tiny angle.
    sine = portable_math.cos_turns((turns - np.rint(turns)) - 0.25)
    # Where each pixel comes from: its place turned back. Rows go down, so
    # that counterclockwise to the eye is clockwise in (column, row).
    down = (np.arange(height) - (height - 1) / 2)[:, None]
    right = (np.arange(width) - (width - 1) / 2)[None]
    row = cosine * down + sine * right + (height - 1) / 2
    column = cosine * right - sine * down + (width - 1) / 2
    row = np.clip(row, 0, height - 1)
    column = np.clip(column, 0, width - 1)
    top = np.floor(row).astype(np.int64)
    left = np.floor(column).astype(np.int64)
    bottom = np.minimum(top + 1, height - 1)
    far = np.minimum(left + 1, width - 1)
    channels = (1,) * (images.ndim - 3)
    low = (row - top).reshape(height, width, *channels).astype(images.dtype)
    side = (column - left).reshape(low.shape).astype(images.dtype)
    upper = images[:, top, left] * (1 - side) + images[:, top, far] * side
    lower = images[:, bottom, left] * (1 - side)
    lower = lower + images[:, bottom, far] * side
    return upper * (1 - low) + lower * low
