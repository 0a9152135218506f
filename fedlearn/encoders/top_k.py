from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import checks
from fedlearn.encoders import flat_vector
from fedlearn.encoders.encoder import Encoder, Value


class TopK(Encoder):
    """Sends the numbers of the largest magnitudes, and where they are.

    All variables together are one vector (Aji and Heafield 2017, "Sparse
    communication for distributed gradient descent"). The others are taken for
    0, which is biased: a client had better keep what it left out
    (`ErrorFeedback`). A number takes 64 bits, 48 in vectors of up to 65536.

    Args:
        fraction: Of the numbers, in (0, 1]; rounded up to a whole number.

    Raises:
        ValueError: If `fraction` is out of range.

    Example:

    >>> encoder = TopK(fraction=0.5).build([keras.KerasTensor((4,))])
    >>> value = [np.array([1.0, -4.0, 3.0, 0.0])]
    >>> encoded, _ = encoder.encode(value, (), None)
    >>> [float(v) for v in encoder.decode(encoded, ())[0]]
    [0.0, -4.0, 3.0, 0.0]
    """

    decodes = "summand"
    bound = "keeps"

    def __init__(self, fraction: float):
        self.fraction = checks.fraction("fraction", fraction)

    def encoded_spec(self) -> Any:
        size = flat_vector.size(self.spec)
        count = flat_vector.num_kept(size, self.fraction)
        return {
            "values": keras.KerasTensor((count,), "float32"),
            "indices": keras.KerasTensor((count,), _index_dtype(size)),
        }

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        vector = flat_vector.flatten(value)
        size = vector.shape[0]
        count = flat_vector.num_kept(size, self.fraction)
        if count == 0:
            indices = ops.zeros((0,), "int32")
        else:
            _, indices = ops.top_k(ops.abs(vector), count, sorted=False)
        values = ops.take(vector, indices)
        # Where NaN is ordered, and so whether it is kept, isn't said.
        seen = ops.all(ops.isfinite(vector))
        values = ops.where(seen, values, np.float32("nan"))
        indices = ops.cast(indices, _index_dtype(size))
        return {"values": values, "indices": indices}, ()

    def decode(self, value: Any, params: Any) -> Value:
        zeros = ops.zeros((flat_vector.size(self.spec),), "float32")
        indices = ops.cast(value["indices"], "int32")[:, None]
        vector = ops.scatter_update(zeros, indices, value["values"])
        return flat_vector.unflatten(vector, self.spec)


def _index_dtype(size: int) -> str:
    return "uint16" if size <= 1 << 16 else "int32"
