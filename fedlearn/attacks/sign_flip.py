from typing import Any

from fedlearn.attacks.attack import Attack
from fedlearn.encoders.encoder import Value


class SignFlip(Attack):
    """Sends minus the update, so that the model unlearns.

    As in Li et al. 2019, "RSA: Byzantine-robust stochastic aggregation
    methods for distributed learning from heterogeneous datasets", section 5.

    Args:
        scale: How many times minus the update.

    Example:

    >>> SignFlip(4.0).update([0.5], (), None)
    [-2.0]
    """

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    def update(self, own: Value, honest: Any, seed: Any) -> Value:
        del honest, seed
        return [-self.scale * v for v in own]
