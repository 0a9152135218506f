"""Networks of dense layers: logistic regressions, and with hidden layers."""

import math
from collections.abc import Sequence

import keras
from keras import layers
from keras.initializers import GlorotNormal

from fedlearn.models.seeded_layers import SeededLayers, sequential


def logistic_regression(
    input_shape: tuple[int, ...] = (28, 28, 1),
    num_classes: int = 10,
    seed: int | None = None,
) -> keras.Model:
    """Multinomial logistic regression.

    One dense layer and a softmax. Its loss is convex, so where federated
    training ends can be compared with the optimum of the pooled data.

    Example:

    >>> logistic_regression(input_shape=(20,), num_classes=2).count_params()
    42
    """
    output = SeededLayers(seed).dense(num_classes, "softmax")
    return sequential(
        "logistic_regression", input_shape, layers.Flatten(), output
    )


def heart_logistic(
    input_shape: tuple[int, ...] = (13,), seed: int | None = None
) -> keras.Model:
    """The baseline of FLamby for heart disease: logistic regression.

    One unit with a sigmoid: 14 parameters for 13 features. Labels are 0 or 1,
    for `loss="binary_crossentropy"`.

    Returns:
        A model to the probability of disease, of shape `(batch, 1)`.

    Example:

    >>> heart_logistic().count_params()
    14

    Source: du Terrail et al., "FLamby: datasets and benchmarks for cross-silo
    federated learning in realistic healthcare settings", NeurIPS 2022.
    """
    output = SeededLayers(seed).dense(1, "sigmoid")
    return sequential("heart_logistic", input_shape, layers.Flatten(), output)


def stackoverflow_tags(
    input_shape: tuple[int, ...] = (10_000,),
    num_tags: int = 500,
    seed: int | None = None,
) -> keras.Model:
    """The tag prediction of Reddi et al. 2021: one yes or no for each tag.

    A logistic regression for each tag, from a bag of words: 5,000,500
    parameters for 10,000 words and 500 tags. An example has any number of
    tags, so labels are multi-hot, for a binary cross-entropy: as below, and in
    the paper's code, a mean over tags and a sum over a batch's examples.

    Args:
        input_shape, seed: See `fl.models`.
        num_tags: Number of tags.

    Returns:
        A model to a probability for each tag, of shape `(batch, num_tags)`.

    Example:

    >>> model = stackoverflow_tags()
    >>> model.compile(
    ...     optimizer=keras.optimizers.SGD(100.0),
    ...     loss=keras.losses.BinaryCrossentropy(reduction="sum"),
    ...     metrics=[keras.metrics.Precision(), keras.metrics.Recall(top_k=5)],
    ... )
    >>> model.count_params()
    5000500

    Source: Reddi et al. 2021, arXiv:2003.00295, appendix on models.
    """
    output = SeededLayers(seed).dense(num_tags, "sigmoid")
    return sequential(
        "stackoverflow_tags", input_shape, layers.Flatten(), output
    )


def mcmahan_2nn(
    input_shape: tuple[int, ...] = (28, 28, 1),
    num_classes: int = 10,
    seed: int | None = None,
) -> keras.Model:
    """The multilayer perceptron ("2NN") of McMahan et al. 2017.

    Two hidden layers of 200 units with ReLU and a softmax: 199,210
    parameters for MNIST.

    Example:

    >>> mcmahan_2nn().count_params()
    199210

    Source: McMahan et al. 2017, arXiv:1602.05629, section 3.
    """
    make = SeededLayers(seed)
    return sequential(
        "mcmahan_2nn",
        input_shape,
        layers.Flatten(),
        make.dense(200),
        make.dense(200),
        make.dense(num_classes, "softmax"),
    )


def emnist_autoencoder(
    input_shape: tuple[int, ...] = (28, 28, 1), seed: int | None = None
) -> keras.Model:
    """The bottleneck autoencoder of Reddi et al. 2021.

    Dense layers of 1000, 500, 250, 30, 250, 500 and 1000 units and one unit
    for each pixel, all with a sigmoid but the 30 in the middle, which are
    linear: 2,837,314 parameters for images of 28x28.

    Images are the labels too, so they must lie in [0, 1]. The paper trains on
    ink (`1 - pixels`, where background is 1) with the mean squared error.

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
    hidden = [
        make.dense(n, "linear" if n == 30 else "sigmoid") for n in sizes[:-1]
    ]
    return sequential(
        "emnist_autoencoder",
        input_shape,
        layers.Flatten(),
        *hidden,
        make.dense(sizes[-1], "sigmoid"),
        layers.Reshape(input_shape),
    )


def tabular(
    input_shape: tuple[int, ...] = (13,),
    num_classes: int | None = 2,
    mean: Sequence[float] | None = None,
    variance: Sequence[float] | None = None,
    label_mean: float = 0.0,
    label_scale: float = 1.0,
    seed: int | None = None,
) -> keras.Model:
    """One hidden layer of 32 units, for a table's rows.

    Columns are scaled inside the model, so that a saved one takes rows as
    they stand in the table.

    Args:
        input_shape: `(columns,)`.
        num_classes: Number of classes; None to predict an amount.
        mean, variance: Of each column, to scale it; None for rows that are
            scaled already. They are constants, which nobody trains.
        label_mean, label_scale: Of an amount, the mean and standard
            deviation, about which predictions begin.
        seed: See `fl.models`.

    Returns:
        An uncompiled model from `(batch, columns)` to probabilities of shape
        `(batch, num_classes)`, or to amounts of shape `(batch, 1)`.

    Example:

    >>> tabular((4,), num_classes=3, seed=0).output_shape
    (None, 3)
    >>> model = tabular((1,), None, mean=[50.0], variance=[4.0], label_mean=7.0)
    >>> model.output_shape
    (None, 1)
    """
    make = SeededLayers(seed)
    stack = [make.dense(32)]
    if mean is not None and variance is not None:
        stack.insert(0, layers.Normalization(mean=mean, variance=variance))
    if num_classes is not None:
        stack.append(make.dense(num_classes, "softmax"))
    else:
        scale = layers.Rescaling(label_scale, offset=label_mean)
        stack += [make.dense(1, None), scale]
    return sequential("tabular", input_shape, *stack)
