import keras
from keras import layers

from fedlearn.models.seeded_layers import SeededLayers


def logistic_regression(
    input_shape: tuple[int, ...] = (28, 28, 1),
    num_classes: int = 10,
    seed: int | None = None,
) -> keras.Model:
    """Multinomial logistic regression.

    One dense layer and a softmax. Its loss is convex, so where federated
    training ends can be compared with the optimum of the pooled data.

    Args:
        input_shape, num_classes, seed: See `fl.models`.

    Example:

    >>> logistic_regression(input_shape=(20,), num_classes=2).count_params()
    42
    """
    make = SeededLayers(seed)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            make.dense(num_classes, "softmax"),
        ],
        name="logistic_regression",
    )
