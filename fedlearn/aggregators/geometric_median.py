import math
from typing import Any, Literal

from keras import ops

from fedlearn import backend, checks
from fedlearn.aggregators.distances import (
    gram,
    squared_distances_to,
    weighted_sum,
)
from fedlearn.aggregators.robust_rule import RobustRule
from fedlearn.encoders.chain import Encoders
from fedlearn.encoders.encoder import Value


class GeometricMedian(RobustRule):
    """The point with the smallest sum of distances to clients' updates.

    Pillutla, Kakade and Harchaoui 2022, "Robust aggregation for federated
    learning" (RFA), by the smoothed Weiszfeld algorithm: from
    `v = sum_i b_i x_i`, the next `b_i` is proportional to
    `w_i / max(smoothing, ||x_i - v||)`, with sum 1. The paper takes three
    iterations, each of which costs it a round of communication. Here one
    costs `n**2` multiplications once the inner products of the updates are
    known, so there are more: an outlier that is `10**k` times as far away as
    others takes some `3 k` to be forgotten.

    Args:
        weighting: `"uniform"`, or the paper's `"num_examples"`, which trusts
            clients to count honestly.
        smoothing: The paper's `nu`: distances below it count as this.
        num_iterations: Of the Weiszfeld algorithm.
        encoders: As for `RobustRule`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> GeometricMedian(num_iterations=3).num_iterations
    3
    """

    def __init__(
        self,
        weighting: Literal["uniform", "num_examples"] = "uniform",
        smoothing: float = 1e-6,
        num_iterations: int = 100,
        encoders: Encoders = (),
    ):
        checks.one_of("weighting", weighting, ("uniform", "num_examples"))
        super().__init__(encoders)
        self.weighting = weighting
        self.smoothing = checks.positive("smoothing", smoothing)
        self.num_iterations = checks.whole("num_iterations", num_iterations, 1)

    def weight(self, num_examples: Any) -> Any:
        if self.weighting == "num_examples":
            return num_examples
        return ops.ones_like(num_examples)

    def aggregate(self, value: Value, weight: Any) -> Value:
        points = gram(value, weight)
        products, weight = points.products, ops.cast(weight, points.unit.dtype)
        least = self.smoothing / points.unit
        # A row too long for its square would spoil all the others.
        short = ops.isfinite(ops.diagonal(products))
        weight = ops.where(short, weight, ops.zeros_like(weight))
        counts = weight > 0
        pairs = ops.logical_and(counts[:, None], counts[None, :])
        products = ops.where(pairs, products, ops.zeros_like(products))
        total = ops.sum(weight)

        def step(_, b):
            far = ops.sqrt(squared_distances_to(products, b))
            far = ops.maximum(far, least)
            # Over the shortest, so that no quotient overflows or vanishes.
            nearest = ops.min(ops.where(counts, far, math.inf))
            b = weight * ops.where(counts, nearest / far, ops.zeros_like(far))
            return b / ops.where(total > 0, ops.sum(b), 1.0)

        start = weight / ops.where(total > 0, total, 1.0)
        shares = backend.loop(self.num_iterations, step, start)
        return weighted_sum(value, shares)
