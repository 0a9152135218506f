import keras
from keras import layers

from fedlearn.models.seeded_layers import SeededLayers


def celeba_cnn(
    input_shape: tuple[int, int, int] = (84, 84, 3),
    num_classes: int = 2,
    seed: int | None = None,
) -> keras.Model:
    """The convolutional network for CelebA of LEAF.

    Four times a 3x3 convolution with 32 channels, batch normalization, 2x2
    max pooling and ReLU, then a softmax: 31,202 parameters for images of
    84x84 and two classes, and 256 moving statistics. LEAF normalizes by the
    batch in evaluation too; here evaluation takes the moving statistics, as
    Keras does.

    Args:
        input_shape, num_classes, seed: See `fl.models`.

    Example:

    >>> celeba_cnn().count_params()
    31458

    Source: Caldas et al. 2018, arXiv:1812.01097, and its code.
    """
    make = SeededLayers(seed)
    blocks = [
        layer
        for _ in range(4)
        for layer in (
            make.conv(32, 3, activation=None),
            layers.BatchNormalization(),
            layers.MaxPooling2D(2, padding="same"),
            layers.ReLU(),
        )
    ]
    return keras.Sequential(
        [
            keras.Input(input_shape),
            *blocks,
            layers.Flatten(),
            make.dense(num_classes, "softmax"),
        ],
        name="celeba_cnn",
    )
