import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedlearn import checks
from fedlearn.analytics.column import Which
from fedlearn.analytics.query import Query
from fedlearn.analytics.query_privacy import QueryPrivacy
from fedlearn.analytics.result import Result
from fedlearn.analytics.words import as_text
from fedlearn.privacy.ledger import Ledger


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram(Result):
    """Counts by bin.

    Attributes:
        counts: `(bins,)`, float64; with noise also fractions and below 0.
        bins: Their edges, one more than bins, or the texts that are counted.
    """

    counts: np.ndarray
    bins: Any


def histogram(
    data: Any,
    column: Which = None,
    bins: int | Sequence[Any] = 10,
    range: tuple[float, float] | None = None,
    privacy: QueryPrivacy | None = None,
    budget: Ledger | None = None,
) -> Histogram:
    """How many of all clients' values are in each bin.

    Args:
        data, column, privacy, budget: As of `mean`.
        bins: How many, of equal width in `range`; or their edges, as for
            `numpy.histogram`, whose counts these are; or texts, to count how
            often each of them comes. Values outside are left out.
        range: `(low, high)`, for a number of bins.

    Returns:
        A `Histogram`, whose `error` is the standard deviation of a count.

    Raises:
        ValueError: If there is no range, it is reversed, or there is no such
            column.

    Example:

    >>> data = {"anna": ([1.0, 2.0], [0, 0]), "ben": ([6.0], [1])}
    >>> histogram(data, bins=2, range=(0, 8)).counts
    array([2., 1.])
    """
    found: Any
    listed = np.ravel(np.asarray(bins, object)) if np.ndim(bins) else ()
    if len(listed) and all(isinstance(b, (str, bytes)) for b in listed):
        query = Query("histogram", data, column, "texts", privacy, budget)
        found = [as_text(b) for b in listed]
        counted, size = counter(found), len(found)
    else:
        query = Query("histogram", data, column, "numbers", privacy, budget)
        found = edges(bins, range)
        size = len(found) - 1

        def counted(values: Any) -> np.ndarray:
            return np.histogram(values, found)[0].astype(np.float64)

    each = math.prod(query.column.shape)
    most = query.max_per_client * each if query.is_noisy else math.inf
    add = query.summing(size, norm=most, whole=True)
    sums = add(counted(values.reshape(-1)) for values in query.values())
    return query.result(
        Histogram, counts=sums.value, bins=found, error=sums.error
    )


def counter(words: Sequence[str]) -> Callable[[Any], np.ndarray]:
    """A function that counts how often each of some words is in others."""
    place = {word: i for i, word in enumerate(words)}
    if len(place) != len(words):
        raise ValueError("A text is twice in `bins`. Expected each once.")

    def counted(texts: Any) -> np.ndarray:
        counts = np.zeros(len(place))
        for text in texts:
            at = place.get(as_text(text))
            if at is not None:
                counts[at] += 1
        return counts

    return counted


def edges(
    bins: int | Sequence[float], range: tuple[float, float] | None
) -> np.ndarray:
    """The edges of bins, in order; an error where there is no range."""
    if not isinstance(bins, (int, np.integer)):
        try:
            found = np.asarray(bins, np.float64)
        except (TypeError, ValueError):
            found = np.zeros(0)
        if found.ndim != 1 or len(found) < 2 or not (np.diff(found) > 0).all():
            raise ValueError(
                "`bins` must be a number, texts, or edges in increasing "
                f"order, two at least. Received: {bins!r}."
            )
        return found
    checks.whole("bins", bins)
    if range is None:
        raise ValueError(
            f"{bins} bins need `range=(low, high)`. The least and the largest "
            "value aren't asked for: they are single clients' own."
        )
    try:
        low, high = map(float, range)
        fine = low < high and high - low < math.inf
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise ValueError(
            "`range` must be (low, high), finite, the smaller one first. "
            f"Received: {range!r}."
        )
    return np.linspace(low, high, int(bins) + 1)
