"""Distances among updates, and combinations of them, by one matrix product.

The Gram matrix of `n` points costs one product of an `(n, d)` matrix with its
transpose; what follows is of size `(n, n)`, whatever the number `d` of
parameters. Around zero it would lose the digits of distances that are short
beside the updates, those of clients that agree. So it is taken around an
update from which most others aren't far.
"""

import math
from typing import Any, NamedTuple

from keras import ops

from fedlearn.aggregators.sorted_rows import median_of, row_numbers
from fedlearn.encoders import norms
from fedlearn.encoders.encoder import Value


class Gram(NamedTuple):
    """Inner products of all pairs of updates, around one of them.

    Attributes:
        products: Of shape `(n, n)`; not finite where the dtype can't hold a
            product, of an update that is far from most.
        unit: A scalar, the length that is 1 there, about the usual distance,
            so that no squares of distances overflow or vanish.
    """

    products: Any
    unit: Any


def gram(values: Value, weight: Any) -> Gram:
    """The inner products of all pairs of updates."""
    # Around zero at first, to see who is in the middle, up to some 3e-4 of an
    # update's norm in float32.
    zero = [ops.zeros_like(v[:1]) for v in values]
    rough = squared_distances(_gram_around(zero, values, weight).products)
    middle = ops.argmin(_median_distances(rough, weight))
    origin = [ops.take(v, middle, axis=0)[None] for v in values]
    return _gram_around(origin, values, weight)


def _gram_around(origin: Value, values: Value, weight: Any) -> Gram:
    dtype = norms.wide_dtype(values)
    # Variable by variable: joining them would copy all the updates.
    largest = ops.zeros(ops.shape(weight), dtype)
    for v, o in zip(values, origin, strict=True):
        own = ops.cast(norms.linf_of_rows([v - o]), dtype)
        largest = ops.maximum(largest, own)
    unit = median_of(largest, weight * ops.cast(largest > 0, weight.dtype))
    usable = ops.logical_and(unit > 0, ops.isfinite(unit))
    unit = ops.where(usable, unit, ops.ones_like(unit))
    # A number whose reciprocal is one, too.
    largest_unit = 2.0 ** (1000 if dtype == "float64" else 100)
    unit = ops.clip(unit, 1 / largest_unit, largest_unit)
    products = ops.zeros((), dtype)
    for v, o in zip(values, origin, strict=True):
        rows = _rows((v - o) / ops.cast(unit, v.dtype))
        products += ops.cast(ops.matmul(rows, ops.transpose(rows)), dtype)
    return Gram(products, unit)


def _median_distances(distances: Any, weight: Any) -> Any:
    """How far most of those that count are, of shape `(n,)`."""
    counts = weight > 0
    kept = ops.where(counts[None, :], distances, math.inf)
    ordered = ops.sort(kept, axis=1)
    half = ops.sum(ops.cast(counts, "int32")) // 2
    found = ops.take(ordered, half, axis=1)
    return ops.where(counts, found, math.inf)


def squared_distances(products: Any) -> Any:
    """The squared Euclidean distances of all pairs of points.

    Zero on the diagonal; infinite where the dtype can't hold the distance.
    """
    squares = ops.diagonal(products)
    # A product rounds differently from its mirror image; distances mustn't.
    both = products + ops.transpose(products)
    found = squares[:, None] + squares[None, :] - both
    # inf - inf, of an update too long for its dtype, is no small distance.
    found = ops.where(ops.isfinite(found), ops.maximum(found, 0.0), math.inf)
    numbers = row_numbers(products)
    diagonal = numbers[:, None] == numbers[None, :]
    return ops.where(diagonal, ops.zeros_like(found), found)


def squared_distances_to(products: Any, weights: Any) -> Any:
    """Squared distances of all points to a weighted mean of them."""
    with_sum = ops.matmul(products, weights[:, None])[:, 0]
    square = ops.sum(weights * with_sum)
    return ops.maximum(ops.diagonal(products) - 2 * with_sum + square, 0.0)


def equal_shares(weight: Any, dtype: Any) -> Any:
    """What each row that counts is of their mean, of shape `(n,)`."""
    counts = ops.cast(weight > 0, dtype)
    return counts / ops.maximum(ops.sum(counts), 1.0)


def weighted_sum(values: Value, weights: Any) -> Value:
    """The sum of updates (the first axis) with weights of shape `(n,)`."""

    def total(v):
        found = ops.matmul(ops.cast(weights, v.dtype)[None], _rows(v))
        return ops.reshape(found, ops.shape(v)[1:])

    return [total(v) for v in values]


def _rows(stack: Any) -> Any:
    return ops.reshape(stack, (ops.shape(stack)[0], math.prod(stack.shape[1:])))
