from typing import Any

import numpy as np
from keras import ops

from fedlearn import backend, checks
from fedlearn.aggregators.distances import gram, squared_distances
from fedlearn.aggregators.krum import krum_ranks
from fedlearn.aggregators.robust_rule import RobustRule, num_counted
from fedlearn.aggregators.sorted_rows import (
    mean_between,
    middle,
    sorted_rows,
)
from fedlearn.encoders.chain import Encoders
from fedlearn.encoders.encoder import Value


def mean_around_median(values: Value, weight: Any, num_left_out: int) -> Value:
    """The mean of each coordinate's values but the farthest from its median."""
    num_rows = num_counted(weight)
    return [
        _around_median(sorted_rows(v, weight), num_rows, num_left_out)
        for v in values
    ]


def _around_median(ordered, num_rows, num_left_out):
    width = num_rows - num_left_out
    # The values closest to the median are neighbours in their order: of all
    # windows of that width, the one whose farther end is closest.
    median = middle(ordered, num_rows)
    last = ops.shape(ordered)[0] - 1
    starts = np.arange(num_left_out + 1, dtype=np.int32)
    ends = ops.clip(starts + width - 1, 0, last)
    low = ops.take(ordered, ops.minimum(starts, last), axis=0)
    high = ops.take(ordered, ends, axis=0)
    farther = ops.maximum(median - low, high - median)
    # Keras's `argmin` on JAX makes float32 of float64, and 1e59 infinite.
    closest = ops.cast(farther == ops.min(farther, axis=0), "float32")
    start = ops.cast(ops.argmax(closest, axis=0), "int32")
    return mean_between(ordered, start, start + width)


class Bulyan(RobustRule):
    """Krum's selection, then a mean around the median of each coordinate.

    El Mhamdi et al. 2018, "The hidden vulnerability of distributed learning
    in Byzantium": Krum chooses `n - 2 f` updates, one after another; of each
    coordinate the `n - 4 f` chosen values that are closest to their median
    are averaged. An update that is close to honest ones as a whole, but far
    in one coordinate, gets through Krum and not through this.

    Args:
        num_byzantine: `f`, how many clients of a round may be malicious. A
            round needs at least `4 f + 3` clients.
        encoders: As for `RobustRule`.

    Raises:
        ValueError: If `num_byzantine` is negative; in a round with too few
            clients.

    Example:

    >>> Bulyan(num_byzantine=2).num_required
    11
    """

    def __init__(self, num_byzantine: int, encoders: Encoders = ()):
        super().__init__(encoders)
        self.num_byzantine = checks.whole("num_byzantine", num_byzantine, 0)

    @property
    def num_required(self) -> int:
        return 4 * self.num_byzantine + 3

    def aggregate(self, value: Value, weight: Any) -> Value:
        distances = squared_distances(gram(value, weight).products)
        counts = ops.cast(weight > 0, weight.dtype)

        def take_best(step, left):
            ranks = krum_ranks(distances, left, self.num_byzantine)
            return ops.where(ranks == 0, ops.zeros_like(left), left)

        num_chosen = num_counted(weight) - 2 * self.num_byzantine
        num_chosen = ops.maximum(num_chosen, 0)
        chosen = counts - backend.loop(num_chosen, take_best, counts)
        return mean_around_median(value, chosen, 2 * self.num_byzantine)
