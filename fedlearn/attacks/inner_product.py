from typing import Any

from fedlearn.attacks.attack import Attack
from fedlearn.encoders.encoder import Value


class InnerProduct(Attack):
    """Sends minus a multiple of the honest clients' mean.

    The inner product manipulation of Xie, Koyejo and Gupta 2020, "Fall of
    empires: breaking Byzantine-tolerant SGD by inner product manipulation":
    the aggregate's inner product with the true direction becomes negative. A
    small `epsilon` hides from rules that look at distances; a large one
    reverses the mean.

    Args:
        epsilon: The multiple.

    Example:

    >>> from fedlearn.attacks.attack import HonestUpdates
    >>> honest = HonestUpdates([1.0], [0.5], 8.0, 2.0)
    >>> InnerProduct(0.5).update([3.0], honest, None)
    [-0.5]
    """

    colludes = True

    def __init__(self, epsilon: float):
        self.epsilon = epsilon

    def update(self, own: Value, honest: Any, seed: Any) -> Value:
        del own, seed
        return [-self.epsilon * m for m in honest.mean]
