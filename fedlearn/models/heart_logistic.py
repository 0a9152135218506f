import keras
from keras import layers

from fedlearn.models.seeded_layers import SeededLayers


def heart_logistic(
    input_shape: tuple[int, ...] = (13,), seed: int | None = None
) -> keras.Model:
    """The baseline of FLamby for heart disease: logistic regression.

    One unit with a sigmoid: 14 parameters for 13 features. Labels are 0 or 1,
    for `loss="binary_crossentropy"`.

    Args:
        input_shape, seed: See `fl.models`.

    Returns:
        A model to the probability of disease, of shape `(batch, 1)`.

    Example:

    >>> heart_logistic().count_params()
    14

    Source: du Terrail et al., "FLamby: datasets and benchmarks for cross-silo
    federated learning in realistic healthcare settings", NeurIPS 2022.
    """
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            SeededLayers(seed).dense(1, "sigmoid"),
        ],
        name="heart_logistic",
    )
