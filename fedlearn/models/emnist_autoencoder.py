import math

import keras
from keras import layers
from keras.initializers import GlorotNormal

from fedlearn.models.layer_seed import layer_seed


def emnist_autoencoder(
    input_shape: tuple[int, ...] = (28, 28, 1), seed: int | None = None
) -> keras.Model:
    """The bottleneck autoencoder of Reddi et al. 2021.

    Dense layers of 1000, 500, 250, 30, 250, 500 and 1000 units and one unit
    for each pixel, all with a sigmoid but the 30 in the middle, which are
    linear: 2,837,314 parameters for images of 28x28.

    Images are the labels too, so they must lie in [0, 1]. The paper trains on
    ink (`1 - pixels`, where background is 1) with the mean squared error.

    Args:
        input_shape: Shape of one image; flattened on the way in and restored
            on the way out.
        seed: Integer that fixes the initial weights, or `None`.

    Returns:
        An uncompiled model from `(batch, *input_shape)` to values in (0, 1)
        of the same shape.

    Example:

    >>> model = emnist_autoencoder()
    >>> model.count_params(), model.output_shape
    (2837314, (None, 28, 28, 1))

    Sources: Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar and
    McMahan, "Adaptive federated optimization", ICLR 2021, appendix on models;
    after Hinton and Salakhutdinov, "Reducing the dimensionality of data with
    neural networks", Science 313, 2006.
    """
    pixels = math.prod(input_shape)
    sizes = (1000, 500, 250, 30, 250, 500, 1000, pixels)
    bottleneck = sizes.index(30)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            *(
                layers.Dense(
                    size,
                    activation="linear" if i == bottleneck else "sigmoid",
                    kernel_initializer=GlorotNormal(seed=layer_seed(seed, i)),
                )
                for i, size in enumerate(sizes)
            ),
            layers.Reshape(input_shape),
        ],
        name="emnist_autoencoder",
    )
