from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend, checks
from fedlearn.encoders import bit_packing
from fedlearn.encoders.flat_vector import inverse, largest_magnitude
from fedlearn.encoders.variable_by_variable import VariableByVariable


class TernGrad(VariableByVariable):
    """Sends -s, 0 or s for each number, for the largest magnitude s.

    A number x becomes sign(x) s with probability |x| / s and 0 otherwise, for
    each variable's own s, which is unbiased (Wen et al. 2017, "TernGrad:
    ternary gradients to reduce communication in distributed deep learning").
    The mean squared error of a number is |x| (s - |x|). Five numbers share a
    byte: 1.6 bits each.

    Args:
        clip_deviations: Numbers further from 0 than so many standard
            deviations of their variable are moved there first, which makes s
            smaller, and the result biased; the paper takes 2.5. None: they
            aren't.

    Raises:
        ValueError: If `clip_deviations` isn't positive.

    Example: numbers of the largest magnitude come back as they were.

    >>> encoder = TernGrad().build([keras.KerasTensor((3,))])
    >>> value, seed = [np.array([2.0, 0.0, -2.0])], np.zeros(2, np.int32)
    >>> encoded, _ = encoder.encode(value, (), seed)
    >>> [float(v) for v in encoder.decode(encoded, ())[0]]
    [2.0, 0.0, -2.0]
    """

    def __init__(self, clip_deviations: float | None = None):
        if clip_deviations is not None:
            checks.positive("clip_deviations", clip_deviations)
        self.clip_deviations = clip_deviations

    def packed_spec(self, size: int) -> keras.KerasTensor:
        return keras.KerasTensor(
            (bit_packing.packed_trits_size(size),), "uint8"
        )

    def pack(self, codes: Any) -> Any:
        return bit_packing.pack_trits(codes)

    def unpack(self, packed: Any, size: int) -> Any:
        return bit_packing.unpack_trits(packed, size)

    def quantize(self, vector: Any, place: int, seed: Any) -> tuple[Any, Any]:
        largest = scale = largest_magnitude(vector)
        if self.clip_deviations is not None and vector.shape[0]:
            unit = vector * inverse(largest)
            limit = self.clip_deviations * ops.std(unit) * largest
            # Of numbers that are all the same the deviation is 0.
            scale = ops.where(limit > 0, ops.minimum(largest, limit), largest)
        dither = backend.random_uniform(
            seed + np.array([0, place], np.int32), vector.shape
        )
        # Converting to integers rounds down: nothing here is negative.
        trits = ops.clip(vector * inverse(scale), -1, 1) + (dither + 1)
        return ops.cast(ops.minimum(trits, 2.5), "uint8"), scale

    def restore(self, codes: Any, scale: Any) -> Any:
        return scale * (codes - 1)
