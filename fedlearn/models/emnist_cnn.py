import keras
from keras import layers
from keras.initializers import GlorotUniform

from fedlearn.models.layer_seed import layer_seed


def emnist_cnn(
    input_shape: tuple[int, int, int] = (28, 28, 1),
    num_classes: int = 62,
    seed: int | None = None,
) -> keras.Model:
    """The convolutional network with dropout of Reddi et al. 2021.

    Two 3x3 convolutions with 32 and 64 channels, 2x2 max pooling, dropout of
    a quarter, a dense layer of 128 units, dropout of a half and a softmax:
    1,206,590 parameters for the 62 characters of EMNIST, 1,199,882 for its
    10 digits.

    Args:
        input_shape: `(height, width, channels)` of one image; at least 6x6.
        num_classes: Number of classes.
        seed: Integer that fixes the initial weights and what is dropped, or
            `None`.

    Returns:
        An uncompiled model from `(batch, *input_shape)` to probabilities of
        shape `(batch, num_classes)`.

    Example:

    >>> emnist_cnn().count_params()
    1206590

    Source: Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar and McMahan,
    "Adaptive federated optimization", ICLR 2021, appendix on models.
    """

    def kernel(layer):
        return GlorotUniform(seed=layer_seed(seed, layer))

    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(
                32, 3, activation="relu", kernel_initializer=kernel(0)
            ),
            layers.Conv2D(
                64, 3, activation="relu", kernel_initializer=kernel(1)
            ),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25, seed=layer_seed(seed, "dropout_0")),
            layers.Flatten(),
            layers.Dense(128, activation="relu", kernel_initializer=kernel(2)),
            layers.Dropout(0.5, seed=layer_seed(seed, "dropout_1")),
            layers.Dense(
                num_classes,
                activation="softmax",
                kernel_initializer=kernel(3),
            ),
        ],
        name="emnist_cnn",
    )
