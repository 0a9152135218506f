"""How much work a Keras model is, roughly: for the choice of an executor."""

import math
from typing import Any

import keras

from fedlearn.keras_model import keras_internals


def multiplications(model: keras.Model) -> float:
    """About how many multiplications a forward pass takes for one example.

    Every kernel counts once for each position that it is applied at: an output
    pixel, a time step. Where a layer's output shape isn't known, as in a
    subclassed model, it is counted for one position, and a convolution as
    infinitely many.

    >>> layers = [keras.Input((28, 28, 1)), keras.layers.Conv2D(8, 3)]
    >>> multiplications(keras.Sequential(layers))  # 26 * 26 * 3 * 3 * 8
    48672.0
    """
    total = 0.0
    for layer in _leaves(model):
        kernels = [
            v for v in keras_internals.own_weights(layer) if len(v.shape) > 1
        ]
        if kernels and not isinstance(layer, keras.layers.Embedding):
            size = sum(math.prod(v.shape) for v in kernels)
            total += size * _positions(layer)
    return total


def convolves(model: keras.Model) -> bool:
    """Whether a layer is a convolution."""
    return any(_is_convolution(layer) for layer in _leaves(model))


def has_plain_layers(model: keras.Model) -> bool:
    """Whether none is recurrent, changes images or has code of the user's."""
    return all(
        type(layer).__module__.startswith("keras.")
        and not isinstance(layer, _NOT_PLAIN)
        and not keras_internals.changes_images(layer)
        for layer in _leaves(model)
    )


_NOT_PLAIN = (keras.layers.RNN, keras.layers.Wrapper, keras.layers.Lambda)


def _is_convolution(layer: keras.Layer) -> bool:
    return hasattr(layer, "kernel_size") and bool(
        keras_internals.own_weights(layer)
    )


def _leaves(model: keras.Model) -> list[keras.Layer]:
    return [
        layer
        for layer in keras_internals.layers(model)
        if not isinstance(layer, keras.Model)
    ]


def _positions(layer: keras.Layer) -> float:
    try:
        shape: Any = layer.output.shape
        if isinstance(layer, keras.layers.RNN):
            shape = layer.input.shape
    except (AttributeError, ValueError):  # not part of a functional model
        shape = (None, None)
    inner = shape[1:-1]
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        inner = shape[2:]
    if None in shape[1:]:
        return math.inf if _is_convolution(layer) else 1
    return math.prod(inner)
