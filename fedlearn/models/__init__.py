"""Reference Keras models, uncompiled, by the papers that made them known.

Each is a function that returns a new `keras.Model`, from inputs of shape
`(batch, *input_shape)`; of classifiers to softmax probabilities of shape
`(batch, num_classes)`, for `loss="sparse_categorical_crossentropy"`. The
others say in their docstrings which loss they take. `fl.datasets.Task`
compiles them for their data.

To those that read sequences, number 0 is padding, which their layers skip.
Leave it out of the loss and of the accuracy by its label as well, with
`keras.losses.SparseCategoricalCrossentropy(ignore_class=0)` and
`fl.metrics.MaskedAccuracy(ignore=(0,))`: with plain
`"sparse_categorical_crossentropy"` and `"accuracy"`, Keras leaves out only what
follows padding, and so counts the padding after the last character or word.

They have in common, and where nothing else is said no others:

Args:
    input_shape: Shape of one example, of images `(height, width, channels)`;
        dense networks flatten it. It and other sizes default to those of the
        paper.
    num_classes: Number of classes.
    seed: Integer that fixes the initial weights, or `None`.
"""

from typing import Any

import keras

from fedlearn import checks
from fedlearn.models.convolutional import (
    celeba_cnn,
    digits_cnn,
    emnist_cnn,
    mcmahan_cnn,
)
from fedlearn.models.dense import (
    emnist_autoencoder,
    heart_logistic,
    logistic_regression,
    mcmahan_2nn,
    stackoverflow_tags,
    tabular,
)
from fedlearn.models.recurrent import shakespeare_lstm, stackoverflow_lstm
from fedlearn.models.resnet18_gn import resnet18_gn

__all__ = [
    "celeba_cnn",
    "digits_cnn",
    "emnist_autoencoder",
    "emnist_cnn",
    "get",
    "heart_logistic",
    "logistic_regression",
    "mcmahan_2nn",
    "mcmahan_cnn",
    "resnet18_gn",
    "shakespeare_lstm",
    "stackoverflow_lstm",
    "stackoverflow_tags",
    "tabular",
]
__dir__ = __all__.copy  # `dir` shows what is public

_MODELS = {name: globals()[name] for name in __all__ if name != "get"}


def get(name: str, **kwargs: Any) -> keras.Model:
    """A new reference model by its name.

    Args:
        name: Name of a function of this module, such as `"mcmahan_cnn"`.
        **kwargs: That function's arguments, such as `input_shape`,
            `num_classes` and `seed`.

    Returns:
        An uncompiled `keras.Model`.

    Raises:
        ValueError: If there is no model of that name.

    Example:

    >>> get("mcmahan_2nn", num_classes=62, seed=0).output_shape
    (None, 62)
    """
    return _MODELS[checks.one_of("name", name, sorted(_MODELS))](**kwargs)
