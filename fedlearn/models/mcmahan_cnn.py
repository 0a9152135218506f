import keras
from keras import layers
from keras.initializers import GlorotUniform

from fedlearn.models.layer_seed import layer_seed


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
        input_shape: `(height, width, channels)` of one image.
        num_classes: Number of classes.
        seed: Integer that fixes the initial weights, or `None`.
        hidden_units: Units of the dense layer.

    Returns:
        An uncompiled model from `(batch, *input_shape)` to probabilities of
        shape `(batch, num_classes)`.

    Example:

    >>> mcmahan_cnn().count_params()
    1663370

    Source: McMahan, Moore, Ramage, Hampson and Aguera y Arcas,
    "Communication-efficient learning of deep networks from decentralized
    data", AISTATS 2017, section 3. Caldas, Duddu, Wu, Li, Konecny, McMahan,
    Smith and Talwalkar, "LEAF: a benchmark for federated settings", 2018, and
    its code.
    """

    def kernel(layer):
        return GlorotUniform(seed=layer_seed(seed, layer))

    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(
                32,
                5,
                padding="same",
                activation="relu",
                kernel_initializer=kernel(0),
            ),
            layers.MaxPooling2D(2),
            layers.Conv2D(
                64,
                5,
                padding="same",
                activation="relu",
                kernel_initializer=kernel(1),
            ),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(
                hidden_units, activation="relu", kernel_initializer=kernel(2)
            ),
            layers.Dense(
                num_classes,
                activation="softmax",
                kernel_initializer=kernel(3),
            ),
        ],
        name="mcmahan_cnn",
    )
