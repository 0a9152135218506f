from typing import Any, Literal

import keras
from keras import ops

from fedlearn import checks
from fedlearn.encoders.encoder import Encoder, Spec, Value


class Cast(Encoder):
    """Sends numbers of 16 bits.

    `"float16"` keeps 11 significant bits of numbers up to 65504; larger ones
    become infinite, and a client with such is left out of the round.
    `"bfloat16"` keeps 8 of any float32. Messages are cast back before they
    are added, so that the sum is as exact as without.

    Args:
        dtype: `"float16"` or `"bfloat16"`.

    Raises:
        ValueError: If `dtype` is another.

    Example:

    >>> encoder = Cast("bfloat16").build([keras.KerasTensor((1,))])
    >>> encoded, _ = encoder.encode([ops.ones((1,)) / 3], (), None)
    >>> float(encoder.decode(encoded, ())[0][0])
    0.333984375
    """

    decodes = "summand"
    bound = "keeps"

    def __init__(self, dtype: Literal["float16", "bfloat16"] = "float16"):
        self.dtype = checks.one_of("dtype", dtype, ("float16", "bfloat16"))

    def encoded_spec(self) -> Spec:
        return [keras.KerasTensor(s.shape, self.dtype) for s in self.spec]

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        return [ops.cast(v, self.dtype) for v in value], ()

    def decode(self, value: Value, params: Any) -> Value:
        return [
            ops.cast(v, like.dtype)
            for v, like in zip(value, self.spec, strict=True)
        ]
