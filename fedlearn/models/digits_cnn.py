import keras
from keras import layers
from keras.initializers import GlorotUniform

from fedlearn.models.layer_seed import layer_seed


def digits_cnn(
    input_shape: tuple[int, int, int] = (8, 8, 1),
    num_classes: int = 10,
    seed: int | None = None,
) -> keras.Model:
    """A small convolutional network for `fedlearn.datasets.digits`.

    Two 3x3 convolutions with 16 and 32 channels and 2x2 max pooling, a dense
    layer of 64 units and a softmax: 13,706 parameters. It learns the 8x8
    digits of scikit-learn within seconds on a laptop.

    Args:
        input_shape: `(height, width, channels)` of one image; at least 4x4.
        num_classes: Number of classes.
        seed: Integer that fixes the initial weights, or `None`.

    Returns:
        An uncompiled model from `(batch, *input_shape)` to probabilities of
        shape `(batch, num_classes)`.

    Example:

    >>> digits_cnn().output_shape
    (None, 10)
    """

    def kernel(layer):
        return GlorotUniform(seed=layer_seed(seed, layer))

    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(
                16,
                3,
                padding="same",
                activation="relu",
                kernel_initializer=kernel(0),
            ),
            layers.MaxPooling2D(2),
            layers.Conv2D(
                32,
                3,
                padding="same",
                activation="relu",
                kernel_initializer=kernel(1),
            ),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(64, activation="relu", kernel_initializer=kernel(2)),
            layers.Dense(
                num_classes,
                activation="softmax",
                kernel_initializer=kernel(3),
            ),
        ],
        name="digits_cnn",
    )
