from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from fedlearn.aggregators.aggregator import Aggregator
from fedlearn.encoders import norms
from fedlearn.encoders.chain import Encoders
from fedlearn.encoders.encoder import Value


class RobustRule(Aggregator):
    """A rule that looks at each client's update by itself.

    A subclass says what it makes of the updates (`aggregate`), and how many
    it needs (`num_required`). What a client sends is decoded for that client
    alone, on the server, before the rule sees it.

    An update doesn't count if its client has no examples or if it isn't
    finite. A cohort of fewer than `num_required` clients is an error. If too
    few of a larger one count, the metric `num_aggregated` is 0 and the server
    stays as it is: crashed clients cost a round, not the run.

    All updates count the same, however many examples their clients report: a
    malicious client could report any number.

    Args:
        encoders: As for `Chain`.

    Raises:
        ValueError: If an encoder is decoded on the sum over clients (noise):
            these rules make no sum.

    Example: the largest update of any client, coordinate by coordinate.

    >>> class Largest(RobustRule):
    ...     def aggregate(self, values, weight):
    ...         return [ops.max(v, axis=0) for v in values]
    >>> rule = Largest().build([keras.KerasTensor((2,))])
    >>> total = {
    ...     "value": [ops.array([[-1.0, 2.0], [3.0, 4.0]])],
    ...     "weight": ops.array([1.0, 1.0]),
    ...     "stats": (),
    ... }
    >>> aggregate, _, _ = rule.finish(rule.init(), total, (), ())
    >>> ops.convert_to_numpy(aggregate[0]).tolist()
    [3.0, 4.0]
    """

    reduction: Literal["sum", "stack"] = "stack"

    def __init__(self, encoders: Encoders = ()):
        super().__init__(encoders)
        for encoder in self.encoders:
            if encoder.decodes == "sum":
                raise ValueError(
                    f"{type(self).__name__} looks at each client's update by "
                    f"itself, and {type(encoder).__name__} can only be "
                    "decoded on the sum over clients. Leave it out, or use "
                    "aggregators.Mean, which makes that sum."
                )

    # What a subclass says.

    def aggregate(self, value: Value, weight: Any) -> Value:
        """The aggregate of a round's updates, if there are enough.

        Args:
            value: Float32 arrays of shape `(n, ...)`, one a variable, and
                float64 where the variable is; row `k` is client `k`'s. Rows
                that don't count are zeros.
            weight: From `weight`, of shape `(n,)`, float64 if an array is;
                zero for rows that don't count.

        Returns:
            Arrays without the first axis.
        """
        raise NotImplementedError

    def init_rule(self) -> Any:
        """The state of a rule that has one, beside that of the encoders."""
        return ()

    def step(self, state: Any, value: Value, weight: Any) -> tuple[Value, Any]:
        """`(aggregate, state)`: `aggregate`, of a rule that has a state."""
        return self.aggregate(value, weight), state

    def weight(self, num_examples: Any) -> Any:
        """The weight of an update that counts, a positive float32 scalar."""
        return ops.ones_like(num_examples)

    # The interface of aggregators.

    def init(self) -> Any:
        return {"encoders": super().init(), "rule": self.init_rule()}

    def params(self, state: Any, seed: Any) -> Any:
        return super().params(state["encoders"], seed)

    def draw(self, state: Any, rng: np.random.Generator) -> Any:
        return super().draw(state["encoders"], rng)

    def summand(self, message: Any, num_examples: Any, params: Any) -> Any:
        encoded, stats = message
        value = self.chain.decode(encoded, params)
        counts = num_examples > 0
        for v in value:
            counts = ops.logical_and(counts, ops.isfinite(ops.sum(v)))
        weight = self.weight(num_examples)
        return {
            "value": [ops.where(counts, v, ops.zeros_like(v)) for v in value],
            "weight": ops.where(counts, weight, ops.zeros_like(weight)),
            "stats": stats,
        }

    def finish(
        self, state: Any, total: Any, params: Any, noise: Any
    ) -> tuple[Value, Any, dict[str, Any]]:
        values, weight, stats = total["value"], total["weight"], total["stats"]
        if self.reduction == "stack":
            if weight.shape[0] is not None:
                self.check_cohort(weight.shape[0])
            stats = keras.tree.map_structure(_sum_of_rows, stats)
        encoders, metrics = self.chain.update(state["encoders"], stats, noise)
        wide = [norms.widened_array(v) for v in values]
        wide_weight = ops.cast(weight, norms.wide_dtype(wide))
        aggregate, rule = self.step(state["rule"], wide, wide_weight)
        count = self.num_aggregated(weight)
        enough = count >= self.num_required

        def if_enough(new, old=None):
            old = ops.zeros_like(new) if old is None else old
            return ops.where(enough, new, old)

        metrics["num_aggregated"] = if_enough(count)
        aggregate = [
            ops.cast(if_enough(a), v.dtype)
            for a, v in zip(aggregate, values, strict=True)
        ]
        rule = keras.tree.map_structure(if_enough, rule, state["rule"])
        return aggregate, {"encoders": encoders, "rule": rule}, metrics

    def num_counted(self, total: Any, num_clients: Any) -> Any:
        enough = self.num_aggregated(total["weight"]) >= self.num_required
        return ops.where(enough, ops.cast(num_clients, "float32"), 0.0)

    def num_aggregated(self, weight: Any) -> Any:
        """How many updates count, of the total's weight."""
        return num_counted(weight)


def _sum_of_rows(stack: Any) -> Any:
    return ops.sum(stack, axis=0)


def num_counted(weight: Any) -> Any:
    """How many rows have a weight above zero, an int32 scalar."""
    return ops.sum(ops.cast(weight > 0, "int32"))
