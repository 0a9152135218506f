"""The mean of updates clipped in norm, of Sun et al. 2019."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from fedlearn.aggregators.robust_rule import RobustRule, checked_positive
from fedlearn.encoders.encoder import Encoder, Value


def clip_norm(value: Value, norm: float) -> Value:
    """An update, scaled down to an L2 norm over all its arrays.

    Args:
        value: Float arrays.
        norm: The largest norm, above 0.

    Returns:
        Arrays of the same shapes. An update whose norm float32 can't hold
        becomes zero.

    Example:

    >>> clipped = clip_norm([ops.array([3.0]), ops.array([4.0])], 1.0)
    >>> round(float(clipped[0][0]), 6), round(float(clipped[1][0]), 6)
    (0.6, 0.8)
    """
    square = sum(ops.sum(ops.square(ops.cast(v, "float32"))) for v in value)
    scale = norm / ops.maximum(ops.sqrt(square), norm)
    return [v * ops.cast(scale, v.dtype) for v in value]


class NormBounding(RobustRule):
    """The mean of clients' updates, each clipped to an L2 norm.

    Sun et al. 2019, "Can you really backdoor federated learning?": to replace
    the model, an attacker scales an update up; scaled down again it is one of
    many. It bounds what malicious clients do in a round, and doesn't stop
    those that are many, or patient.

    The server clips what it decoded, so that a client can't choose not to.
    Clipped updates are added: memory doesn't grow with the number of clients.

    Args:
        norm: The largest norm; about the median of honest ones is usual.
        encoders: As for `RobustRule`.

    Raises:
        ValueError: If `norm` isn't above 0.

    Example:

    >>> NormBounding(3.0).reduction
    'sum'
    """

    reduction = "sum"

    def __init__(self, norm: float, encoders: Sequence[Encoder] = ()):
        super().__init__(encoders)
        self.norm = checked_positive("norm", norm)

    def summand(self, message: Any, num_examples: Any, params: Any) -> Any:
        summand = super().summand(message, num_examples, params)
        return {**summand, "value": clip_norm(summand["value"], self.norm)}

    def decode(self, total: Any, params: Any, noise: Any) -> Value:
        del params, noise
        num_clients = ops.maximum(total["weight"], 1.0)
        return [v / ops.cast(num_clients, v.dtype) for v in total["value"]]

    def _num_aggregated(self, weight: Any) -> Any:
        return weight

    def get_config(self) -> dict[str, Any]:
        return {"norm": self.norm, **super().get_config()}
