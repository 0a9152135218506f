import keras
from keras import layers
from keras.initializers import GlorotUniform, Orthogonal, RandomUniform

from fedlearn.models.layer_seed import layer_seed


def stackoverflow_lstm(
    vocab_size: int = 10_004,
    embedding_size: int = 96,
    units: int = 670,
    seed: int | None = None,
) -> keras.Model:
    """The next-word LSTM of Reddi et al. 2021.

    An embedding in 96 dimensions, an LSTM layer of 670 units, a dense layer
    back to 96 dimensions and a softmax: 4,050,748 parameters for 10,000 words
    and four special ones.

    Number 0 is padding, which the layers skip. Leave it out of the loss by
    its label as well, with `ignore_class` as below: with plain
    `"sparse_categorical_crossentropy"`, Keras leaves out only what follows
    padding, and so counts the padding that follows the last word. The
    accuracy of Reddi et al. is over words alone: it ignores padding (0), words
    outside the vocabulary (10001) and the beginning and end of a sentence
    (10002 and 10003).

    Args:
        vocab_size: Number of words, padding and other special ones included.
        embedding_size: Dimensions of the embedding.
        units: Units of the LSTM layer.
        seed: Integer that fixes the initial weights, or `None`.

    Returns:
        An uncompiled model from integers of shape `(batch, length)`, of any
        length, to probabilities of shape `(batch, length, vocab_size)`.

    Example:

    >>> from fedlearn import metrics
    >>> model = stackoverflow_lstm()
    >>> model.compile(
    ...     optimizer=keras.optimizers.SGD(0.3),
    ...     loss=keras.losses.SparseCategoricalCrossentropy(ignore_class=0),
    ...     metrics=[metrics.MaskedAccuracy(ignore=(0, 10001, 10002, 10003))],
    ... )
    >>> model.count_params()
    4050748

    Source: Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar and McMahan,
    "Adaptive federated optimization", ICLR 2021, appendix on models.
    """

    def kernel(layer):
        return GlorotUniform(seed=layer_seed(seed, layer))

    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(
                vocab_size,
                embedding_size,
                mask_zero=True,
                embeddings_initializer=RandomUniform(seed=layer_seed(seed, 0)),
            ),
            layers.LSTM(
                units,
                return_sequences=True,
                kernel_initializer=kernel(1),
                recurrent_initializer=Orthogonal(
                    seed=layer_seed(seed, "recurrent_1")
                ),
                seed=layer_seed(seed, "dropout_1"),
            ),
            layers.Dense(embedding_size, kernel_initializer=kernel(2)),
            layers.Dense(
                vocab_size,
                activation="softmax",
                kernel_initializer=kernel(3),
            ),
        ],
        name="stackoverflow_lstm",
    )
