import keras

from fedlearn.models.seeded_layers import SeededLayers


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

    The accuracy of Reddi et al. is over words alone: it ignores padding (0,
    see `fl.models`), words outside the vocabulary (10001) and the beginning
    and end of a sentence (10002 and 10003).

    Args:
        vocab_size: Number of words, special ones included.
        embedding_size: Dimensions of the embedding.
        units: Units of the LSTM layer.
        seed: See `fl.models`.

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

    Source: Reddi et al. 2021, arXiv:2003.00295, appendix on models.
    """
    make = SeededLayers(seed)
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            make.embedding(vocab_size, embedding_size),
            make.lstm(units),
            make.dense(embedding_size, None),
            make.dense(vocab_size, "softmax"),
        ],
        name="stackoverflow_lstm",
    )
