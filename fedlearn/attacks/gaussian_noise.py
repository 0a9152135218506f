"""Noise in the place of updates."""

import math
from typing import Any

import numpy as np
from keras import ops

from fedlearn import backend
from fedlearn.attacks.attack import Attack
from fedlearn.encoders.encoder import Value


class GaussianNoise(Attack):
    """Sends normally distributed noise, each client its own.

    As in Blanchard et al. 2017, "Machine learning with adversaries: Byzantine
    tolerant gradient descent", section 5, where the deviation is 200.

    Args:
        stddev: The standard deviation of each coordinate.

    Example:

    >>> noise = GaussianNoise(2.0).update([ops.zeros(1000)], (), [1, 2])
    >>> 1.7 < float(ops.std(noise[0])) < 2.3
    True
    """

    def __init__(self, stddev: float):
        self.stddev = stddev

    def update(self, own: Value, honest: Any, seed: Any) -> Value:
        del honest
        sizes = [math.prod(v.shape) for v in own]
        # Box and Muller 1958; 1 - u is never 0.
        uniform = 1 - backend.random_uniform(seed, (2 * sum(sizes),))
        radius = ops.sqrt(-2 * ops.log(uniform[: sum(sizes)]))
        noise = radius * ops.cos(2 * math.pi * uniform[sum(sizes) :])
        ends = np.cumsum(sizes).tolist()
        return [
            ops.cast(
                self.stddev * ops.reshape(noise[end - size : end], v.shape),
                v.dtype,
            )
            for v, size, end in zip(own, sizes, ends, strict=True)
        ]
