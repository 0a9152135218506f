from collections.abc import Sequence

import keras
from keras import layers

from fedlearn.models.seeded_layers import SeededLayers


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
        seed: See `fl.models`.

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
    make = SeededLayers(seed)
    model = keras.Sequential([keras.Input(input_shape)], name="tabular")
    if mean is not None and variance is not None:
        model.add(layers.Normalization(mean=mean, variance=variance))
    model.add(make.dense(32))
    if num_classes is not None:
        model.add(make.dense(num_classes, "softmax"))
    else:
        model.add(make.dense(1, None))
        model.add(layers.Rescaling(label_scale, offset=label_mean))
    return model
