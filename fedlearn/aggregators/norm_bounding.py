from typing import Any, Literal

from keras import ops

from fedlearn import checks
from fedlearn.aggregators.distances import equal_shares, weighted_sum
from fedlearn.aggregators.robust_rule import RobustRule
from fedlearn.aggregators.sorted_rows import median_of
from fedlearn.encoders import norms
from fedlearn.encoders.chain import Encoders
from fedlearn.encoders.encoder import Value


def radius_of(name: str, value: Any) -> float | Literal["median"]:
    """A number above zero or `"median"`, or a clear error."""
    if isinstance(value, str) and value != "median":
        raise ValueError(
            f"`{name}` must be a number above 0, or 'median' for one that "
            f"follows the updates. Received: {value!r}."
        )
    return value if value == "median" else checks.positive(name, value)


class NormBounding(RobustRule):
    """The mean of clients' updates, each clipped to an L2 norm.

    Sun et al. 2019, "Can you really backdoor federated learning?": to replace
    the model, an attacker scales an update up; scaled down again it is one of
    many. It bounds what malicious clients do in a round, and doesn't stop
    those that are many, or patient.

    By default the bound is the median norm of the round's updates: while fewer
    than half of the clients are malicious, no more than that of some honest
    update. All updates of a round are kept for it, side by side. With a
    number for `norm`, updates are added as they come: memory doesn't grow
    with the number of clients.

    The server clips what it decoded, so that a client can't choose not to.

    Args:
        norm: The largest norm, or `"median"`.
        encoders: As for `RobustRule`.

    Raises:
        ValueError: If `norm` is neither above 0 nor `"median"`.

    Example:

    >>> NormBounding(3.0).reduction, NormBounding().reduction
    ('sum', 'stack')
    """

    def __init__(
        self,
        norm: float | Literal["median"] = "median",
        encoders: Encoders = (),
    ):
        super().__init__(encoders)
        self.norm = radius_of("norm", norm)
        self.reduction = "stack" if self.norm == "median" else "sum"

    def summand(self, message: Any, num_examples: Any, params: Any) -> Any:
        summand = super().summand(message, num_examples, params)
        if self.norm == "median":
            return summand
        value = summand["value"]
        clipped = norms.scale_down(value, norms.l2(value), self.norm)
        return {**summand, "value": clipped}

    def aggregate(self, value: Value, weight: Any) -> Value:
        if self.norm == "median":
            lengths = norms.l2_of_rows(value)
            median = median_of(lengths, weight)
            shares = equal_shares(weight, lengths.dtype)
            factors = norms.clip_factors(lengths, median)
            return weighted_sum(value, shares * factors)
        num_clients = ops.maximum(weight, 1.0)
        return [v / ops.cast(num_clients, v.dtype) for v in value]

    def num_aggregated(self, weight: Any) -> Any:
        if self.norm == "median":
            return super().num_aggregated(weight)
        return weight
