"""What all noise that the server adds to the sum has in common."""

import math
from typing import Any, Self

from fedlearn import checks
from fedlearn.encoders import flat_vector, noise_grid
from fedlearn.encoders.encoder import Encoder, Noise, Spec, Value
from fedlearn.privacy.require_dp_accounting import require_dp_accounting


class SumNoise(Encoder, Noise):
    """The interface of noise that the server adds to the sum of updates.

    Clients send what they get. `draw` makes the noise on the host, as whole
    numbers of steps of 2**-24 standard deviations: `{"steps": a list of
    arrays, ...}`. `add` scales it to the largest L2 norm of one client's part
    of the sum, which it rounds to such steps too, so that its last bits don't
    tell more than the accounting says: see `fedlearn.encoders.noise_grid`.

    Args:
        noise_multiplier: The standard deviation of the noise, per unit of
            that norm: 0 or more.

    Raises:
        ValueError: If it is negative or not finite; from `build`, if there is
            so much that its steps would be too long.
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

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        return value, ()

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
