import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedlearn.analytics.column import Which
from fedlearn.analytics.query import Query, Sum
from fedlearn.analytics.query_privacy import QueryPrivacy
from fedlearn.analytics.result import Estimate, Result
from fedlearn.privacy.ledger import Ledger

Bounds = tuple[Any, Any] | Sequence[Any] | None
"""The least and the largest value, numbers or arrays of a value's shape."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments(Result):
    """Mean and variance, float64, in the shape of a value.

    `error` is that of the variance, `mean_error` that of the mean: standard
    deviations of the noise.
    """

    mean: Any
    variance: Any
    mean_error: Any


def mean(
    data: Any,
    column: Which = None,
    bounds: Bounds = None,
    privacy: QueryPrivacy | None = None,
    budget: Ledger | None = None,
) -> Estimate:
    """The mean of all clients' values, as if they were pooled.

    Args:
        data: The clients: a `FederatedDataset`, a dict or a list of their
            arrays.
        column: Which array: `"x"`, `"y"`, a key of a dict, the number of a
            feature, or a function from a client's arrays to an array.
        bounds: `(low, high)`, to which values are clipped: needed for noise or
            a secure sum.
        privacy: A `QueryPrivacy`; None for the exact mean.
        budget: A `fedlearn.privacy.Ledger`, which is charged.

    Returns:
        An `Estimate`; `value` has the shape of a value, float64. With noise on
        sum and count, `error` is a standard deviation to first order.

    Raises:
        ValueError: If there is no such column, it holds no numbers or numbers
            that aren't finite, or noise would need bounds that aren't given.

    Example:

    >>> data = {"anna": ([1.0, 2.0], [0, 0]), "ben": ([6.0], [1])}
    >>> mean(data).value
    3.0
    """
    query = Query("mean", data, column, "numbers", privacy, budget)
    scale = Scale(query, bounds)
    sums = _power_sums(query, scale, 1)
    count, (first,) = _unpacked(query, sums, 1)
    error = scale.half * sums.error * np.hypot(1, first) / count
    value = scale.middle + scale.half * first
    return query.result(
        Estimate,
        value=_shaped(query, scale.clip(value)),
        error=_shaped(query, error),
    )


def variance(
    data: Any,
    column: Which = None,
    bounds: Bounds = None,
    privacy: QueryPrivacy | None = None,
    budget: Ledger | None = None,
) -> Moments:
    """The variance, and the mean, of all clients' values, as if pooled.

    Divided by the number of values, as `numpy.var`. Without noise clients are
    asked twice, for the mean and for squares about it, so that large means
    cost no digits: the corrected two-pass algorithm of Chan, Golub and LeVeque
    1983, "Algorithms for computing the sample variance". With noise they are
    asked once, for squares about the middle of the bounds.

    Args, returns and errors as those of `mean`, but for the attributes `mean`
    and `variance`.

    Example:

    >>> data = {"anna": ([1.0, 2.0], [0, 0]), "ben": ([6.0], [1])}
    >>> round(variance(data).variance, 4)
    4.6667
    """
    query = Query("variance", data, column, "numbers", privacy, budget)
    return moments(query, bounds)


def moments(query: Query, bounds: Bounds) -> Moments:
    """Mean and variance of a query's values; see `variance`."""
    scale = Scale(query, bounds)
    if not scale.bounded:
        sums = _power_sums(query, scale, 1)
        _, (first,) = _unpacked(query, sums, 1)
        scale.middle = scale.middle + scale.half * first
    sums = _power_sums(query, scale, 2)
    count, (first, second) = _unpacked(query, sums, 2)
    spread = np.maximum(second - first**2, 0.0)
    unit = sums.error / count
    slopes = np.zeros_like(first)
    if unit:  # and so values are within -1 and 1: of others squares overflow
        slopes = np.sqrt(1 + 4 * first**2 + (2 * first**2 - second) ** 2)
    return query.result(
        Moments,
        mean=_shaped(query, scale.clip(scale.middle + scale.half * first)),
        variance=_shaped(query, scale.half**2 * spread),
        mean_error=_shaped(query, scale.half * unit * np.hypot(1, first)),
        error=_shaped(query, scale.half**2 * unit * slopes),
    )


def count(
    data: Any,
    column: Which = None,
    privacy: QueryPrivacy | None = None,
    budget: Ledger | None = None,
) -> Estimate:
    """How many values all clients have together.

    Args, returns and errors as those of `mean`.

    >>> count({"anna": ([1.0, 2.0], [0, 0]), "ben": ([6.0], [1])}).value
    3.0
    """
    query = Query("count", data, column, "any", privacy, budget)
    most = query.max_per_client if query.is_noisy else math.inf
    add = query.summing(1, norm=most, whole=True)
    sums = add(np.array([float(len(v))]) for v in query.values())
    return query.result(Estimate, value=float(sums.value[0]), error=sums.error)


def sum(  # its name in NumPy too
    data: Any,
    column: Which = None,
    bounds: Bounds = None,
    privacy: QueryPrivacy | None = None,
    budget: Ledger | None = None,
) -> Estimate:
    """The sum of all clients' values.

    Args, returns and errors as those of `mean`.

    >>> sum({"anna": ([1.0, 2.0], [0, 0]), "ben": ([6.0], [1])}).value
    9.0
    """
    query = Query("sum", data, column, "numbers", privacy, budget)
    scale = Scale(query, bounds)
    if scale.given:  # there is no count: zero is the middle
        scale.middle = np.zeros_like(scale.middle)
        scale.half = np.maximum(abs(scale.low), abs(scale.high))
    size = len(scale.half)
    most = query.max_per_client if scale.bounded else math.inf
    add = query.summing(size, norm=most * math.sqrt(size))
    sums = add(u.sum(axis=0) for u in scale.rows(query))
    return query.result(
        Estimate,
        value=_shaped(query, scale.half * sums.value),
        error=_shaped(query, scale.half * sums.error),
    )


class Scale:
    """Values as multiples of `half` about `middle`: within -1 and 1."""

    def __init__(self, query: Query, bounds: Bounds):
        size = math.prod(query.column.shape)
        self.given = bounds is not None
        self.bounded = query.is_noisy or query.privacy.secure_sum
        if self.bounded and not self.given:
            raise ValueError(
                f"{query.name} with noise or a secure sum needs `bounds`, "
                "known beforehand: a range that is taken from the data tells "
                "of them."
            )
        self.middle, self.half = np.zeros(size), np.ones(size)
        if bounds is None:
            return
        self.low, self.high = both_bounds(bounds, query.column.shape)
        self.middle = (self.low + self.high) / 2
        self.half = (self.high - self.low) / 2

    def clip(self, values: np.ndarray) -> np.ndarray:
        """Values cut off at the bounds."""
        return np.clip(values, self.low, self.high) if self.given else values

    def rows(self, query: Query) -> Iterator[np.ndarray]:
        """Each client's values, a scaled one in a row."""
        for values in query.values():
            rows = values.reshape(len(values), len(self.half))
            yield (self.clip(rows) - self.middle) / self.half


def both_bounds(
    bounds: Any, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper ones, flat: of values of a shape."""
    try:
        low, high = (
            np.broadcast_to(np.asarray(b, float), shape).reshape(-1)
            for b in bounds
        )
        with np.errstate(over="ignore"):
            fine = bool(((low < high) & np.isfinite(high - low)).all())
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise ValueError(
            "`bounds` must be (low, high), finite, the smaller one first: "
            f"numbers, or arrays of shape {shape}. Received: {bounds!r}."
        )
    return low, high


def _power_sums(query: Query, scale: Scale, order: int) -> Sum:
    """The sum over values of `(1, u, ..., u**order)`, for scaled values u."""
    size = math.prod(query.column.shape)
    most = query.max_per_client if scale.bounded else math.inf
    length = 1 + order * size
    add = query.summing(length, norm=most * math.sqrt(length))

    def vectors() -> Iterator[np.ndarray]:
        for u in scale.rows(query):
            with np.errstate(over="ignore"):  # is refused when all is summed
                powers = [(u**k).sum(axis=0) for k in range(1, order + 1)]
            yield np.concatenate([[float(len(u))], *powers])

    return add(vectors())


def _unpacked(query: Query, sums: Sum, order: int) -> tuple[float, Any]:
    """How many values there are, and the means of their powers."""
    number = float(sums.value[0])
    if query.is_noisy:
        number = max(number, 1.0)
    elif not number:
        raise ValueError(f"{query.name}: no client has any values.")
    return number, sums.value[1:].reshape(order, -1) / number


def _shaped(query: Query, values: np.ndarray) -> Any:
    shaped = np.asarray(values).reshape(query.column.shape)
    return shaped if shaped.ndim else float(shaped)
