"""Reference Keras models, uncompiled, by the papers that made them known.

Each is a function `name(input_shape=..., num_classes=..., seed=None)` that
returns a new `keras.Model` with softmax outputs, for
`loss="sparse_categorical_crossentropy"`.
"""

from typing import Any

import keras

from fedlearn.models.digits_cnn import digits_cnn
from fedlearn.models.logistic_regression import logistic_regression
from fedlearn.models.mcmahan_2nn import mcmahan_2nn
from fedlearn.models.mcmahan_cnn import mcmahan_cnn

__all__ = [
    "digits_cnn",
    "get",
    "logistic_regression",
    "mcmahan_2nn",
    "mcmahan_cnn",
]

_MODELS = {
    function.__name__: function
    for function in (
        digits_cnn,
        logistic_regression,
        mcmahan_2nn,
        mcmahan_cnn,
    )
}


def get(name: str, **kwargs: Any) -> keras.Model:
    """A new reference model by its name.

    Args:
        name: Name of a function of this module, such as `"mcmahan_cnn"`.
        **kwargs: That function's arguments: `input_shape`, `num_classes`,
            `seed`.

    Returns:
        An uncompiled `keras.Model`.

    Raises:
        ValueError: If there is no model of that name.

    Example:

    >>> get("mcmahan_2nn", num_classes=62, seed=0).output_shape
    (None, 62)
    """
    if name not in _MODELS:
        raise ValueError(
            f"There is no model named {name!r}. Expected one of: "
            f"{', '.join(sorted(_MODELS))}."
        )
    return _MODELS[name](**kwargs)
