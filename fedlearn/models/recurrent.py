"""LSTMs, from sequences to probabilities of what comes next."""

import keras
from keras.initializers import HeNormal

from fedlearn.models.seeded_layers import SeededLayers, sequential


def shakespeare_lstm(
    vocab_size: int = 90,
    embedding_size: int = 8,
    units: int = 256,
    return_sequences: bool = True,
    seed: int | None = None,
) -> keras.Model:
    """The next-character LSTM of McMahan et al. 2017.

    An embedding in eight dimensions, two LSTM layers of 256 units and a
    softmax. With the table of 90 characters of Reddi et al. 2021 there are
    820,522 parameters. LEAF's variant, which reads 80 characters and predicts
    one (`vocab_size=80, return_sequences=False`), has 817,872. McMahan et al.
    report 866,578, which these layers have with no whole number of characters.

    Args:
        vocab_size: Number of characters, special ones included.
        embedding_size, units: Of the embedding, and of each LSTM layer.
        return_sequences: Whether to predict the next character at each
            position, or only after the last one.
        seed: See `fl.models`.

    Returns:
        A model from integers of shape `(batch, length)`, of any length, to
        probabilities of shape `(batch, length, vocab_size)`; or
        `(batch, vocab_size)` without `return_sequences`.

    Example:

    >>> shakespeare_lstm().count_params()
    820522

    Sources: McMahan et al. 2017, arXiv:1602.05629, section 3. Reddi et al.
    2021, arXiv:2003.00295, appendix on models. Caldas et al. 2018,
    arXiv:1812.01097.
    """
    make = SeededLayers(seed)
    return sequential(
        "shakespeare_lstm",
        keras.Input((None,), dtype="int32"),
        make.embedding(vocab_size, embedding_size),
        make.lstm(units, HeNormal),
        make.lstm(units, HeNormal, return_sequences),
        make.dense(vocab_size, "softmax"),
    )


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
        embedding_size, units: Of the embedding, and of the LSTM layer.
        seed: See `fl.models`.

    Returns:
        A model from integers of shape `(batch, length)`, of any length, to
        probabilities of shape `(batch, length, vocab_size)`.

    Example:

    >>> stackoverflow_lstm().count_params()
    4050748

    Source: Reddi et al. 2021, arXiv:2003.00295, appendix on models.
    """
    make = SeededLayers(seed)
    return sequential(
        "stackoverflow_lstm",
        keras.Input((None,), dtype="int32"),
        make.embedding(vocab_size, embedding_size),
        make.lstm(units),
        make.dense(embedding_size, None),
        make.dense(vocab_size, "softmax"),
    )
