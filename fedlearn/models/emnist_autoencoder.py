import math

import keras
from keras import layers
from keras.initializers import GlorotNormal

from fedlearn.models.seeded_layers import SeededLayers


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
        seed: See `fl.models`.

    Returns:
        A model to values in (0, 1) of the input's shape.

    Example:

    >>> model = emnist_autoencoder()
    >>> model.count_params(), model.output_shape
    (2837314, (None, 28, 28, 1))

    Sources: Reddi et al. 2021, arXiv:2003.00295, appendix on models; after
    Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural
    networks", Science 313, 2006.
    """
    make = SeededLayers(seed, GlorotNormal)
    sizes = (1000, 500, 250, 30, 250, 500, 1000, math.prod(input_shape))
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            *(
                make.dense(size, "linear" if size == 30 else "sigmoid")
                for size in sizes[:-1]
            ),
            make.dense(sizes[-1], "sigmoid"),
            layers.Reshape(input_shape),
        ],
        name="emnist_autoencoder",
    )
