from typing import Any

import keras
from keras import ops

from fedlearn.encoders import bit_packing, flat_vector
from fedlearn.encoders.encoder import Encoder, Value
from fedlearn.encoders.flat_vector import largest_magnitude


class SignSGD(Encoder):
    """Sends the sign of each number, and each variable's mean magnitude.

    One bit a number (Bernstein et al. 2018, "signSGD: compressed optimisation
    for non-convex problems"), with the scale of Karimireddy et al. 2019,
    "Error feedback fixes SignSGD and other gradient compression schemes",
    ||x||_1 / d for the d numbers x of each variable; 0 counts as positive. It
    is biased: means of many clients don't approach what they would be without
    it, unless each client keeps what it left out (`ErrorFeedback`). `Drive`
    sends the same bits and is unbiased.

    Example:

    >>> encoder = SignSGD().build([keras.KerasTensor((3,))])
    >>> value = [ops.convert_to_tensor([1.0, -2.0, 6.0])]
    >>> encoded, _ = encoder.encode(value, (), None)
    >>> [float(v) for v in encoder.decode(encoded, ())[0]]
    [3.0, -3.0, 3.0]
    """

    decodes = "summand"
    bound = "keeps"

    def encoded_spec(self) -> Any:
        return {
            "codes": [
                bit_packing.spec(flat_vector.size([s]), 1) for s in self.spec
            ],
            "scales": keras.KerasTensor((len(self.spec),), "float32"),
        }

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        codes, scales = [], []
        for v in value:
            vector = flat_vector.flatten([v])
            codes.append(bit_packing.pack(ops.cast(vector >= 0, "uint8"), 1))
            scales.append(_mean_magnitude(vector))
        stacked = ops.stack(scales) if scales else ops.zeros((0,), "float32")
        return {"codes": codes, "scales": stacked}, ()

    def decode(self, value: Any, params: Any) -> Value:
        decoded = []
        for i, like in enumerate(self.spec):
            size = flat_vector.size([like])
            bits = bit_packing.unpack(value["codes"][i], 1, size)
            scale = value["scales"][i]
            vector = 2 * scale * ops.cast(bits, "float32") - scale
            decoded += flat_vector.unflatten(vector, [like])
        return decoded


def _mean_magnitude(vector: Any) -> Any:
    if vector.shape[0] == 0:
        return ops.zeros((), "float32")
    # The sum of huge numbers may be too large for a float; their mean isn't.
    largest = largest_magnitude(vector)
    scale = ops.where(largest < 1e-37, 1.0, largest)
    return scale * ops.mean(ops.abs(vector / scale))
