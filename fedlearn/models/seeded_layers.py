"""Layers whose initial weights follow from their model's seed."""

import itertools
from typing import Any

import keras
from keras import initializers, layers

from fedlearn import seeds


class SeededLayers:
    """Makes the layers of one model, in their order.

    A Keras initializer with an integer seed always starts the same stream, so
    two layers given the same integer would start from the same numbers: each
    gets one of its own here, by its place.

    Args:
        seed: The model's seed, or `None` for weights that differ each time
            (or follow `keras.utils.set_random_seed`).
        kernel: The class of the initializer of kernels.

    Example:

    >>> make = SeededLayers(0)
    >>> make.dense(3).units
    3
    """

    def __init__(
        self, seed: int | None, kernel: Any = initializers.GlorotUniform
    ) -> None:
        self._seed = seed
        self._kernel = kernel
        self._places = itertools.count()

    def seed(self, layer: int | str) -> int | None:
        """An integer in [0, 2**31), which every backend accepts, or None."""
        if self._seed is None:
            return None
        return seeds.fold(self._seed, "model", layer) >> 33

    def initializer(self, kind: Any = None) -> Any:
        """The initializer of the next layer's kernel."""
        return (kind or self._kernel)(seed=self.seed(next(self._places)))

    def dense(self, units: int, activation: str | None = "relu") -> Any:
        return layers.Dense(
            units, activation=activation, kernel_initializer=self.initializer()
        )

    def conv(
        self,
        filters: int,
        size: int,
        activation: str | None = "relu",
        padding: str = "same",
    ) -> Any:
        return layers.Conv2D(
            filters,
            size,
            padding=padding,
            activation=activation,
            kernel_initializer=self.initializer(),
        )

    def dropout(self, rate: float, name: str) -> Any:
        return layers.Dropout(rate, seed=self.seed(name))

    def embedding(self, vocab_size: int, size: int) -> Any:
        """Of numbers in sequences, where 0 is padding."""
        return layers.Embedding(
            vocab_size,
            size,
            mask_zero=True,
            embeddings_initializer=self.initializer(initializers.RandomUniform),
        )

    def lstm(
        self, units: int, kernel: Any = None, return_sequences: bool = True
    ) -> Any:
        place = next(self._places)
        return layers.LSTM(
            units,
            return_sequences=return_sequences,
            kernel_initializer=(kernel or self._kernel)(seed=self.seed(place)),
            recurrent_initializer=initializers.Orthogonal(
                seed=self.seed(f"recurrent_{place}")
            ),
            seed=self.seed(f"dropout_{place}"),
        )


def sequential(name: str, inputs: Any, *stack: Any) -> keras.Model:
    """Layers one after another, from inputs of a shape or a `keras.Input`."""
    if isinstance(inputs, tuple):
        inputs = keras.Input(inputs)
    return keras.Sequential([inputs, *stack], name=name)
