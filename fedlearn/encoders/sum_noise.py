"""What all noise that the server adds to the sum has in common."""

import math
from typing import Any

import numpy as np
from keras import ops

from fedlearn.encoders.encoder import Encoder, Spec, Value
from fedlearn.privacy.require_dp_accounting import require_dp_accounting


class SumNoise(Encoder):
    """The interface of noise that the server adds to the sum of updates.

    Clients send what they get. `draw` makes the noise on the host, in units
    of its standard deviation, as `{"unit": a list of float32 arrays, ...}`;
    `decode_sum` adds it, scaled to the largest L2 norm of one client's part of
    the sum, which `with_sensitivity` is told.

    The numbers are floats, and a float's last bits can tell more than the
    accounting says (Mironov 2012, "On significance of the least significant
    bits for differential privacy").

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

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        return value, ()

    def with_sensitivity(self, params: Any, bound: Any) -> Any:
        if self.noise_multiplier == 0:
            return {"std": ops.zeros((), "float32")}
        if isinstance(bound, float) and math.isinf(bound):
            raise ValueError(
                f"{type(self).__name__} was asked to hide updates without a "
                "bound on their norm. Put a clip, such as Clip(norm), before "
                "it."
            )
        return {"std": ops.cast(self.noise_multiplier * bound, "float32")}

    def decode_sum(self, value: Value, params: Any, noise: Any) -> Value:
        return [
            v + ops.cast(params["std"] * unit, v.dtype)
            for v, unit in zip(value, noise["unit"], strict=True)
        ]

    def dp_event(self, spec: Spec | None = None) -> Any:
        """A Gaussian mechanism with this noise multiplier."""
        return require_dp_accounting().GaussianDpEvent(self.noise_multiplier)

    def get_config(self) -> dict[str, Any]:
        return {"noise_multiplier": self.noise_multiplier}


def normal(shapes: Any, rng: np.random.Generator) -> list[np.ndarray]:
    """Standard normal numbers of given shapes, float32."""
    return [
        rng.standard_normal(tuple(map(int, shape)), np.float32)
        for shape in shapes
    ]
