import keras
from keras import layers
from keras.initializers import GlorotUniform

from fedlearn.models.layer_seed import layer_seed


def heart_logistic(
    input_shape: tuple[int, ...] = (13,), seed: int | None = None
) -> keras.Model:
    """The baseline of FLamby for heart disease: logistic regression.

    One unit with a sigmoid: 14 parameters for 13 features. Labels are 0 or 1,
    for `loss="binary_crossentropy"`.

    Args:
        input_shape: Shape of one example; flattened.
        seed: Integer that fixes the initial weights, or `None`.

    Returns:
        An uncompiled model from `(batch, *input_shape)` to the probability of
        disease, of shape `(batch, 1)`.

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
            layers.Dense(
                1,
                activation="sigmoid",
                kernel_initializer=GlorotUniform(seed=layer_seed(seed, 0)),
            ),
        ],
        name="heart_logistic",
    )
