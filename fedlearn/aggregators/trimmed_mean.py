from typing import Any

from keras import ops

from fedlearn import checks
from fedlearn.aggregators.robust_rule import RobustRule, num_counted
from fedlearn.aggregators.sorted_rows import mean_between, sorted_rows
from fedlearn.encoders.chain import Encoders
from fedlearn.encoders.encoder import Value


class TrimmedMean(RobustRule):
    """The mean of clients' updates without the extremes of each coordinate.

    Yin et al. 2018, "Byzantine-robust distributed learning: towards optimal
    statistical rates", algorithm 1, option II: of each coordinate the largest
    and the smallest values are left out. At most so many malicious clients
    can't move a coordinate beyond what honest clients sent.

    Args:
        fraction: Of the clients, left out at each end (their number is
            rounded down, and one or two stay): at least the fraction that may
            be malicious, and below 0.5. With 0 it is the mean.
        encoders: As for `RobustRule`.

    Raises:
        ValueError: If `fraction` isn't in [0, 0.5).

    Example:

    >>> TrimmedMean(0.2).get_config()
    {'fraction': 0.2, 'encoders': ()}
    """

    def __init__(self, fraction: float, encoders: Encoders = ()):
        if not (checks.is_real(fraction) and 0 <= fraction < 0.5):
            raise ValueError(
                "`fraction` is left out at each end, so it must be at least "
                f"0 and below 0.5. Received: {fraction!r}."
            )
        super().__init__(encoders)
        self.fraction = fraction

    def aggregate(self, value: Value, weight: Any) -> Value:
        num_rows = num_counted(weight)
        # A little more, so that 0.29 of 100 isn't 28 for want of a last bit.
        cut = self.fraction * ops.cast(num_rows, "float32") + 1e-3
        cut = ops.cast(ops.floor(cut), "int32")
        cut = ops.maximum(ops.minimum(cut, (num_rows - 1) // 2), 0)
        return [
            mean_between(sorted_rows(v, weight), cut, num_rows - cut)
            for v in value
        ]
