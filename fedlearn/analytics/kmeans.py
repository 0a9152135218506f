import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fedlearn import checks, seeds
from fedlearn.analytics.column import Which
from fedlearn.analytics.moments import Bounds, Scale, moments
from fedlearn.analytics.query import Query
from fedlearn.analytics.query_privacy import QueryPrivacy
from fedlearn.analytics.result import Result
from fedlearn.privacy.ledger import Ledger


@dataclasses.dataclass(frozen=True, kw_only=True)
class KMeans(Result):
    """Centres, and how many values are nearest to each.

    Attributes:
        centers: `(k, features)`, float64.
        counts: `(k,)`: of the values whose means the centres are.
        error: `(k, features)`, the standard deviation of the last round's
            noise; infinite for a centre of fewer than one value.
    """

    centers: np.ndarray
    counts: np.ndarray


def kmeans(
    data: Any,
    k: int,
    column: Which = None,
    rounds: int = 10,
    init: int | np.ndarray = 0,
    bounds: Bounds = None,
    privacy: QueryPrivacy | None = None,
    budget: Ledger | None = None,
) -> KMeans:
    """Centres of k groups of all clients' values, by Lloyd's algorithm.

    In each round clients send, for each centre, how many of their values are
    nearest to it, and their sum. With noise on both that is DPLloyd of Su et
    al. 2016, "Differentially private k-means clustering".

    Args:
        data, column, bounds, budget: As of `mean`.
        k: How many centres.
        rounds: How often the centres move; a centre without values stays.
        init: A seed, for first centres that are drawn uniformly in the bounds,
            or without them normal, with the values' mean and variance; or the
            centres, `(k, features)`.
        privacy: A `QueryPrivacy`, whose epsilon is for all rounds together.

    Raises:
        ValueError: As of `mean`, or if `init` has another shape.

    Example:

    >>> data = {"anna": ([[0.0], [1.0]], [0, 0]), "ben": ([[9.0]], [1])}
    >>> kmeans(data, 2, init=np.array([[0.0], [5.0]])).centers.tolist()
    [[0.5], [9.0]]
    """
    k = checks.whole("k", k)
    rounds = checks.whole("rounds", rounds)
    query = Query("kmeans", data, column, "numbers", privacy, budget, rounds)
    scale = Scale(query, bounds)
    size = len(scale.half)
    if isinstance(init, (int, np.integer)):
        first = _drawn(query, scale, k, int(init))
    else:
        try:
            first = np.asarray(init, np.float64)
        except (TypeError, ValueError):
            first = np.zeros(0)
        if first.shape != (k, size) or not np.isfinite(first).all():
            raise ValueError(
                f"`init` must be a seed, or centres of shape {(k, size)}, "
                f"finite. Received: {init!r}."
            )
    most = query.max_per_client if scale.bounded else math.inf
    add = query.summing(k * (1 + size), norm=most * math.sqrt(1 + size))
    centers = (first - scale.middle) / scale.half

    def vectors() -> Iterator[np.ndarray]:
        for u in scale.rows(query):
            away = ((u[:, None] - centers) ** 2).sum(axis=2)
            nearest = np.eye(k)[away.argmin(axis=1)]
            sums = np.column_stack([nearest.sum(axis=0), nearest.T @ u])
            yield sums.reshape(-1)

    for _ in range(rounds):
        sums = add(vectors())
        counts, totals = np.split(sums.value.reshape(k, -1), [1], axis=1)
        there = counts >= 1
        moved = np.where(there, totals / np.where(there, counts, 1.0), centers)
        centers = np.clip(moved, -1, 1) if scale.given else moved
    off = np.where(there, sums.error / np.where(there, counts, 1.0), np.inf)
    return query.result(
        KMeans,
        centers=scale.middle + scale.half * centers,
        counts=counts[:, 0],
        error=scale.half * off * np.hypot(1, centers),
    )


def _drawn(query: Query, scale: Scale, k: int, seed: int) -> np.ndarray:
    size = len(scale.half)
    if scale.given:
        u = seeds.uniform(k * size, seed, "kmeans").reshape(k, size)
        return scale.middle + scale.half * (2 * u - 1)
    found = moments(query, None)
    draws = seeds.normal(k * size, seed, "kmeans").reshape(k, size)
    return np.ravel(found.mean) + np.sqrt(np.ravel(found.variance)) * draws
