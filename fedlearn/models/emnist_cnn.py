import keras
from keras import layers

from fedlearn.models.seeded_layers import SeededLayers


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
        input_shape, num_classes, seed: See `fl.models`; images of at least
            6x6. The seed also fixes what is dropped.

    Example:

    >>> emnist_cnn().count_params()
    1206590

    Source: Reddi et al. 2021, arXiv:2003.00295, appendix on models.
    """
    make = SeededLayers(seed)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            make.conv(32, 3, padding="valid"),
            make.conv(64, 3, padding="valid"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25, seed=make.seed("dropout_0")),
            layers.Flatten(),
            make.dense(128),
            layers.Dropout(0.5, seed=make.seed("dropout_1")),
            make.dense(num_classes, "softmax"),
        ],
        name="emnist_cnn",
    )
