from typing import Any, Literal

from keras import ops

from fedlearn import checks
from fedlearn.aggregators.distances import equal_shares, weighted_sum
from fedlearn.aggregators.norm_bounding import radius_of
from fedlearn.aggregators.robust_rule import RobustRule
from fedlearn.aggregators.sorted_rows import median_of
from fedlearn.encoders import norms
from fedlearn.encoders.chain import Encoders
from fedlearn.encoders.encoder import Value


class CenteredClipping(RobustRule):
    """The last round's aggregate, moved by clipped updates.

    Karimireddy, He and Jaggi 2021, "Learning from history for Byzantine
    robust optimization", algorithm 2: the center moves by

        v <- v + (1/n) sum_i (x_i - v) min(1, tau / ||x_i - v||),

    so no client pulls it farther than `tau / n`. What many clients want round
    after round gets there; a malicious one's influence is bounded in each.

    The paper's `tau` is a number, about as large as honest updates differ
    from each other. By default it is the median distance of a round's updates
    to the center instead: while fewer than half of the clients are malicious,
    no more than that of some honest update, and as a model learns and updates
    get shorter it follows them.

    The paper's workers send momenta, which change slowly. Updates of one
    round differ more from the last aggregate: so there is more than the
    paper's one iteration.

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
        center, radius = state, self.tau
        shares = equal_shares(weight, norms.wide_dtype(value))
        for _ in range(self.num_iterations):
            ways = [v - c for v, c in zip(value, center, strict=True)]
            lengths = norms.l2_of_rows(ways)
            if self.tau == "median":
                radius = median_of(lengths, weight)
            factors = norms.clip_factors(lengths, radius)
            moves = weighted_sum(ways, shares * factors)
            center = [c + m for c, m in zip(center, moves, strict=True)]
        return center, center
