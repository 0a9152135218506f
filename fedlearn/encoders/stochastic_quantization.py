from typing import Any

import keras
from keras import ops

from fedlearn import backend, checks
from fedlearn.encoders import bit_packing, flat_vector
from fedlearn.encoders.encoder import Encoder, Value
from fedlearn.encoders.flat_vector import inverse, largest_magnitude


class StochasticQuantization(Encoder):
    """Rounds numbers at random to multiples of their norm / `levels`.

    QSGD of Alistarh et al. 2017, "QSGD: communication-efficient SGD via
    gradient quantization and encoding". Numbers are put into buckets, each
    with its L2 norm; a number x becomes one of the two multiples of
    norm / levels around it, with probabilities that make it unbiased (to
    2**-16 of a step, as probabilities are multiples of 2**-16). The
    mean squared error of a number that stands a fraction f of a step above a
    multiple is f (1 - f) step**2.

    Most numbers are few steps from 0 where `levels` is below the root of
    `bucket_size`: `EntropyCoding` after it then saves much, as the paper's
    Elias coding does.

    Args:
        levels: Multiples on each side of 0, 1 to 127; a number takes the bits
            of 2 * levels + 1 different codes.
        bucket_size: How many numbers share a norm; None: all.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> import numpy as np
    >>> encoder = StochasticQuantization(levels=5)
    >>> encoder = encoder.build([keras.KerasTensor((2,))])
    >>> value, seed = [np.array([3.0, -4.0])], np.zeros(2, np.int32)
    >>> encoded, _ = encoder.encode(value, (), seed)
    >>> [round(float(v), 6) for v in encoder.decode(encoded, ())[0]]
    [3.0, -4.0]
    """

    decodes = "summand"
    bound = "keeps"

    def __init__(self, levels: int = 127, bucket_size: int | None = 1024):
        checks.whole("levels", levels, most=127)
        if bucket_size is not None:
            meaning = "how many numbers share a norm, or None for all"
            checks.whole("bucket_size", bucket_size, 1, meaning)
        self.levels = levels
        self.bucket_size = bucket_size
        self._bits = (2 * levels).bit_length()

    def _buckets(self, size: int) -> tuple[int, int]:
        length = max(1, min(size, self.bucket_size or size))
        return -(-size // length), length

    def encoded_spec(self) -> Any:
        size = flat_vector.size(self.spec)
        num_buckets, _ = self._buckets(size)
        return {
            "codes": bit_packing.spec(size, self._bits),
            "steps": keras.KerasTensor((num_buckets,), "float32"),
        }

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        vector = flat_vector.flatten(value)
        size = vector.shape[0]
        num_buckets, length = self._buckets(size)
        if num_buckets * length > size:
            vector = ops.pad(vector, [(0, num_buckets * length - size)])
        # Of the largest magnitude 1, so that squares stay in range.
        largest = largest_magnitude(vector)
        unit = ops.reshape(vector * inverse(largest), (num_buckets, length))
        norms = ops.sqrt(ops.sum(unit * unit, axis=1))
        codes = unit * (self.levels * inverse(norms))[:, None]
        # Converting to integers rounds down: nothing here is negative.
        dither = backend.random_dither(seed, (num_buckets, length))
        codes = codes + self.levels + dither
        codes = ops.reshape(codes, (-1,))[:size]
        codes = ops.cast(ops.clip(codes, 0, 2 * self.levels + 0.5), "uint8")
        return {
            "codes": bit_packing.pack(codes, self._bits),
            "steps": norms * (largest / self.levels),
        }, ()

    def decode(self, value: Any, params: Any) -> Value:
        size = flat_vector.size(self.spec)
        num_buckets, length = self._buckets(size)
        codes = bit_packing.unpack(value["codes"], self._bits, size)
        if num_buckets * length > size:
            codes = ops.pad(codes, [(0, num_buckets * length - size)])
        multiples = ops.cast(codes, "float32") - self.levels
        rows = ops.reshape(multiples, (num_buckets, length))
        vector = rows * value["steps"][:, None]
        return flat_vector.unflatten(ops.reshape(vector, (-1,)), self.spec)
