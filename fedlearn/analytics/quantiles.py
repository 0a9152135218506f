import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedlearn import checks
from fedlearn.analytics.column import Which
from fedlearn.analytics.histogram import edges
from fedlearn.analytics.query import Query
from fedlearn.analytics.query_privacy import QueryPrivacy
from fedlearn.analytics.result import Result
from fedlearn.privacy.ledger import Ledger

# Of a normal distribution, 95 percent are within so many deviations.
_DEVIATIONS = 1.96


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantiles(Result):
    """Quantiles, each with the half-width of an interval.

    Attributes:
        q: Which, `(n,)`.
        values: They, `(n,)`, float64.
        error: `(n,)`: so near is the true one, with certainty without noise
            (a bin's width), and else with a confidence of 95 %.
    """

    q: np.ndarray
    values: np.ndarray


def quantiles(
    data: Any,
    column: Which = None,
    q: float | Sequence[float] = (0.25, 0.5, 0.75),
    range: tuple[float, float] | None = None,
    num_bins: int = 1024,
    privacy: QueryPrivacy | None = None,
    budget: Ledger | None = None,
) -> Quantiles:
    """Quantiles of all clients' values, by a hierarchical histogram.

    With noise, values are counted in the whole range, its halves, quarters and
    so on, so that any rank is the sum of a few noisy counts (Hay et al. 2010,
    "Boosting the accuracy of differentially private histograms through
    consistency", without their inference).

    Args:
        data, column, privacy, budget: As of `mean`.
        q: Numbers from 0 to 1. The quantile is the least value up to which
            that share of all values are: NumPy's `method="inverted_cdf"`.
        range: `(low, high)`; values outside count at its ends.
        num_bins: Of equal width, a power of two.

    Raises:
        ValueError: If an argument is out of its range, or no client has any
            values.

    Example:

    >>> data = {"anna": ([1.0, 2.0], [0, 0]), "ben": ([6.0], [1])}
    >>> found = quantiles(data, q=[0.5], range=(0, 8), num_bins=8)
    >>> abs(found.values - 2.0) <= found.error
    array([ True])
    """
    try:
        wanted = np.atleast_1d(np.asarray(q, np.float64))
    except (TypeError, ValueError):
        wanted = np.full(1, np.nan)
    if wanted.ndim > 1 or not ((wanted >= 0) & (wanted <= 1)).all():
        raise ValueError(
            "`q` must be numbers from 0 to 1, such as 0.9 for the 90th "
            f"percentile. Received: {q!r}."
        )
    num_bins = checks.whole("num_bins", num_bins, least=2)
    levels = num_bins.bit_length() - 1
    if num_bins != 2**levels:
        raise ValueError(
            f"`num_bins` must be a power of 2. Received: {num_bins}."
        )
    query = Query("quantiles", data, column, "numbers", privacy, budget)
    grid = edges(num_bins, range)
    # Without noise every level follows from the last.
    sizes = (
        [2**k for k in np.arange(levels + 1)] if query.is_noisy else [num_bins]
    )
    each = math.prod(query.column.shape)
    most = query.max_per_client * each if query.is_noisy else math.inf
    add = query.summing(
        int(np.sum(sizes)),
        norm=most * math.sqrt(len(sizes)),
        whole=True,
    )

    def vectors() -> Iterator[np.ndarray]:
        for values in query.values():
            within = np.clip(values, grid[0], grid[-1])
            leaves = np.histogram(within, grid)[0].astype(np.float64)
            yield np.concatenate(
                [leaves.reshape(size, -1).sum(axis=1) for size in sizes]
            )

    sums = add(vectors())
    counts = np.split(sums.value, np.cumsum(sizes)[:-1])
    below = edge_ranks(counts) if query.is_noisy else _cumulated(counts[-1])
    if not below[-1]:
        raise ValueError("quantiles: no client has any values.")
    values, error = found_at(wanted, below, sums.error, grid)
    return query.result(Quantiles, q=wanted, values=values, error=error)


def found_at(
    wanted: np.ndarray, below: np.ndarray, deviation: float, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles and their errors, of how many values are below each edge.

    With noise, of the deviation of a single count, such ranks may fall: the
    two around them never do.
    """
    around = [
        np.maximum.accumulate(below),
        np.minimum.accumulate(below[::-1])[::-1],
    ]
    middle = (around[0] + around[1]) / 2
    ranks = wanted * max(below[-1], 1.0)
    values = _where(np.clip(ranks, 1e-9, middle[-1]), middle, grid)
    error = np.full(len(wanted), grid[1] - grid[0])
    if deviation:
        # A rank is made of a count of each level at most, and so is the
        # total. At the true quantile the rank is so near to the one wanted,
        # with that confidence: it is between the first edge where the rank
        # is and the last.
        levels = (len(grid) - 1).bit_length()
        off = _DEVIATIONS * deviation * math.sqrt(levels)
        low = _where(ranks - off, around[0], grid)
        high = _where(ranks + off, around[1], grid)
        error += np.maximum(values - low, high - values)
    return values, error


def _where(ranks: np.ndarray, below: np.ndarray, grid: np.ndarray) -> Any:
    """In the first bin up to which there are so many values."""
    end = np.clip(np.searchsorted(below, ranks), 1, len(below) - 1)
    inside = np.maximum(below[end] - below[end - 1], 1e-30)
    share = np.clip((ranks - below[end - 1]) / inside, 0.0, 1.0)
    return grid[end - 1] + share * (grid[end] - grid[end - 1])


def _cumulated(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(counts)])


def edge_ranks(counts: list[np.ndarray]) -> np.ndarray:
    """How many values are below each edge, of the counts of all levels."""
    below = np.zeros(2)
    below[1] = counts[0][0]
    for level in counts[1:]:
        finer = np.empty(len(level) + 1)
        finer[::2] = below
        # Up to the middle of a node: up to its start, and its left half.
        finer[1::2] = below[:-1] + level[::2]
        below = finer
    return below
