"""All variables as one vector, and back.

A vector has one scale, one rotation and one padding where a list of variables
would have many.
"""

from typing import Any

import keras
from keras import ops

from fedlearn.encoders.encoder import Spec, Value


def shapes(spec: Spec) -> Value:
    """Arrays without elements that tell the shapes and dtypes of a value.

    A compiled function has to know shapes before it runs; those of arrays are
    known. So these travel in an encoder's state and parameters, and cost a
    few bytes of a message's header.

    Returns:
        For each array of shape `s`, one of shape `(0, *s)` and its dtype.

    Example:

    >>> [s.shape for s in shapes([keras.KerasTensor((3, 2))])] == [(0, 3, 2)]
    True
    """
    return [ops.zeros((0, *s.shape), s.dtype) for s in spec]


def size(like: Value) -> int:
    """The number of elements of a value.

    Args:
        like: From `shapes`.
    """
    return sum(_num_elements(array.shape[1:]) for array in like)


def flatten(value: Value, num_zeros: int = 0) -> Any:
    """A value's elements, a float32 array of shape `(size + num_zeros,)`.

    Args:
        value: A list of float arrays.
        num_zeros: How many follow the elements.

    Example:

    >>> flatten([ops.ones((2, 3)), ops.zeros((), "float16")]).shape == (7,)
    True
    """
    if not value:
        return ops.zeros((num_zeros,), "float32")
    flat = [
        ops.cast(ops.reshape(ops.convert_to_tensor(v), (-1,)), "float32")
        for v in value
    ]
    if num_zeros:
        flat.append(ops.zeros((num_zeros,), "float32"))
    return flat[0] if len(flat) == 1 else ops.concatenate(flat)


def unflatten(vector: Any, like: Value) -> Value:
    """The value of a vector.

    Args:
        vector: At least as long as the value; what is beyond is padding.
        like: From `shapes`.
    """
    value, start = [], 0
    for array in like:
        shape = tuple(array.shape[1:])
        stop = start + _num_elements(shape)
        part = ops.reshape(vector[start:stop], shape)
        value.append(ops.cast(part, array.dtype))
        start = stop
    return value


def spec_of_size(num_elements: int) -> Spec:
    """The spec of one float32 vector."""
    return [keras.KerasTensor((num_elements,), "float32")]


def spec_size(spec: Spec) -> int:
    """The number of elements of a value of a spec."""
    return sum(_num_elements(s.shape) for s in spec)


def _num_elements(shape: Any) -> int:
    count = 1
    for length in shape:
        count *= int(length)
    return count
