from typing import Any

import numpy as np
from keras import ops

from fedlearn import checks, threefry
from fedlearn.encoders import flat_vector
from fedlearn.encoders.encoder import Encoder, Spec, Value


class RandomMask(Encoder):
    """Sends a random part of the numbers, scaled so that it is unbiased.

    Of all variables as one vector, divided into as many strata as numbers are
    sent, one number of each stratum goes, multiplied by the stratum's length
    (Konečný et al. 2016, "Federated learning: strategies for improving
    communication efficiency", with strata in place of independent draws).
    Places are drawn anew each round, the same for all clients: they aren't
    sent, and sums are decoded once.
    The expected squared error of a vector x is (1 / fraction - 1) ||x||**2.

    Args:
        fraction: Of the numbers, in (0, 1]; rounded up to a whole number.

    Raises:
        ValueError: If `fraction` is out of range.

    Example: one number of each two, doubled.

    >>> import keras
    >>> encoder = RandomMask(fraction=0.5).build([keras.KerasTensor((4,))])
    >>> params = np.zeros(2, np.int32)
    >>> encoded, _ = encoder.encode([np.array([1.0, 2, 3, 4])], params, None)
    >>> [float(v) for v in encoded[0]]
    [4.0, 6.0]
    >>> [float(v) for v in encoder.decode(encoded, params)[0]]
    [0.0, 4.0, 6.0, 0.0]
    """

    bound = "keeps"

    def __init__(self, fraction: float):
        self.fraction = checks.fraction("fraction", fraction)

    def encoded_spec(self) -> Spec:
        size = flat_vector.size(self.spec)
        return flat_vector.spec_of_size(
            flat_vector.num_kept(size, self.fraction)
        )

    def params(self, state: Any, seed: Any, bound: Any) -> Any:
        return seed

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        vector = flat_vector.flatten(value)
        _, lengths = self._strata(vector.shape[0])
        places = self._places(vector.shape[0], params)
        scales = ops.convert_to_tensor(lengths.astype(np.float32))
        values = ops.take(vector, places) * scales
        # A NaN counts wherever it is.
        seen = ops.all(ops.isfinite(vector))
        return [ops.where(seen, values, np.float32("nan"))], ()

    def decode(self, value: Value, params: Any) -> Value:
        size = flat_vector.size(self.spec)
        places = self._places(size, params)[:, None]
        vector = ops.scatter_update(
            ops.zeros((size,), "float32"), places, value[0]
        )
        return flat_vector.unflatten(vector, self.spec)

    def _strata(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        count = flat_vector.num_kept(size, self.fraction)
        edges = np.arange(count + 1) * size // max(count, 1)
        return edges[:-1].astype(np.int32), np.diff(edges).astype(np.uint32)

    def _places(self, size: int, seed: Any) -> Any:
        starts, lengths = self._strata(size)
        words = threefry.random_bits(seed, len(starts))
        # The remainder favours small ones by less than length / 2**32.
        offsets = ops.mod(words, ops.convert_to_tensor(lengths))
        return ops.convert_to_tensor(starts) + ops.cast(offsets, "int32")

    def sensitivity(self, bound: Any, params: Any) -> Any:
        # All the norm may be in the number that goes of the longest stratum.
        _, lengths = self._strata(flat_vector.size(self.spec))
        return bound * float(max(lengths, default=1))
