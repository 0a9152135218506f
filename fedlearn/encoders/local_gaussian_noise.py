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

    The noise is float32, whatever the update is, and its last bits are not
    those of the theory (Mironov 2012, "On significance of the least
    significant bits for differential privacy"). The normal numbers come from
    Box and Muller 1958, with uniform numbers of 23 bits; none is larger than
    5.7 deviations.

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

    decodes = "either"
    bound = "loses"

    def __init__(self, std: float):
        self.std = checks.number("std", std)

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        sizes = [math.prod(v.shape) for v in value]
        if self.std == 0 or not sum(sizes):
            return value, ()
        draws = np.float32(self.std) * _normal(seed, sum(sizes))
        noisy, start = [], 0
        for v, size in zip(value, sizes, strict=True):
            noise = ops.reshape(draws[start : start + size], tuple(v.shape))
            # In the noise's own dtype: of a float64 sum of both the last bits
            # would be those of the update.
            noisy.append(ops.cast(ops.cast(v, "float32") + noise, v.dtype))
            start += size
        return noisy, ()

    def decode(self, value: Any, params: Any) -> Any:
        return value


def _normal(seed: Any, size: int) -> Any:
    uniform = backend.random_uniform(seed, (2, (size + 1) // 2))
    # 1 - u is never 0.
    return threefry.normals(1.0 - uniform[0], uniform[1])[:size]
