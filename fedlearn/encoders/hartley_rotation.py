"""Random rotations of vectors of any length, with hardly any padding."""

import functools
import math
from typing import Any

import numpy as np
from keras import ops

from fedlearn import threefry

# A few numbers don't mix: signs of two, for one, stay those of two.
_FEWEST = 32


def block_shape(size: int, block_size: int) -> tuple[int, int, int]:
    """`(num_blocks, rows, columns)` of a vector's blocks, with its padding."""
    num_blocks = -(-size // block_size)
    length = -(-size // max(num_blocks, 1))
    length = max(length, min(block_size, _FEWEST))
    root = math.isqrt(length)
    shapes = [(-(-length // c), c) for c in range((root + 1) // 2, root + 1)]
    # Nearest to a square, which takes the fewest products, of those with the
    # least padding; below one in 256 it makes no difference.
    enough = length + length // 256
    rows, columns = min(shapes, key=lambda s: (max(math.prod(s), enough), s[0]))
    return num_blocks, rows, columns


def rotate(vector: Any, seed: Any, shape: tuple[int, int, int]) -> Any:
    """A vector's rotated blocks, of shape `(num_blocks, rows * columns)`.

    A block is a matrix. Twice, signs are changed at random and its rows and
    its columns transformed. Once spreads a number over its block, but a large
    one then decides the signs of all; after the second every coordinate is a
    sum of independent ones, and close to normally distributed of any vector.

    The transform is Hartley's, sums with weights cos(t) + sin(t) (Bracewell
    1983, "Discrete Hartley transform"): orthogonal, symmetric, its own
    inverse, with no weight above sqrt(2 / n), and there is one for any length.
    """
    num_blocks, rows, columns = shape
    padding = math.prod(shape) - vector.shape[0]
    if padding:
        vector = ops.pad(vector, [(0, padding)])
    for stream in (0, 1):
        vector = _transform(vector * _signs(seed, shape, stream), shape)
    # In memory rows come before blocks, so that transforming all blocks takes
    # two products of matrices, and not two a block.
    blocks = ops.reshape(vector, (rows, num_blocks, columns))
    blocks = ops.transpose(blocks, (1, 0, 2))
    return ops.reshape(blocks, (num_blocks, rows * columns))


def rotate_back(
    blocks: Any, seed: Any, shape: tuple[int, int, int], size: int
) -> Any:
    """The vector of shape `(size,)` whose rotated blocks are given."""
    num_blocks, rows, columns = shape
    numbers = ops.reshape(blocks, (num_blocks, rows, columns))
    vector = ops.reshape(ops.transpose(numbers, (1, 0, 2)), (-1,))
    for stream in (1, 0):
        vector = _transform(vector, shape) * _signs(seed, shape, stream)
    return vector[:size]


def _signs(seed: Any, shape: tuple[int, int, int], stream: int) -> Any:
    return threefry.random_signs(seed, math.prod(shape), stream)


def _transform(vector: Any, shape: tuple[int, int, int]) -> Any:
    num_blocks, rows, columns = shape
    matrix = ops.reshape(vector, (rows, num_blocks * columns))
    matrix = ops.matmul(ops.convert_to_tensor(_hartley(rows)), matrix)
    matrix = ops.reshape(matrix, (rows * num_blocks, columns))
    matrix = ops.matmul(matrix, ops.convert_to_tensor(_hartley(columns)))
    return ops.reshape(matrix, (-1,))


@functools.cache
def _hartley(size: int) -> np.ndarray:
    # Remainders keep angles small, and so their sines exact.
    steps = np.outer(np.arange(size), np.arange(size)) % size
    angles = 2 * math.pi / size * steps
    return ((np.cos(angles) + np.sin(angles)) / math.sqrt(size)).astype("f4")
