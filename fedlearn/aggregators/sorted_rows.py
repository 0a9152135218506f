import math
from typing import Any

from keras import ops

from fedlearn.aggregators.robust_rule import num_counted
from fedlearn.aggregators.sorting_network import sort_columns
from fedlearn.encoders.norms import along_rows


def sorted_rows(stack: Any, weight: Any) -> Any:
    """The rows that count, each coordinate sorted by itself; then infinities.

    >>> stack = ops.array([[3.0], [9.0], [1.0]])
    >>> rows = sorted_rows(stack, ops.array([1.0, 0.0, 1.0]))
    >>> ops.convert_to_numpy(rows)[:, 0].tolist()
    [1.0, 3.0, inf]
    """
    counts = along_rows(weight > 0, stack)
    rows = ops.reshape(
        ops.where(counts, stack, math.inf),
        (-1, math.prod(stack.shape[1:])),
    )
    return ops.reshape(sort_columns(rows), (-1, *stack.shape[1:]))


def middle(ordered: Any, num_rows: Any) -> Any:
    """The median of the first `num_rows` (an int32 scalar) of `sorted_rows`.

    For none it is infinite.
    """
    last = ops.maximum(num_rows - 1, 0)
    pair = ops.take(ordered, ops.stack([last // 2, (last + 1) // 2]), axis=0)
    return ops.sum(pair / 2, axis=0)  # halved first: a sum could overflow


def median_of(numbers: Any, weight: Any) -> Any:
    """The median of the numbers that count, a scalar; infinite if none does."""
    return middle(sorted_rows(numbers, weight), num_counted(weight))


def mean_between(ordered: Any, start: Any, stop: Any) -> Any:
    """The mean of rows `start` to `stop`, without the latter."""
    position = along_rows(row_numbers(ordered), ordered)
    inside = ops.logical_and(position >= start, position < stop)
    total = ops.sum(ops.where(inside, ordered, ops.zeros_like(ordered)), axis=0)
    return total / ops.cast(ops.maximum(stop - start, 1), total.dtype)


def row_numbers(stack: Any) -> Any:
    """0, 1, ..., n - 1, int32 of shape `(n,)`; also where n isn't static."""
    return ops.arange(ops.shape(stack)[0], dtype="int32")
