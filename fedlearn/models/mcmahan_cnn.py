import keras
from keras import layers

from fedlearn.models.seeded_layers import SeededLayers


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
    return keras.Sequential(
        [
            keras.Input(input_shape),
            make.conv(32, 5),
            layers.MaxPooling2D(2),
            make.conv(64, 5),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            make.dense(hidden_units),
            make.dense(num_classes, "softmax"),
        ],
        name="mcmahan_cnn",
    )
