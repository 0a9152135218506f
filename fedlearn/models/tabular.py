from collections.abc import Sequence

import keras
from keras import layers
from keras.initializers import GlorotUniform

from fedlearn.models.layer_seed import layer_seed


def tabular(
    input_shape: tuple[int, ...] = (13,),
    num_classes: int | None = 2,
    mean: Sequence[float] | None = None,
    variance: Sequence[float] | None = None,
    label_mean: float = 0.0,
    label_scale: float = 1.0,
    seed: int | None = None,
) -> keras.Model:
    """One hidden layer of 32 units, for a table's rows.

    Columns are scaled inside the model, so that a saved one takes rows as
    they stand in the table.

    Args:
        input_shape: `(columns,)`.
        num_classes: Number of classes; None to predict an amount.
        mean, variance: Of each column, to scale it; None for rows that are
            scaled already. They are constants, which nobody trains.
        label_mean, label_scale: Of an amount, the mean and standard
            deviation, about which predictions begin.
        seed: Integer that fixes the initial weights, or `None`.

    Returns:
        An uncompiled model from `(batch, columns)` to probabilities of shape
        `(batch, num_classes)`, or to amounts of shape `(batch, 1)`.

    Example:

    >>> tabular((4,), num_classes=3, seed=0).output_shape
    (None, 3)
    >>> model = tabular((1,), None, mean=[50.0], variance=[4.0], label_mean=7.0)
    >>> model.output_shape
    (None, 1)
    """
    scaling = []
    if mean is not None and variance is not None:
        scaling.append(layers.Normalization(mean=mean, variance=variance))
    units = 1 if num_classes is None else num_classes
    model = keras.Sequential(
        [
            keras.Input(input_shape),
            *scaling,
            layers.Dense(
                32,
                activation="relu",
                kernel_initializer=GlorotUniform(seed=layer_seed(seed, 0)),
            ),
            layers.Dense(
                units,
                activation=None if num_classes is None else "softmax",
                kernel_initializer=GlorotUniform(seed=layer_seed(seed, 1)),
            ),
        ],
        name="tabular",
    )
    if num_classes is None:
        model.add(layers.Rescaling(label_scale, offset=label_mean))
    return model
