"""A function run on shapes and dtypes alone."""

from collections.abc import Callable
from typing import Any

import keras


class OnShapes(keras.Operation):
    """A function run on `keras.KerasTensor`s: nothing is computed.

    Running a model would compile every one of its operations by itself on
    JAX.

    Args:
        fn: Of one argument, a pytree of backend arrays.

    Example:

    >>> shapes = OnShapes(lambda x: keras.ops.sum(x, axis=0))
    >>> shapes(keras.KerasTensor((5, 3))).shape
    (3,)
    """

    def __init__(self, fn: Callable[[Any], Any]):
        super().__init__()
        self._fn = fn

    def call(self, batch: Any) -> Any:
        return self._fn(batch)
