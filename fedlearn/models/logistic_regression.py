import keras
from keras import layers
from keras.initializers import GlorotUniform

from fedlearn.models.layer_seed import layer_seed


def logistic_regression(
    input_shape: tuple[int, ...] = (28, 28, 1),
    num_classes: int = 10,
    seed: int | None = None,
) -> keras.Model:
    """Multinomial logistic regression.

    One dense layer and a softmax. Its loss is convex, so where federated
    training ends can be compared with the optimum of the pooled data.

    Args:
        input_shape: Shape of one example; flattened.
        num_classes: Number of classes.
        seed: Integer that fixes the initial weights, or `None`.

    Returns:
        An uncompiled model from `(batch, *input_shape)` to probabilities of
        shape `(batch, num_classes)`.

    Example:

    >>> logistic_regression(input_shape=(20,), num_classes=2).count_params()
    42
    """
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            layers.Dense(
                num_classes,
                activation="softmax",
                kernel_initializer=GlorotUniform(seed=layer_seed(seed, 0)),
            ),
        ],
        name="logistic_regression",
    )
