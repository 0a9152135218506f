import keras
from keras import layers

from fedlearn.models.seeded_layers import SeededLayers


def mcmahan_2nn(
    input_shape: tuple[int, ...] = (28, 28, 1),
    num_classes: int = 10,
    seed: int | None = None,
) -> keras.Model:
    """The multilayer perceptron ("2NN") of McMahan et al. 2017.

    Two hidden layers of 200 units with ReLU and a softmax: 199,210
    parameters for MNIST.

    Args:
        input_shape, num_classes, seed: See `fl.models`.

    Example:

    >>> mcmahan_2nn().count_params()
    199210

    Source: McMahan et al. 2017, arXiv:1602.05629, section 3.
    """
    make = SeededLayers(seed)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            make.dense(200),
            make.dense(200),
            make.dense(num_classes, "softmax"),
        ],
        name="mcmahan_2nn",
    )
