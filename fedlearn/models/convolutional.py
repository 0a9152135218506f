"""Convolutional networks, from images to softmax probabilities."""

import keras
from keras import layers

from fedlearn.models.seeded_layers import SeededLayers, sequential


def celeba_cnn(
    input_shape: tuple[int, int, int] = (84, 84, 3),
    num_classes: int = 2,
    seed: int | None = None,
) -> keras.Model:
    """The convolutional network for CelebA of LEAF.

    Four times a 3x3 convolution with 32 channels, batch normalization, 2x2
    max pooling and ReLU, then a softmax: 31,202 parameters for images of
    84x84 and two classes, and 256 moving statistics. LEAF normalizes by the
    batch in evaluation too; here evaluation takes the moving statistics. They
    move by a tenth at each step: by Keras's hundredth, with two or three steps
    a round, they would take some hundred rounds to leave where they began.

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
            layers.BatchNormalization(momentum=0.9),
            layers.MaxPooling2D(2, padding="same"),
            layers.ReLU(),
        )
    ]
    head = layers.Flatten(), make.dense(num_classes, "softmax")
    return sequential("celeba_cnn", input_shape, *blocks, *head)


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
    return sequential(
        "digits_cnn",
        input_shape,
        make.conv(16, 3),
        layers.MaxPooling2D(2),
        make.conv(32, 3),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        make.dense(64),
        make.dense(num_classes, "softmax"),
    )


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
    return sequential(
        "emnist_cnn",
        input_shape,
        make.conv(32, 3, padding="valid"),
        make.conv(64, 3, padding="valid"),
        layers.MaxPooling2D(2),
        make.dropout(0.25, "dropout_0"),
        layers.Flatten(),
        make.dense(128),
        make.dropout(0.5, "dropout_1"),
        make.dense(num_classes, "softmax"),
    )


def mcmahan_cnn(
    input_shape: tuple[int, int, int] = (28, 28, 1),
    num_classes: int = 10,
    seed: int | None = None,
    hidden_units: int = 512,
) -> keras.Model:
    """The convolutional network of McMahan et al. 2017.

    Two 5x5 convolutions with 32 and 64 channels, each followed by 2x2 max
    pooling, a dense layer of 512 units and a softmax: 1,663,370 parameters
    for MNIST. That count needs convolutions that keep the size of the image
    (`padding="same"`), which the paper does not spell out. LEAF's network for
    FEMNIST has 2048 hidden units: 6,603,710 parameters with 62 classes.

    Args:
        input_shape, num_classes, seed: See `fl.models`.
        hidden_units: Units of the dense layer.

    Example:

    >>> mcmahan_cnn().count_params()
    1663370

    Source: McMahan et al. 2017, arXiv:1602.05629, section 3. Caldas et al.
    2018, arXiv:1812.01097, and its code.
    """
    make = SeededLayers(seed)
    return sequential(
        "mcmahan_cnn",
        input_shape,
        make.conv(32, 5),
        layers.MaxPooling2D(2),
        make.conv(64, 5),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        make.dense(hidden_units),
        make.dense(num_classes, "softmax"),
    )
