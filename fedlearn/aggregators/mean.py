"""The mean of clients' updates, of McMahan et al. 2017."""

from collections.abc import Sequence
from typing import Any, Literal

from keras import ops

from fedlearn.aggregators.aggregator import Aggregator
from fedlearn.encoders.chain import Chain
from fedlearn.encoders.encoder import Encoder, Spec, Value


class Mean(Aggregator):
    """The weighted mean of what clients send.

    With `weighting="num_examples"` this is the average of McMahan et al.
    2017, "Communication-efficient learning of deep networks from
    decentralized data", algorithm 1: client `k` counts as `n_k / n`.

    Args:
        encoders: What happens to an update on its way; clients encode left to
            right, the server decodes right to left.
        weighting: `"num_examples"`, or `"uniform"`: every client that has
            examples counts the same.

    Raises:
        ValueError: If `weighting` is neither, or if the order of the encoders
            can't work.

    Example:

    >>> from keras import ops
    >>> mean = Mean()
    >>> total = [
    ...     a + b
    ...     for a, b in zip(
    ...         mean.summand(([1.0], ()), 3.0, ())["value"],
    ...         mean.summand(([5.0], ()), 1.0, ())["value"],
    ...     )
    ... ]
    >>> float(mean.decode({"value": total, "weight": 4.0}, ())[0])
    2.0
    """

    def __init__(
        self,
        encoders: Sequence[Encoder] = (),
        weighting: Literal["num_examples", "uniform"] = "num_examples",
    ):
        if weighting not in ("num_examples", "uniform"):
            raise ValueError(
                "`weighting` must be 'num_examples' or 'uniform'. Received: "
                f"{weighting!r}."
            )
        self.encoders = tuple(encoders)
        self.weighting = weighting
        self._chain = Chain(self.encoders)

    def init(self, spec: Spec) -> Any:
        return self._chain.init(spec)

    def params(self, state: Any) -> Any:
        return self._chain.params(state)

    def encode(self, update: Value, params: Any, seed: Any) -> Any:
        return self._chain.encode(update, params, seed)

    def summand(self, message: Any, num_examples: Any, params: Any) -> Any:
        encoded, stats = message
        weight = num_examples
        if self.weighting == "uniform":
            # A client without examples has nothing to say about the mean.
            weight = ops.cast(num_examples > 0, "float32")
        value = [
            v * ops.cast(weight, v.dtype) if hasattr(v, "dtype") else v * weight
            for v in self._chain.decode_summand(encoded, params)
        ]
        return {"value": value, "weight": weight, "stats": stats}

    def decode(self, total: Any, params: Any) -> Value:
        # Zero where nobody had an example: nothing was learned.
        weight = ops.maximum(total["weight"], 1e-30)
        return [
            v / ops.cast(weight, v.dtype) if hasattr(v, "dtype") else v / weight
            for v in self._chain.decode_sum(total["value"], params)
        ]

    def update(self, state: Any, total: Any) -> tuple[Any, dict[str, Any]]:
        return self._chain.update(state, total["stats"])

    def get_config(self) -> dict[str, Any]:
        return {"encoders": self.encoders, "weighting": self.weighting}
