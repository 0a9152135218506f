"""What rules that look at each client's update by itself have in common."""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from fedlearn.aggregators.encoded import Encoded
from fedlearn.encoders import norms
from fedlearn.encoders.chain import Encoders
from fedlearn.encoders.encoder import Spec, Value


class RobustRule(Encoded):
    """A rule that looks at each client's update by itself.

    A subclass says what it makes of the updates (`aggregate`), and how many
    it needs (`num_required`). What a client sends is decoded for that client
    alone, on the server, before the rule sees it.

    An update doesn't count if its client has no examples or if it isn't
    finite. A cohort of fewer than `num_required` clients is an error. If only
    so many of a larger cohort don't count that too few are left, the
    aggregate is zero and the metric `num_aggregated` is 0: crashed clients
    cost a round, not the run.

    All updates count the same, however many examples their clients report: a
    malicious client could report any number.

    Args:
        encoders: What happens to an update on its way; clients encode left to
            right, the server decodes right to left.

    Raises:
        TypeError: If an element of `encoders` isn't an `Encoder`.
        ValueError: If one is decoded on the sum over clients (noise): these
            rules make no sum.

    Example: the largest update of any client, coordinate by coordinate.

    >>> class Largest(RobustRule):
    ...     def aggregate(self, values, weight, noise):
    ...         return [ops.max(v, axis=0) for v in values]
    >>> rule = Largest()
    >>> total = {
    ...     "value": [ops.array([[-1.0, 2.0], [3.0, 4.0]])],
    ...     "weight": ops.array([1.0, 1.0]),
    ...     "stats": (),
    ... }
    >>> aggregate = rule.decode(total, (), rule.draw(rule.init([]), None))
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

    @property
    def num_required(self) -> int:
        """How many updates the rule needs."""
        return 1

    def aggregate(self, values: Value, weight: Any, noise: Any) -> Value:
        """The aggregate of a round's updates, if there are enough.

        Args:
            values: Float32 arrays of shape `(n, ...)`, one a variable, and
                float64 where the variable is; row `k` is client `k`'s. Rows
                that don't count are zeros.
            weight: From `weight`, of shape `(n,)`, float64 if an array is;
                zero for rows that don't count.
            noise: From `draw_rule`.

        Returns:
            Arrays without the first axis.
        """
        raise NotImplementedError

    def weight(self, num_examples: Any) -> Any:
        """The weight of an update that counts, a positive float32 scalar."""
        return ops.ones_like(num_examples)

    def init_rule(self, spec: Spec) -> Any:
        """The rule's own state, beside that of the encoders."""
        del spec
        return ()

    def draw_rule(self, state: Any) -> Any:
        """What `aggregate` needs of the rule's own state, as NumPy arrays."""
        del state
        return ()

    def update_rule(self, state: Any, total: Any, noise: Any) -> Any:
        """The rule's own next state."""
        del total, noise
        return state

    # The interface of aggregators.

    def init(self, spec: Spec) -> Any:
        return {
            "encoders": super().init(spec),
            "rule": self.init_rule(spec),
        }

    def params(self, state: Any, seed: Any) -> Any:
        return super().params(state["encoders"], seed)

    def summand(self, message: Any, num_examples: Any, params: Any) -> Any:
        encoded, stats = message
        value = self._chain.decode(encoded, params)
        counts = num_examples > 0
        for v in value:
            counts = ops.logical_and(counts, ops.isfinite(ops.sum(v)))
        weight = self.weight(num_examples)
        return {
            "value": [ops.where(counts, v, ops.zeros_like(v)) for v in value],
            "weight": ops.where(counts, weight, ops.zeros_like(weight)),
            "stats": stats,
        }

    def draw(self, state: Any, rng: np.random.Generator) -> Any:
        return {
            "encoders": super().draw(state["encoders"], rng),
            "rule": self.draw_rule(state["rule"]),
        }

    def check_cohort(self, num_clients: int) -> None:
        if num_clients < self.num_required:
            raise ValueError(
                f"{type(self).__name__} needs at least {self.num_required} "
                f"clients with these arguments ({self._arguments()}), and "
                f"{num_clients} took part in the round. Draw more clients a "
                "round, or expect fewer malicious ones."
            )

    def decode(self, total: Any, params: Any, noise: Any) -> Value:
        values, weight = total["value"], total["weight"]
        if values[0].shape[0] is not None:
            self.check_cohort(values[0].shape[0])
        wide = [norms.widened_array(v) for v in values]
        aggregate = self.aggregate(
            wide, ops.cast(weight, norms.wide_dtype(wide)), noise["rule"]
        )
        enough = self._is_enough(weight)
        return [
            ops.cast(ops.where(enough, a, ops.zeros_like(a)), v.dtype)
            for a, v in zip(aggregate, values, strict=True)
        ]

    def update(
        self, state: Any, total: Any, noise: Any
    ) -> tuple[Any, dict[str, Any]]:
        stats = total["stats"]
        if self.reduction == "stack":
            stats = keras.tree.map_structure(
                lambda a: ops.sum(a, axis=0), stats
            )
        encoders, metrics = self._chain.update(
            state["encoders"], stats, noise["encoders"]
        )
        rule = self.update_rule(state["rule"], total, noise["rule"])
        metrics["num_aggregated"] = self._num_aggregated(total["weight"])
        return {"encoders": encoders, "rule": rule}, metrics

    def _is_enough(self, weight: Any) -> Any:
        return num_counted(weight) >= self.num_required

    def _num_aggregated(self, weight: Any) -> Any:
        return ops.where(self._is_enough(weight), num_counted(weight), 0)

    def _arguments(self) -> str:
        config = {k: v for k, v in self.get_config().items() if k != "encoders"}
        return ", ".join(f"{k}={v!r}" for k, v in config.items()) or "none"


def num_counted(weight: Any) -> Any:
    """How many rows count, an int32 scalar.

    Args:
        weight: Of shape `(n,)`; zero for rows that don't.
    """
    return ops.sum(ops.cast(weight > 0, "int32"))


def checked_count(name: str, value: Any, least: int = 0) -> int:
    """A whole number of at least `least`, or a clear error."""
    if isinstance(value, bool) or int(value) != value or value < least:
        raise ValueError(
            f"`{name}` must be a whole number of at least {least}. Received: "
            f"{value!r}."
        )
    return int(value)


def checked_positive(name: str, value: float) -> float:
    """A finite number above zero, or a clear error."""
    if not 0 < value < float("inf"):
        raise ValueError(
            f"`{name}` must be a finite number above 0. Received: {value!r}."
        )
    return float(value)
