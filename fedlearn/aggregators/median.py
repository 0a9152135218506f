from typing import Any

from fedlearn.aggregators.robust_rule import RobustRule, num_counted
from fedlearn.aggregators.sorted_rows import middle, sorted_rows
from fedlearn.encoders.encoder import Value


def coordinate_median(values: Value, weight: Any) -> Value:
    """The median of each coordinate over the rows that count.

    For an even number of rows the mean of the two in the middle.
    """
    num_rows = num_counted(weight)
    return [middle(sorted_rows(v, weight), num_rows) for v in values]


class Median(RobustRule):
    """The median of clients' updates, coordinate by coordinate.

    Yin et al. 2018, "Byzantine-robust distributed learning: towards optimal
    statistical rates", algorithm 1, option I. Fewer than half of the clients
    can't move a coordinate beyond what honest clients sent.

    Clients with different data pay for it: what only a minority of them
    knows is an outlier, too.

    Args:
        encoders: As for `RobustRule`.

    Example:

    >>> import numpy as np
    >>> import fedlearn as fl
    >>> train, test = fl.datasets.digits.load_data(num_clients=5)
    >>> model = fl.models.logistic_regression(input_shape=(8, 8, 1))
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> process = fl.FederatedAveraging(model, aggregator=Median())
    >>> state, metrics = process.next(process.initialize(), train)
    >>> metrics["num_aggregated"]
    5.0
    """

    def aggregate(self, value: Value, weight: Any) -> Value:
        return coordinate_median(value, weight)
