from typing import Any

from fedlearn.attacks.attack import Attack
from fedlearn.encoders.encoder import Value


class Scaling(Attack):
    """Sends the update many times over.

    The model replacement of Bagdasaryan et al. 2020, "How to backdoor
    federated learning", equation 3: with `factor` about the number of clients
    in a round, the mean of all updates is the attacker's, whose data hold a
    backdoor (`fedlearn.attacks.backdoor`).

    Args:
        factor: How many times.

    Example:

    >>> Scaling(10.0).update([0.5], (), None)
    [5.0]
    """

    def __init__(self, factor: float):
        self.factor = factor

    def update(self, own: Value, honest: Any, seed: Any) -> Value:
        del honest, seed
        return [self.factor * v for v in own]
