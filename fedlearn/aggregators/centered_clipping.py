from typing import Any, Literal

from keras import ops

from fedlearn import checks
from fedlearn.aggregators.distances import weighted_sum
from fedlearn.aggregators.norm_bounding import radius_of
from fedlearn.aggregators.robust_rule import RobustRule
from fedlearn.aggregators.sorted_rows import median_of
from fedlearn.encoders import norms
from fedlearn.encoders.chain import Encoders
from fedlearn.encoders.encoder import Value


def centered_clip(
    values: Value,
    weight: Any,
    center: Value,
    tau: float | Literal["median"],
    num_iterations: int,
) -> Value:
    """A center, moved by the mean of the clipped ways to the updates.

    `v <- v + (1/m) sum_i (x_i - v) min(1, tau / ||x_i - v||)`, some times;
    with `tau="median"` as far as the median of `||x_i - v||`, anew each time.
    """
    counts = ops.cast(weight > 0, norms.wide_dtype(values))
    shares = counts / ops.maximum(ops.sum(counts), 1.0)
    for _ in range(num_iterations):
        ways = [v - c for v, c in zip(values, center, strict=True)]
        lengths = norms.l2_of_rows(ways)
        radius = median_of(lengths, weight) if tau == "median" else tau
        moves = weighted_sum(ways, shares * norms.clip_factors(lengths, radius))
        center = [c + m for c, m in zip(center, moves, strict=True)]
    return center


class CenteredClipping(RobustRule):
    """The last round's aggregate, moved by clipped updates.

    Karimireddy, He and Jaggi 2021, "Learning from history for Byzantine
    robust optimization", algorithm 2: no client pulls the aggregate farther
    than `tau / n` away from where it was. What many clients want round after
    round gets there; a malicious one's influence is bounded in each round.

    The paper's `tau` is a number, about as large as honest updates differ
    from each other, and has to be found. By default it is the median distance
    of a round's updates to the center instead. While fewer than half of the
    clients are malicious, that is no more than the distance of some honest
    update; and it follows the updates, which get shorter as a model learns.

    The paper's workers send momenta, which change slowly. Clients of one
    round have none, and their updates differ more from the last aggregate:
    so there is more than the paper's one iteration. Each brings the center
    nearer to the updates that are close together.

    The state is the last aggregate, at first zero. It stays at the server.

    Args:
        tau: The clipping radius, an L2 norm, or `"median"`.
        num_iterations: The paper's `L`.
        encoders: As for `RobustRule`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> CenteredClipping(tau=0.5).get_config()
    {'tau': 0.5, 'num_iterations': 3, 'encoders': ()}
    """

    def __init__(
        self,
        tau: float | Literal["median"] = "median",
        num_iterations: int = 3,
        encoders: Encoders = (),
    ):
        super().__init__(encoders)
        self.tau = radius_of("tau", tau)
        self.num_iterations = checks.whole("num_iterations", num_iterations, 1)

    def init_rule(self) -> Any:
        return [ops.zeros(s.shape, norms.wide_dtype([s])) for s in self.spec]

    def step(self, state: Any, value: Value, weight: Any) -> tuple[Value, Any]:
        center = centered_clip(
            value, weight, state, self.tau, self.num_iterations
        )
        return center, center
