import math
from typing import Any, Self

import numpy as np

from fedlearn import checks
from fedlearn.encoders import flat_vector, noise_grid
from fedlearn.encoders.encoder import Encoder, Noise, Spec, Value
from fedlearn.privacy.require_dp_accounting import require_dp_accounting


class GaussianNoise(Encoder, Noise):
    """Independent Gaussian noise on each round's sum: central DP.

    The Gaussian mechanism of DP-FedAvg (McMahan et al. 2018, "Learning
    differentially private recurrent language models", algorithm 1): with `S`
    the largest L2 norm of what one client adds to the sum, set by a clip
    before this link, `N(0, (noise_multiplier * S)**2)` is added to every
    number of the sum.

    `draw` makes the noise on the host, as whole numbers of steps of 2**-24
    standard deviations: `{"steps": a list of arrays, ...}`. `add` rounds the
    sum to such steps too, so that its last bits don't tell more than the
    accounting says: see `fedlearn.encoders.noise_grid`. A subclass that
    correlates noise over rounds says in `draw` and `update` how.

    Args:
        noise_multiplier: 0 for none.

    Raises:
        ValueError: If it is negative or not finite; from `build`, if there is
            so much that its steps would be too long.

    Example: a sum of ones, with noise of deviation 0.5 * 2.

    >>> import keras
    >>> noise = GaussianNoise(0.5).build([keras.KerasTensor((1000,))])
    >>> drawn = noise.draw((), np.random.default_rng(0))
    >>> (noisy,) = noise.add([np.ones(1000, "float32")], 2.0, drawn)
    >>> 0.9 < float(np.std(noisy)) < 1.1
    True
    """

    decodes = "sum"
    bound = "keeps"
    noise = "server"

    def __init__(self, noise_multiplier: float):
        self.noise_multiplier = checks.number(
            "noise_multiplier", noise_multiplier
        )

    def build(self, spec: Spec) -> Self:
        if self.noise_multiplier:  # raises where steps would be too long
            noise_grid.standard_deviation(
                self.noise_multiplier, 1.0, flat_vector.size(spec)
            )
        return super().build(spec)

    def draw(self, state: Any, rng: np.random.Generator) -> Any:
        steps = []
        for s in self.spec:
            noise = noise_grid.draw(s.shape, rng)
            steps.append(noise_grid.to_steps(noise, noise_grid.steps_dtype(s)))
        return {"steps": steps}

    def add(self, total: Value, bound: Any, noise: Any) -> Value:
        if self.noise_multiplier == 0:
            return total
        if isinstance(bound, float) and math.isinf(bound):
            raise ValueError(
                f"{type(self).__name__} was asked to hide updates without a "
                "bound on their norm. Put a clip, such as Clip(norm), before "
                "it."
            )
        std = noise_grid.standard_deviation(
            self.noise_multiplier, bound, flat_vector.size(total)
        )
        return [
            noise_grid.add(v, steps, std)
            for v, steps in zip(total, noise["steps"], strict=True)
        ]

    def dp_event(self) -> Any:
        """A Gaussian mechanism with this noise multiplier."""
        return require_dp_accounting().GaussianDpEvent(self.noise_multiplier)
