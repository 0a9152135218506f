from typing import Any

from fedlearn import backend, threefry
from fedlearn.attacks.attack import Attack
from fedlearn.encoders import flat_vector
from fedlearn.encoders.encoder import Value


class GaussianNoise(Attack):
    """Sends normally distributed noise, each client its own.

    As in Blanchard et al. 2017, "Machine learning with adversaries: Byzantine
    tolerant gradient descent", section 5, where the deviation is 200.

    Args:
        stddev: The standard deviation of each coordinate.

    Example:

    >>> from keras import ops
    >>> noise = GaussianNoise(2.0).update([ops.zeros(1000)], (), [1, 2])
    >>> 1.7 < float(ops.std(noise[0])) < 2.3
    True
    """

    def __init__(self, stddev: float):
        self.stddev = stddev

    def update(self, own: Value, honest: Any, seed: Any) -> Value:
        del honest
        size = flat_vector.size(own)
        # 1 - u is never 0.
        uniform = 1 - backend.random_uniform(seed, (2 * size,))
        noise = threefry.normals(uniform[:size], uniform[size:])
        return flat_vector.unflatten(self.stddev * noise, own)
