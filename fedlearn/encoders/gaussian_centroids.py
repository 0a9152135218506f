"""The best few numbers to round normally distributed ones to."""

import functools
import math
import statistics
from typing import Any

import numpy as np
from keras import ops

_NORMAL = statistics.NormalDist()
_REACH, _CELLS_PER_UNIT = 5, 512


@functools.cache
def centroids(bits: int) -> np.ndarray:
    """Those that minimise the expected squared error, of `2**bits` levels.

    By the iteration of Lloyd 1982, "Least squares quantization in PCM", and
    Max 1960, "Quantizing for minimum distortion", from levels that are spaced
    by the cube root of the density, which are best in the limit of many.

    Returns:
        A float32 array of shape `(2**bits,)`, increasing and symmetric.

    Example:

    >>> [round(float(c), 4) for c in centroids(1)]
    [-0.7979, 0.7979]
    """
    num_levels = 2**bits
    levels = np.array(
        [
            math.sqrt(3) * _NORMAL.inv_cdf((i + 0.5) / num_levels)
            for i in range(num_levels)
        ]
    )
    for _ in range(200):
        edges = (levels[1:] + levels[:-1]) / 2
        below = np.array([0, *map(_NORMAL.cdf, edges), 1])
        density = np.array([0, *map(_NORMAL.pdf, edges), 0])
        # The mean of a normal number between two edges.
        levels = -np.diff(density) / np.diff(below)
        levels = (levels - levels[::-1]) / 2
    return levels.astype(np.float32)


def nearest(numbers: Any, bits: int) -> Any:
    """Which centroid is nearest to each number.

    Numbers are looked up in the cells of a fine grid, which takes one step
    whatever the number of levels. Near the edge of a cell that may give the
    second nearest, which is further by less than 1 / 512.

    Args:
        numbers: A float32 array.
        bits: As in `centroids`.

    Returns:
        A uint8 array of indices into `centroids(bits)`.

    Example:

    >>> [int(i) for i in nearest(ops.convert_to_tensor([-9.0, 0.1, 0.8]), 2)]
    [0, 2, 2]
    """
    if bits == 1:
        return ops.cast(numbers >= 0, "uint8")
    table = _nearest_table(bits)
    cells = ops.cast(numbers * _CELLS_PER_UNIT + len(table) / 2, "int32")
    # Clipped as integers: a NaN, too, must become one that is in the table.
    cells = ops.clip(cells, 0, len(table) - 1)
    return ops.take(ops.convert_to_tensor(table), cells)


@functools.cache
def _nearest_table(bits: int) -> np.ndarray:
    size = 2 * _REACH * _CELLS_PER_UNIT
    middles = (np.arange(size) + 0.5) / _CELLS_PER_UNIT - _REACH
    levels = centroids(bits).astype(np.float64)
    edges = (levels[1:] + levels[:-1]) / 2
    return np.searchsorted(edges, middles).astype(np.uint8)
