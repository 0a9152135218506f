from typing import Any

from keras import ops

from fedlearn import checks
from fedlearn.aggregators.distances import equal_shares, weighted_sum
from fedlearn.aggregators.robust_rule import RobustRule
from fedlearn.aggregators.sorted_rows import median_of
from fedlearn.encoders import norms
from fedlearn.encoders.chain import Encoders
from fedlearn.encoders.encoder import Value


class OutlierRemoval(RobustRule):
    """The mean of clients' updates without those that are far too long.

    An update is left out whose L2 norm is more than `factor` times the median
    norm of its round: of crashes, broken sensors and crude attacks. What is
    malicious and of ordinary length gets through.

    Args:
        factor: Above 1, so that some updates always stay.
        encoders: As for `RobustRule`.

    Raises:
        ValueError: If `factor` isn't above 1.

    Example:

    >>> OutlierRemoval(3.0).factor
    3.0
    """

    def __init__(self, factor: float = 3.0, encoders: Encoders = ()):
        super().__init__(encoders)
        self.factor = checks.positive("factor", factor)
        if self.factor <= 1:
            raise ValueError(
                "`factor` must be above 1, or half of the updates would be "
                f"outliers. Received: {factor!r}."
            )

    def aggregate(self, value: Value, weight: Any) -> Value:
        lengths = norms.l2_of_rows(value)
        limit = self.factor * median_of(lengths, weight)
        # An infinite median is no reason to let an infinite norm pass.
        short = ops.logical_and(lengths <= limit, ops.isfinite(lengths))
        kept = ops.where(short, weight, ops.zeros_like(weight))
        shares = equal_shares(kept, norms.wide_dtype(value))
        return weighted_sum(value, shares)
