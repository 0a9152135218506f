"""What a client's round adds to the total."""

from typing import Any, NamedTuple

import keras
from keras import ops

from fedlearn.keras_model.functional_model import Arrays


class Update(NamedTuple):
    """What a client's round adds to the total; updates add with `+`.

    Addition is commutative and associative up to rounding, so partial sums
    can be made anywhere, in any order.

    Attributes:
        summand: What the aggregator adds up.
        metrics: The variables of the model's metrics over local training.
        num_clients: How many clients are in the sum, int32.
        num_examples: How many examples they have, int32.
        num_rejected: How many were left out because their update wasn't
            finite, int32.
        kept: Pairs of a client's id and what is looked at one by one on the
            host: what it keeps for its next round, and messages whose lengths
            differ. Empty for most aggregators.
    """

    summand: Any
    metrics: Arrays
    num_clients: Any
    num_examples: Any
    num_rejected: Any
    kept: tuple[tuple[str, Any], ...] = ()

    def __add__(self, other: Any) -> "Update":
        sums = keras.tree.map_structure(
            lambda a, b: a + b, tuple(self[:5]), tuple(other[:5])
        )
        return Update(*sums)._replace(kept=self.kept + other.kept)

    def __radd__(self, other: Any) -> "Update":
        if isinstance(other, int) and other == 0:  # the start of `sum(...)`
            return self
        return NotImplemented


class StackedUpdate(NamedTuple):
    """An `Update` whose summands stay apart, on a first axis over clients.

    For aggregators that need every client's update, such as a median.
    """

    summand: Any
    metrics: Arrays
    num_clients: Any
    num_examples: Any
    num_rejected: Any
    kept: tuple[tuple[str, Any], ...] = ()

    def __add__(self, other: Any) -> "StackedUpdate":
        def join(a, b):
            return ops.concatenate([a, b], axis=0)

        sums = Update((), *self[1:]) + Update((), *other[1:])
        summand = keras.tree.map_structure(join, self.summand, other.summand)
        return StackedUpdate(summand, *sums[1:])

    def __radd__(self, other: Any) -> "StackedUpdate":
        if isinstance(other, int) and other == 0:
            return self
        return NotImplemented
