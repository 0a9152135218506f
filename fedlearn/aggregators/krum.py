import math
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import checks
from fedlearn.aggregators.distances import (
    gram,
    squared_distances,
    weighted_sum,
)
from fedlearn.aggregators.robust_rule import RobustRule, num_counted
from fedlearn.aggregators.sorted_rows import row_numbers
from fedlearn.encoders.chain import Encoders
from fedlearn.encoders.encoder import Value


def krum_scores(distances: Any, weight: Any, num_byzantine: int) -> Any:
    """The sum of an update's squared distances to the `m - f - 2` closest.

    Of the `m` that count, and to at least one; the distances, of shape
    `(n, n)`, may be in any unit. Infinite only for rows that don't count.
    """
    num_neighbours = num_counted(weight) - num_byzantine - 2
    return _sum_of_closest(distances, weight, ops.maximum(num_neighbours, 1))


def krum_ranks(distances: Any, weight: Any, num_byzantine: int) -> Any:
    """The order of updates by `krum_scores`, int32: 0 for the smallest score.

    Of equals, such as two that are each other's one neighbour, the one that
    is closer to all others comes first; the paper takes the first client.
    """
    scores = krum_scores(distances, weight, num_byzantine)
    everyone = _sum_of_closest(distances, weight, num_counted(weight) - 1)
    numbers = row_numbers(distances)
    before = numbers[None, :] < numbers[:, None]
    for key in (everyone, scores):
        less, equal = key[None] < key[:, None], key[None] == key[:, None]
        before = ops.logical_or(less, ops.logical_and(equal, before))
    return ops.sum(ops.cast(before, "int32"), axis=1)


def _sum_of_closest(distances, weight, count):
    counts = weight > 0
    numbers = row_numbers(distances)
    others = numbers[:, None] != numbers[None, :]
    pairs = ops.logical_and(counts[:, None], counts[None, :])
    kept = ops.where(ops.logical_and(others, pairs), distances, math.inf)
    ordered = ops.sort(kept, axis=1)
    near = ops.where(numbers[None, :] < count, ordered, ops.zeros_like(ordered))
    # What is infinitely far still comes before what doesn't count.
    dtype = keras.backend.standardize_dtype(distances.dtype)
    total = ops.minimum(ops.sum(near, axis=1), float(np.finfo(dtype).max))
    return ops.where(counts, total, math.inf)


class Krum(RobustRule):
    """The update that is closest to its neighbours; or the mean of several.

    Blanchard et al. 2017, "Machine learning with adversaries: Byzantine
    tolerant gradient descent": each update's score is the sum of its squared
    distances to the `n - f - 2` closest others. The one with the smallest
    score is the aggregate; with `num_selected` above one it is the mean of
    those with the smallest scores (Multi-Krum).

    Args:
        num_byzantine: `f`, how many clients of a round may be malicious. A
            round needs at least `2 f + 3` clients.
        num_selected: How many updates are averaged. A round needs at least
            `f + 2` clients more.
        encoders: As for `RobustRule`.

    Raises:
        ValueError: If a number is out of its range; in a round with too few
            clients.

    Example:

    >>> Krum(num_byzantine=2).num_required
    7
    >>> Krum(num_byzantine=2, num_selected=10).num_required
    14
    """

    def __init__(
        self,
        num_byzantine: int,
        num_selected: int = 1,
        encoders: Encoders = (),
    ):
        super().__init__(encoders)
        self.num_byzantine = checks.whole("num_byzantine", num_byzantine, 0)
        self.num_selected = checks.whole("num_selected", num_selected, 1)

    @property
    def num_required(self) -> int:
        # With more than n - f - 2 the mean can hold what only malicious
        # clients are close to (Damaskinos et al. 2019, "AggregaThor").
        f = self.num_byzantine
        return f + 2 + max(f + 1, self.num_selected)

    def aggregate(self, value: Value, weight: Any) -> Value:
        distances = squared_distances(gram(value, weight).products)
        ranks = krum_ranks(distances, weight, self.num_byzantine)
        selected = ranks < self.num_selected
        shares = ops.cast(selected, weight.dtype) / self.num_selected
        return weighted_sum(value, shares)
