"""What all noise that the server adds to the sum has in common."""

import math
from typing import Any

from keras import ops

from fedlearn.encoders import flat_vector, noise_grid
from fedlearn.encoders.encoder import Encoder, Spec, Value
from fedlearn.privacy.require_dp_accounting import require_dp_accounting


class SumNoise(Encoder):
    """The interface of noise that the server adds to the sum of updates.

    Clients send what they get. `draw` makes the noise on the host, as whole
    numbers of steps of 2**-24 standard deviations: `{"steps": a list of
    arrays, ...}`. `decode_sum` adds it, scaled to the largest L2 norm of one
    client's part of the sum, which `with_sensitivity` is told. The sum is
    rounded to such steps too, so that its last bits don't tell more than the
    accounting says: see `fedlearn.encoders.noise_grid`.

    Args:
        noise_multiplier: The standard deviation of the noise, per unit of
            that norm: 0 or more.

    Raises:
        ValueError: If it is negative or not finite.
    """

    decodes = "sum"
    bound = "keeps"
    noises = True

    def __init__(self, noise_multiplier: float):
        if not 0 <= noise_multiplier < math.inf:
            raise ValueError(
                "`noise_multiplier` must be a number of at least 0. Received: "
                f"{noise_multiplier!r}."
            )
        self.noise_multiplier = noise_multiplier

    def init(self, spec: Spec) -> Any:
        # Raises where steps would be too long.
        if self.noise_multiplier:
            noise_grid.standard_deviation(
                self.noise_multiplier, 1.0, flat_vector.spec_size(spec)
            )
        return {"like": flat_vector.shapes(spec)}

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        return value, ()

    def with_sensitivity(self, params: Any, bound: Any) -> Any:
        if self.noise_multiplier == 0:
            return {}
        if isinstance(bound, float) and math.isinf(bound):
            raise ValueError(
                f"{type(self).__name__} was asked to hide updates without a "
                "bound on their norm. Put a clip, such as Clip(norm), before "
                "it."
            )
        return {"bound": ops.cast(bound, "float32")}

    def decode_sum(self, value: Value, params: Any, noise: Any) -> Value:
        if self.noise_multiplier == 0:
            return value
        std = noise_grid.standard_deviation(
            self.noise_multiplier,
            params["bound"],
            sum(math.prod(v.shape) for v in value),
        )
        return [
            noise_grid.add(v, steps, std)
            for v, steps in zip(value, noise["steps"], strict=True)
        ]

    def dp_event(self, spec: Spec | None = None) -> Any:
        """A Gaussian mechanism with this noise multiplier."""
        return require_dp_accounting().GaussianDpEvent(self.noise_multiplier)

    def get_config(self) -> dict[str, Any]:
        return {"noise_multiplier": self.noise_multiplier}
