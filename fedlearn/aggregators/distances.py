"""Distances among updates, and combinations of them, by one matrix product.

The Gram matrix of `n` updates holds all that the geometry of `n` points is
made of. It costs one product of an `(n, d)` matrix with its transpose; what
follows is of size `(n, n)`, whatever the number `d` of parameters.
"""

import math
from typing import Any

from keras import ops

from fedlearn.encoders.encoder import Value


def gram(values: Value) -> Any:
    """The inner products of all pairs of updates.

    Args:
        values: Arrays of shape `(n, ...)`, one a variable.

    Returns:
        An array of shape `(n, n)`. Where a product exceeds float32 it isn't
        finite.

    Example:

    >>> ops.convert_to_numpy(gram([ops.array([[1.0], [2.0]])])).tolist()
    [[1.0, 2.0], [2.0, 4.0]]
    """
    # Variable by variable: joining them would copy all the updates.
    rows = [ops.reshape(v, (ops.shape(v)[0], -1)) for v in values]
    return sum(ops.matmul(r, ops.transpose(r)) for r in rows)


def squared_distances(products: Any) -> Any:
    """The squared Euclidean distances of all pairs of updates.

    Args:
        products: From `gram`.

    Returns:
        An array of shape `(n, n)`, zero on the diagonal; infinite where float32
        can't hold the distance.
    """
    squares = ops.diagonal(products)
    # A product rounds differently from its mirror image; distances mustn't.
    both = products + ops.transpose(products)
    found = squares[:, None] + squares[None, :] - both
    # inf - inf, of an update too long for float32, is no small distance.
    found = ops.where(ops.isfinite(found), ops.maximum(found, 0.0), math.inf)
    return ops.where(_is_diagonal(products), ops.zeros_like(found), found)


def squared_distances_to(products: Any, weights: Any) -> Any:
    """Squared distances of all updates to a weighted sum of them.

    Args:
        products: From `gram`, finite.
        weights: Of shape `(n,)`, with sum 1.
    """
    with_sum = ops.matmul(products, weights[:, None])[:, 0]
    square = ops.sum(weights * with_sum)
    return ops.maximum(ops.diagonal(products) - 2 * with_sum + square, 0.0)


def weighted_sum(values: Value, weights: Any) -> Value:
    """A weighted sum of updates.

    Args:
        values: Arrays of shape `(n, ...)`.
        weights: Of shape `(n,)`.

    Returns:
        Arrays without the first axis.
    """
    return [
        ops.reshape(
            ops.matmul(weights[None], ops.reshape(v, (ops.shape(v)[0], -1))),
            ops.shape(v)[1:],
        )
        for v in values
    ]


def squared_norms(values: Value) -> Any:
    """The squared L2 norm of each update, of shape `(n,)`."""
    return sum(
        ops.sum(ops.square(v), axis=tuple(range(1, len(v.shape))))
        for v in values
    )


def _is_diagonal(square: Any) -> Any:
    numbers = ops.arange(ops.shape(square)[0], dtype="int32")
    return numbers[:, None] == numbers[None, :]
