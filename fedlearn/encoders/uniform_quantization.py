from typing import Any

import numpy as np
from keras import ops

from fedlearn import backend, checks
from fedlearn.encoders.flat_vector import inverse
from fedlearn.encoders.variable_by_variable import VariableByVariable


class UniformQuantization(VariableByVariable):
    """Rounds each number to one of `2**bits` evenly spaced ones.

    The grid of each variable reaches from its smallest to its largest number,
    at each client. With stochastic rounding what comes back is unbiased:
    errors of clients cancel in their mean (Suresh et al. 2017, "Distributed
    mean estimation with limited communication"). The mean squared error is
    step**2 / 6 with stochastic rounding and step**2 / 12 with the nearest.
    Probabilities are multiples of 2**-16. `HadamardRotation` before it makes
    ranges, and so steps, smaller.

    Args:
        bits: Of each number, 1 to 8.
        stochastic: Whether to round up or down at random; else to the nearest.
        symmetric: Whether the range is from -m to m, for the largest
            magnitude m, with one level fewer, so that 0 is on the grid and
            stays 0. Takes at least 2 bits.
        clip_range: A number m for a range of -m to m that is the same for all
            variables and clients; what is outside is moved to its end.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> import keras
    >>> encoder = UniformQuantization(bits=2, stochastic=False)
    >>> encoder = encoder.build([keras.KerasTensor((4,))])
    >>> value = [np.array([0.0, 0.9, 2.2, 3.0])]
    >>> encoded, _ = encoder.encode(value, (), None)
    >>> [float(v) for v in encoder.decode(encoded, ())[0]]
    [0.0, 1.0, 2.0, 3.0]
    """

    name = "ranges"
    shape = (2,)

    def __init__(
        self,
        bits: int = 8,
        stochastic: bool = True,
        symmetric: bool = False,
        clip_range: float | None = None,
    ):
        meaning = "for 16 bits there is Cast('float16')"
        checks.whole("bits", bits, 1, meaning, most=8)
        if clip_range is not None:
            meaning = "the largest magnitude that is kept"
            checks.positive("clip_range", clip_range, meaning)
        if symmetric and bits == 1:
            raise ValueError(
                "`symmetric=True` puts 0 on the grid, which takes at least 2 "
                "bits. Received bits=1; SignSGD() sends signs."
            )
        self.bits = bits
        self.stochastic = stochastic
        self.symmetric = symmetric
        self.clip_range = clip_range
        self._num_steps = 2**bits - (2 if symmetric else 1)

    def quantize(self, vector: Any, place: int, seed: Any) -> tuple[Any, Any]:
        low, step = self._grid(vector)
        if self.symmetric:  # 0 is to be whole steps, without rounding
            steps = vector * inverse(step) + self._num_steps // 2
        else:
            steps = (vector - low) * inverse(step)
        if self.stochastic:
            steps += backend.random_dither(
                seed + np.array([0, place], np.int32), vector.shape
            )
        else:
            steps += 0.5
        # Rounding may put the largest a little above its step.
        steps = ops.minimum(steps, self._num_steps + 0.5)
        if self.clip_range is not None:
            steps = ops.maximum(steps, 0.0)
        # Converting to integers rounds down: nothing here is negative.
        return ops.cast(steps, "uint8"), ops.stack([low, step])

    def restore(self, codes: Any, scale: Any) -> Any:
        if self.symmetric:
            return scale[1] * (codes - self._num_steps // 2)
        return scale[0] + scale[1] * codes

    def _grid(self, vector: Any) -> tuple[Any, Any]:
        if vector.shape[0] == 0:
            return ops.zeros((), "float32"), ops.zeros((), "float32")
        low, high = ops.min(vector), ops.max(vector)
        if self.clip_range is not None:
            # NaN and infinite numbers must not vanish by clipping.
            seen = 0 * (low + high)
            high = ops.convert_to_tensor(np.float32(self.clip_range)) + seen
            low = -high
        elif self.symmetric:
            high = ops.maximum(high, -low)
            low = -high
        # Divided before subtracted: the range may be too large for a float.
        return low, high / self._num_steps - low / self._num_steps
