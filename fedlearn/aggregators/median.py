from typing import Any

from fedlearn.aggregators.robust_rule import RobustRule, num_counted
from fedlearn.aggregators.sorted_rows import middle, sorted_rows
from fedlearn.encoders.encoder import Value


class Median(RobustRule):
    """The median of clients' updates, coordinate by coordinate.

    For an even number of clients the mean of the two in the middle.

    Yin et al. 2018, "Byzantine-robust distributed learning: towards optimal
    statistical rates", algorithm 1, option I. Fewer than half of the clients
    can't move a coordinate beyond what honest clients sent.

    Clients with different data pay for it: what only a minority of them
    knows is an outlier, too.

    Args:
        encoders: As for `RobustRule`.

    Example:

    >>> from keras import ops
    >>> updates = [ops.array([[1.0, 8.0], [9.0, 3.0], [2.0, 5.0]])]
    >>> (median,) = Median().aggregate(updates, ops.ones(3))
    >>> ops.convert_to_numpy(median).tolist()
    [2.0, 5.0]
    """

    def aggregate(self, value: Value, weight: Any) -> Value:
        num_rows = num_counted(weight)
        return [middle(sorted_rows(v, weight), num_rows) for v in value]
