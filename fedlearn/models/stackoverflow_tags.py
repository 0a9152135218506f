import keras
from keras import layers

from fedlearn.models.seeded_layers import SeededLayers


def stackoverflow_tags(
    input_shape: tuple[int, ...] = (10_000,),
    num_tags: int = 500,
    seed: int | None = None,
) -> keras.Model:
    """The tag prediction of Reddi et al. 2021: one yes or no for each tag.

    A logistic regression for each tag, from a bag of words: 5,000,500
    parameters for 10,000 words and 500 tags. An example has any number of
    tags, so labels are multi-hot, for a binary cross-entropy. As below, that
    is a mean over tags and a sum over a batch's examples, which TensorFlow
    Federated's version of the task takes too: learning rates found for it
    are for the sum.

    Args:
        input_shape, seed: See `fl.models`.
        num_tags: Number of tags.

    Returns:
        A model to a probability for each tag, of shape `(batch, num_tags)`.

    Example:

    >>> model = stackoverflow_tags()
    >>> model.compile(
    ...     optimizer="sgd",
    ...     loss=keras.losses.BinaryCrossentropy(reduction="sum"),
    ...     metrics=[keras.metrics.Precision(), keras.metrics.Recall(top_k=5)],
    ... )
    >>> model.count_params()
    5000500

    Source: Reddi et al. 2021, arXiv:2003.00295, appendix on models.
    """
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            SeededLayers(seed).dense(num_tags, "sigmoid"),
        ],
        name="stackoverflow_tags",
    )
