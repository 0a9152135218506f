from typing import Any

import numpy as np
from keras import ops

from fedlearn.encoders import sum_noise
from fedlearn.encoders.encoder import Spec, Value
from fedlearn.encoders.sum_noise import SumNoise


class GaussianNoise(SumNoise):
    """Independent Gaussian noise on each round's sum: central DP.

    The Gaussian mechanism of DP-FedAvg (McMahan et al. 2018, "Learning
    differentially private recurrent language models", algorithm 1): with `S`
    the largest L2 norm of what one client adds to the sum, set by a clip
    before this link, `N(0, (noise_multiplier * S)**2)` is added to every
    number of the sum.

    Args:
        noise_multiplier: 0 for none.

    Raises:
        ValueError: If `noise_multiplier` is negative or not finite.

    Example: a sum of ones, with noise of deviation 0.5 * 2.

    >>> noise = GaussianNoise(0.5)
    >>> state = noise.init([ops.zeros(1000)])
    >>> drawn = noise.draw(state, np.random.default_rng(0))
    >>> params = noise.with_sensitivity(noise.params(state, None), 2.0)
    >>> (noisy,) = noise.decode_sum([ops.ones(1000)], params, drawn)
    >>> 0.9 < float(ops.std(noisy)) < 1.1
    True
    """

    def init(self, spec: Spec) -> Any:
        return {
            "shapes": [ops.convert_to_tensor(s) for s in sum_noise.shapes(spec)]
        }

    def draw(self, state: Any, rng: np.random.Generator) -> Any:
        return sum_noise.normal(state["shapes"], rng)

    def decode_sum(self, value: Value, params: Any, noise: Any) -> Value:
        return sum_noise.add(value, [params["std"] * n for n in noise])
