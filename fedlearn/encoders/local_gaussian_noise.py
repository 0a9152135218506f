import math
from typing import Any

import numpy as np
from keras import ops

from fedlearn import backend, checks, threefry
from fedlearn.encoders.encoder import Encoder, Value


class LocalGaussianNoise(Encoder):
    """Gaussian noise that each client adds itself: local DP.

    Nobody has to be trusted with an update. After `Clip(norm)` any two
    updates are at most `2 * norm` apart, so that what a client sends is a
    Gaussian mechanism with noise multiplier `std / (2 * norm)`. The mean of
    `n` clients has noise of deviation `std / sqrt(n)`.

    The noise is float32, of uniform numbers of 23 bits by Box and Muller 1958:
    none is larger than 5.7 deviations, and its last bits are not those of the
    theory (Mironov 2012, "On significance of the least significant bits for
    differential privacy").

    Args:
        std: The standard deviation of the noise; 0 for none.

    Raises:
        ValueError: If `std` is negative or not finite.

    Example:

    >>> noise, seed = LocalGaussianNoise(0.1), np.array([0, 1], np.int32)
    >>> (noisy,), _ = noise.encode([ops.ones(1000)], (), seed)
    >>> 0.09 < float(ops.std(noisy)) < 0.11
    True
    """

    def __init__(self, std: float):
        self.std = checks.number("std", std)

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        sizes = [math.prod(v.shape) for v in value]
        if self.std == 0 or not sum(sizes):
            return value, ()
        num_pairs = (sum(sizes) + 1) // 2
        uniform = backend.random_uniform(seed, (2, num_pairs))
        # 1 - u is never 0.
        draws = threefry.normals(1.0 - uniform[0], uniform[1])[: sum(sizes)]
        draws = np.float32(self.std) * draws
        noisy, start = [], 0
        for v, size in zip(value, sizes, strict=True):
            noise = ops.reshape(draws[start : start + size], tuple(v.shape))
            # In the noise's own dtype: of a float64 sum of both the last bits
            # would be those of the update.
            noisy.append(ops.cast(ops.cast(v, "float32") + noise, v.dtype))
            start += size
        return noisy, ()
