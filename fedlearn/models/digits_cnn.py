import keras
from keras import layers

from fedlearn.models.seeded_layers import SeededLayers


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
        input_shape, num_classes, seed: See `fl.models`; images of at least
            4x4.

    Example:

    >>> digits_cnn().output_shape
    (None, 10)
    """
    make = SeededLayers(seed)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            make.conv(16, 3),
            layers.MaxPooling2D(2),
            make.conv(32, 3),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            make.dense(64),
            make.dense(num_classes, "softmax"),
        ],
        name="digits_cnn",
    )
