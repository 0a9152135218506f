from collections.abc import Iterable
from typing import Any

import keras

from fedlearn.analytics.column import Which
from fedlearn.analytics.heavy_hitters import HeavyHitters, found_by
from fedlearn.analytics.query import Query
from fedlearn.analytics.query_privacy import QueryPrivacy
from fedlearn.analytics.words import Split, listed, splitting
from fedlearn.privacy.ledger import Ledger


def vocabulary(
    data: Any,
    column: Which = None,
    size: int = 1000,
    split: Split = True,
    privacy: QueryPrivacy | None = None,
    budget: Ledger | None = None,
) -> keras.layers.StringLookup:
    """The layer that numbers the words that most clients have.

    Args:
        data, column, budget: As of `mean`, but of texts.
        size: How many words at most.
        split: How texts become words; see `heavy_hitters`.
        privacy: A `QueryPrivacy`; None for no guarantee. With noise, words
            that few clients have are left out: see `IBLT`.

    Returns:
        A `keras.layers.StringLookup` with the words as its vocabulary, the
        most frequent first. Its attribute `analytics` is `HeavyHitters`.

    Raises:
        ValueError: If no word is found, or as for `heavy_hitters`.

    Example:

    >>> data = {"anna": {"said": ["a rose is", "a rose"]},
    ...         "ben": {"said": ["a nose"]}}
    >>> layer = vocabulary(data, size=2)
    >>> layer.vocabulary_size(), layer.analytics.words
    (3, ('a', 'is'))
    """
    query = Query("vocabulary", data, column, "texts", privacy, budget)
    found = found_by(query, size, "iblt", None, splitting(split))
    if not found.words:
        raise ValueError(
            "vocabulary: no word was found that enough clients have. With "
            "noise take a larger epsilon or `max_per_client`, or more clients."
        )
    layer = keras.layers.StringLookup(vocabulary=list(found.words))
    layer.analytics = found
    return layer


def out_of_vocabulary(
    data: Any,
    column: Which = None,
    known: Iterable[str] | keras.layers.Layer = (),
    k: int = 100,
    split: Split = True,
    privacy: QueryPrivacy | None = None,
    budget: Ledger | None = None,
) -> HeavyHitters:
    """The words that a vocabulary lacks and most clients have.

    Args:
        data, column, budget: As of `mean`, but of texts.
        known: The vocabulary: words, or a layer that has them, such as a
            `keras.layers.StringLookup`.
        k: How many words.
        split: How texts become words; see `heavy_hitters`.
        privacy: A `QueryPrivacy`; see `vocabulary`.

    Example:

    >>> data = {"anna": {"said": ["a rose is", "a rose"]},
    ...         "ben": {"said": ["a nose"]}}
    >>> out_of_vocabulary(data, known=["a", "is"]).words
    ('nose', 'rose')
    """
    query = Query("out_of_vocabulary", data, column, "texts", privacy, budget)
    inside, words = set(listed(known)), splitting(split)
    return found_by(
        query,
        k,
        "iblt",
        None,
        lambda v: [w for w in words(v) if w not in inside],
    )
