import math
from typing import Any

from keras import ops

from fedlearn.attacks.attack import Attack
from fedlearn.encoders.encoder import Value


def largest_z(num_honest: Any, num_malicious: Any) -> Any:
    """How many deviations off malicious clients can be without being told.

    With `n` clients of which `m` are malicious, `s = floor(n / 2 + 1) - m`
    honest ones must be farther out for the malicious to be in the majority.
    The result is the `z` with `Phi(z) = (n - m - s) / (n - m)` (algorithm 3
    of the paper), and at least 0.
    """
    total = num_honest + num_malicious
    needed = ops.floor(total / 2 + 1) - num_malicious
    share = (num_honest - needed) / num_honest
    # Where malicious clients are a majority already, any z would do.
    share = ops.clip(share, 0.5, 0.9999)
    return math.sqrt(2) * ops.erfinv(2 * share - 1)


class LittleIsEnough(Attack):
    """Sends the honest mean, less some standard deviations.

    Baruch, Baruch and Goldberg 2019, "A little is enough: circumventing
    defenses for distributed learning": each coordinate is off by so little
    that honest updates are farther out, so that medians and Krum take the
    malicious update for one of the best. All malicious clients send the same.

    Args:
        z: How many standard deviations; None for the paper's, from the
            numbers of clients in the round.

    Example:

    >>> from fedlearn.attacks.attack import HonestUpdates
    >>> honest = HonestUpdates([1.0], [0.5], 8.0, 2.0)
    >>> LittleIsEnough(z=1.0).update([3.0], honest, None)
    [0.5]
    """

    colludes = True

    def __init__(self, z: float | None = None):
        self.z = z

    def update(self, own: Value, honest: Any, seed: Any) -> Value:
        del own, seed
        z = self.z
        if z is None:
            z = largest_z(honest.num_honest, honest.num_malicious)
        return [m - z * s for m, s in zip(honest.mean, honest.std, strict=True)]
