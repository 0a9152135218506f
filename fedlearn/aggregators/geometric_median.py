"""The geometric median of updates, of Pillutla et al. 2022."""

from typing import Any, Literal

from keras import ops

from fedlearn import backend
from fedlearn.aggregators.distances import (
    gram,
    squared_distances_to,
    weighted_sum,
)
from fedlearn.aggregators.robust_rule import (
    RobustRule,
    checked_count,
    checked_positive,
)
from fedlearn.encoders.chain import Encoders
from fedlearn.encoders.encoder import Value


def weiszfeld_weights(
    products: Any, weight: Any, smoothing: float, num_iterations: int
) -> Any:
    """What each update counts for in the geometric median.

    The smoothed Weiszfeld algorithm. From one iteration to the next, with
    `v = sum_i b_i x_i`, the new `b_i` is proportional to
    `w_i / max(smoothing, ||x_i - v||)`. The points enter by their inner
    products alone.

    Args:
        products: Of all pairs of updates, of shape `(n, n)`.
        weight: `w`, of shape `(n,)`; zero for rows that don't count.
        smoothing: A distance, above 0.
        num_iterations: How often.

    Returns:
        Of shape `(n,)`, with sum 1; all zeros if no row counts.

    Example: three points in a line, the third one far away.

    >>> x = ops.array([[0.0], [1.0], [1000.0]])
    >>> b = weiszfeld_weights(gram([x]), ops.ones(3), 1e-6, 100)
    >>> abs(float(ops.sum(b * x[:, 0])) - 1) < 1e-2
    True
    """
    # A row too long for its square to be a number would spoil all the others.
    weight = ops.where(
        ops.isfinite(ops.diagonal(products)), weight, ops.zeros_like(weight)
    )
    counts = weight > 0
    products = ops.where(
        ops.logical_and(counts[:, None], counts[None, :]),
        products,
        ops.zeros_like(products),
    )

    def normalize(b):
        return b / ops.maximum(ops.sum(b), 1e-30)

    def step(_, b):
        far = ops.sqrt(squared_distances_to(products, b))
        return normalize(weight / ops.maximum(far, smoothing))

    return backend.loop(num_iterations, step, normalize(weight))


class GeometricMedian(RobustRule):
    """The point with the smallest sum of distances to clients' updates.

    Pillutla, Kakade and Harchaoui 2022, "Robust aggregation for federated
    learning" (RFA), by the smoothed Weiszfeld algorithm. The paper takes
    three iterations, each of which costs it a round of communication. Here
    one costs `n**2` multiplications once the inner products of the updates
    are known, so there are more: an outlier that is `10**k` times as far away
    as others takes some `3 k` to be forgotten.

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
        if weighting not in ("uniform", "num_examples"):
            raise ValueError(
                "`weighting` must be 'uniform' or 'num_examples'. Received: "
                f"{weighting!r}."
            )
        super().__init__(encoders)
        self.weighting = weighting
        self.smoothing = checked_positive("smoothing", smoothing)
        self.num_iterations = checked_count("num_iterations", num_iterations, 1)

    def weight(self, num_examples: Any) -> Any:
        if self.weighting == "num_examples":
            return num_examples
        return ops.ones_like(num_examples)

    def aggregate(self, values: Value, weight: Any, noise: Any) -> Value:
        del noise
        shares = weiszfeld_weights(
            gram(values), weight, self.smoothing, self.num_iterations
        )
        return weighted_sum(values, shares)

    def get_config(self) -> dict[str, Any]:
        return {
            "weighting": self.weighting,
            "smoothing": self.smoothing,
            "num_iterations": self.num_iterations,
            **super().get_config(),
        }
