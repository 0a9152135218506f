from typing import Any

from keras import ops

from fedlearn.encoders.flat_vector import largest_magnitude
from fedlearn.encoders.variable_by_variable import VariableByVariable


class SignSGD(VariableByVariable):
    """Sends the sign of each number, and each variable's mean magnitude.

    One bit a number (Bernstein et al. 2018, "signSGD: compressed optimisation
    for non-convex problems"), with the scale of Karimireddy et al. 2019,
    "Error feedback fixes SignSGD and other gradient compression schemes",
    ||x||_1 / d for the d numbers x of each variable; 0 counts as positive. It
    is biased: means of many clients don't approach what they would be without
    it, unless each client keeps what it left out (`ErrorFeedback`). `Drive`
    sends the same bits and is unbiased.

    Example:

    >>> import keras
    >>> encoder = SignSGD().build([keras.KerasTensor((3,))])
    >>> value = [ops.convert_to_tensor([1.0, -2.0, 6.0])]
    >>> encoded, _ = encoder.encode(value, (), None)
    >>> [float(v) for v in encoder.decode(encoded, ())[0]]
    [3.0, -3.0, 3.0]
    """

    def quantize(self, vector: Any, place: int, seed: Any) -> tuple[Any, Any]:
        return ops.cast(vector >= 0, "uint8"), _mean_magnitude(vector)

    def restore(self, codes: Any, scale: Any) -> Any:
        return 2 * scale * codes - scale


def _mean_magnitude(vector: Any) -> Any:
    if vector.shape[0] == 0:
        return ops.zeros((), "float32")
    # The sum of huge numbers may be too large for a float; their mean isn't.
    largest = largest_magnitude(vector)
    scale = ops.where(largest < 1e-37, 1.0, largest)
    return scale * ops.mean(ops.abs(vector / scale))
