from typing import Any

import numpy as np

from fedlearn.encoders import noise_grid
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

    >>> import keras
    >>> noise = GaussianNoise(0.5).build([keras.KerasTensor((1000,))])
    >>> drawn = noise.draw((), np.random.default_rng(0))
    >>> (noisy,) = noise.add([np.ones(1000, "float32")], 2.0, drawn)
    >>> 0.9 < float(np.std(noisy)) < 1.1
    True
    """

    def draw(self, state: Any, rng: np.random.Generator) -> Any:
        return {
            "steps": [
                noise_grid.to_steps(
                    noise_grid.draw(s.shape, rng), noise_grid.steps_dtype(s)
                )
                for s in self.spec
            ]
        }
