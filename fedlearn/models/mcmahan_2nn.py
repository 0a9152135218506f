import keras
from keras import layers
from keras.initializers import GlorotUniform

from fedlearn.models.layer_seed import layer_seed


def mcmahan_2nn(
    input_shape: tuple[int, ...] = (28, 28, 1),
    num_classes: int = 10,
    seed: int | None = None,
) -> keras.Model:
    """The multilayer perceptron ("2NN") of McMahan et al. 2017.

    Two hidden layers of 200 units with ReLU and a softmax: 199,210
    parameters for MNIST.

    Args:
        input_shape: Shape of one example; flattened.
        num_classes: Number of classes.
        seed: Integer that fixes the initial weights, or `None`.

    Returns:
        An uncompiled model from `(batch, *input_shape)` to probabilities of
        shape `(batch, num_classes)`.

    Example:

    >>> mcmahan_2nn().count_params()
    199210

    Source: McMahan, Moore, Ramage, Hampson and Aguera y Arcas,
    "Communication-efficient learning of deep networks from decentralized
    data", AISTATS 2017, section 3.
    """

    def kernel(layer):
        return GlorotUniform(seed=layer_seed(seed, layer))

    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            layers.Dense(200, activation="relu", kernel_initializer=kernel(0)),
            layers.Dense(200, activation="relu", kernel_initializer=kernel(1)),
            layers.Dense(
                num_classes,
                activation="softmax",
                kernel_initializer=kernel(2),
            ),
        ],
        name="mcmahan_2nn",
    )
