"""Running what Keras computes without changing a variable."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


class StatelessScope(keras.StatelessScope):
    """A `keras.StatelessScope` that holds arrays only, never variables.

    To TensorFlow a `keras.Variable` is a tensor, so Keras converts none: after
    `a.assign(b)` the scope has the variable `b` itself as `a`'s value. Read
    later it is what `b` holds by then, and read after the scope's end what
    `b` held before its beginning.
    """

    def add_update(self, update: tuple[Any, Any]) -> None:
        """Takes `(variable, value)`: what a variable is assigned."""
        variable, value = update
        super().add_update((variable, current(value)))


def current(tree: Any) -> Any:
    """A pytree with arrays of the backend where it has variables.

    What is computed in a `StatelessScope` may be a variable, such as the
    `result` of many a metric. It must be read before the scope ends.
    """
    return keras.tree.map_structure(
        lambda leaf: (
            ops.convert_to_tensor(leaf.value)
            if isinstance(leaf, keras.Variable)
            else leaf
        ),
        tree,
    )


class OnShapes(keras.Operation):
    """A function run on `keras.KerasTensor`s: nothing is computed.

    Running a model would compile each of its operations by itself on JAX.

    >>> shapes = OnShapes(lambda x: keras.ops.sum(x, axis=0))
    >>> shapes(keras.KerasTensor((5, 3))).shape
    (3,)
    """

    def __init__(self, fn: Callable[[Any], Any]):
        super().__init__()
        self._fn = fn

    def call(self, batch: Any) -> Any:
        return self._fn(batch)
