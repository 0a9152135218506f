import keras
from keras import layers
from keras.initializers import GlorotUniform

from fedlearn.models.layer_seed import layer_seed


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
        input_shape: `(height, width, channels)` of one image.
        num_classes: Number of classes.
        seed: Integer that fixes the initial weights, or `None`.

    Returns:
        An uncompiled model from `(batch, *input_shape)` to probabilities of
        shape `(batch, num_classes)`.

    Example:

    >>> celeba_cnn().count_params()
    31458

    Source: Caldas, Duddu, Wu, Li, Konecny, McMahan, Smith and Talwalkar,
    "LEAF: a benchmark for federated settings", 2018, and its code.
    """

    def kernel(layer):
        return GlorotUniform(seed=layer_seed(seed, layer))

    blocks = [
        layer
        for i in range(4)
        for layer in (
            layers.Conv2D(32, 3, padding="same", kernel_initializer=kernel(i)),
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
            layers.Dense(
                num_classes,
                activation="softmax",
                kernel_initializer=kernel(4),
            ),
        ],
        name="celeba_cnn",
    )
