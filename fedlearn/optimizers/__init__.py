"""Server optimizers of the federated learning papers that Keras lacks."""

import contextlib
from typing import Any

import keras

from fedlearn import serialization
from fedlearn.names import OPTIMIZERS, normal
from fedlearn.optimizers.adaptive import FedAdagrad, FedAdam, FedYogi, Yogi


def get(
    identifier: Any, argument: str = "optimizer", **arguments: Any
) -> keras.optimizers.Optimizer:
    """An optimizer of fedlearn or of Keras, from its name, or itself.

    Args:
        identifier: A name, as `keras.optimizers.get` takes it, or one of
            `"yogi"`, `"fedadam"`, `"fedyogi"`, `"fedadagrad"`; with a
            learning rate after a colon: `"fedadam:0.05"`, `"sgd:0.1"`. Or a
            configuration, or an optimizer.
        argument: What it is given as, for errors.
        **arguments: More for the constructor, where a name is given.

    Raises:
        ValueError: If there is none of that name, or its number is wrong.

    Example:

    >>> type(get("fedadam:0.05")).__name__
    'FedAdam'
    """
    if not isinstance(identifier, str):
        return keras.optimizers.get(identifier)
    if normal(identifier).partition(":")[0] not in OPTIMIZERS:
        with contextlib.suppress(ValueError):  # Keras has more of them
            return keras.optimizers.get(identifier)
    return serialization.make(identifier, OPTIMIZERS, argument, **arguments)


__all__ = ["FedAdagrad", "FedAdam", "FedYogi", "Yogi", "get"]
__dir__ = __all__.copy  # `dir` shows what is public
