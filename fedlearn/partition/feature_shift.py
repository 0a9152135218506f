"""The same labels everywhere, but inputs that look different."""

from typing import Any

import numpy as np

from fedlearn import checks, portable_math, seeds
from fedlearn.data import element as el
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.partition.pool import Pool, dealt_evenly


def feature_shift(
    x: Any,
    y: Any,
    num_clients: int,
    kind: str,
    strength: float,
    seed: int = 0,
) -> FederatedDataset:
    """Deals the examples at random, then changes each client's inputs.

    Labels are IID; how the inputs look differs ("feature skew"), evenly more
    from the first client to the last:

    - `"rotation"`: the images of client k of K (from 0) are turned
      counterclockwise about their centre by `strength * k / K` degrees. With
      `strength=360` and four clients these are the quarter turns of Ghosh et
      al. 2020, "An efficient framework for clustered federated learning",
      https://arxiv.org/abs/2006.04088. Bilinear; beyond the border the
      nearest pixel goes on. Multiples of 180 degrees, and of 90 for square
      images, only move pixels.
    - `"noise"`: normal noise with standard deviation
      `strength * (k + 1) / K` is added to the inputs of client k. The
      noise-based skew of Li et al. 2022, "Federated learning on non-IID data
      silos: an experimental study", https://arxiv.org/abs/2102.02079, who
      call this level a variance.

    Args:
        x: `(examples, ...)` array of floats; for rotation
            `(examples, height, width)`, perhaps with channels.
        y, num_clients, seed: See `fl.partition`.
        kind: `"rotation"` or `"noise"`.
        strength: Degrees, of any sign; or a standard deviation, 0 or more.

    Raises:
        ValueError: If `x` is no array of floats, or no images where those
            are rotated, or `kind` or `strength` is none of these.

    Example:

    >>> import numpy as np
    >>> x = np.tile([[1.0, 2.0], [3.0, 4.0]], (2, 1, 1))
    >>> ds = feature_shift(x, np.zeros(2), 2, "rotation", strength=180)
    >>> ds["1"][0]
    array([[[2., 4.],
            [1., 3.]]])
    """
    pool = Pool(x, y, num_clients, "feature_shift")
    checks.one_of("kind", kind, ("rotation", "noise"))
    images = pool.element[0]
    if not isinstance(images, np.ndarray) or images.dtype.kind != "f":
        found = getattr(images, "dtype", type(images).__name__)
        raise ValueError(
            f"feature_shift: x is of {found}. Expected one array of floats, "
            "as x.astype('float32') / 255 makes them of bytes."
        )
    if kind == "rotation" and images.ndim not in (3, 4):
        raise ValueError(
            f"feature_shift: x has shape {images.shape}. Expected images, "
            "(examples, height, width), perhaps with channels."
        )
    if not np.isfinite(strength) or (kind == "noise" and strength < 0):
        raise ValueError(
            f"feature_shift: strength is {strength!r}. Expected degrees for "
            "a rotation, or a standard deviation of 0 or more for noise."
        )
    codes = dealt_evenly(pool.total, num_clients, seed, "feature_shift")
    shifted = np.empty_like(images)
    for k in range(num_clients):
        rows = np.flatnonzero(codes == k)
        own = images[rows]
        if kind == "rotation":
            shifted[rows] = rotate(own, strength * k / num_clients)
        else:
            noise = seeds.normal(own.size, seed, "feature_shift", "noise", k)
            noise *= strength * (k + 1) / num_clients
            shifted[rows] = own + noise.reshape(own.shape).astype(own.dtype)
    return pool.dealt(codes, el.read_only((shifted, pool.element[1])))


def rotate(images: np.ndarray, degrees: float) -> np.ndarray:
    """Images turned counterclockwise about their centre, bilinearly."""
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
    row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    top, left = (np.floor(at).astype(np.int64) for at in (row, column))
    bottom = np.minimum(top + 1, height - 1)
    far = np.minimum(left + 1, width - 1)
    channels = (1,) * (images.ndim - 3)
    low = (row - top).reshape(height, width, *channels).astype(images.dtype)
    side = (column - left).reshape(low.shape).astype(images.dtype)
    upper = images[:, top, left] * (1 - side) + images[:, top, far] * side
    lower = images[:, bottom, left] * (1 - side)
    lower = lower + images[:, bottom, far] * side
    return upper * (1 - low) + lower * low
