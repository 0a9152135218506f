"""All variables as one vector, with one scale, one rotation and one padding."""

import math
from typing import Any

import keras
from keras import ops

from fedlearn.encoders.encoder import Spec, Value


def size(spec: Spec) -> int:
    """The number of elements of a value of a spec."""
    return sum(math.prod(s.shape) for s in spec)


def spec_of_size(num_elements: int) -> Spec:
    """The spec of one float32 vector."""
    return [keras.KerasTensor((num_elements,), "float32")]


def flatten(value: Value, num_zeros: int = 0) -> Any:
    """A value's elements and `num_zeros` more, a float32 vector."""
    flat = [
        ops.cast(ops.reshape(ops.convert_to_tensor(v), (-1,)), "float32")
        for v in value
    ]
    if num_zeros or not flat:
        flat.append(ops.zeros((num_zeros,), "float32"))
    return flat[0] if len(flat) == 1 else ops.concatenate(flat)


def unflatten(vector: Any, spec: Spec) -> Value:
    """The value of a spec that a vector, perhaps with padding, holds."""
    value, start = [], 0
    for s in spec:
        stop = start + size([s])
        part = ops.reshape(vector[start:stop], tuple(s.shape))
        value.append(ops.cast(part, s.dtype))
        start = stop
    return value


def num_kept(size: int, fraction: float) -> int:
    """`size * fraction`, rounded up, but for what floats add to it.

    >>> num_kept(100, 0.07), num_kept(3, 0.5), num_kept(0, 0.5)
    (7, 2, 0)
    """
    return min(size, math.ceil(size * fraction * (1 - 1e-12)))


def largest_magnitude(vector: Any) -> Any:
    """Of a float32 vector; 0 of an empty one, NaN if there is a NaN."""
    if vector.shape[0] == 0:
        return ops.zeros((), "float32")
    # Cheaper than a pass of `abs`.
    return ops.maximum(ops.max(vector), -ops.min(vector))


def inverse(scale: Any) -> Any:
    """1 / scale; 0 of zero and of what processors may take for zero."""
    tiny = scale < 1e-37
    return ops.where(tiny, 0.0, 1 / ops.where(tiny, 1.0, scale))
