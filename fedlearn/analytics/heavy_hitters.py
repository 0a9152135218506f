import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from fedlearn import checks
from fedlearn.analytics import iblt, trie
from fedlearn.analytics.column import Which
from fedlearn.analytics.histogram import counter
from fedlearn.analytics.iblt import IBLT
from fedlearn.analytics.query import Query
from fedlearn.analytics.query_privacy import QueryPrivacy
from fedlearn.analytics.result import Result
from fedlearn.analytics.trie import TrieHH
from fedlearn.analytics.words import Split, listed, splitting
from fedlearn.privacy.ledger import Ledger


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeavyHitters(Result):
    """Words that many clients have, the most frequent first.

    Attributes:
        words: They.
        counts: How many clients have each, float64; None of `TrieHH`, which
            doesn't tell.
    """

    words: tuple[str, ...]
    counts: np.ndarray | None


def heavy_hitters(
    data: Any,
    column: Which = None,
    k: int = 100,
    method: str | IBLT | TrieHH = "iblt",
    known: Iterable[str] | keras.layers.Layer | None = None,
    split: Split = True,
    privacy: QueryPrivacy | None = None,
    budget: Ledger | None = None,
) -> HeavyHitters:
    """The k words that most clients have.

    A client counts once for a word, however often it has it; with
    `max_per_client` it names so many words at most, its most frequent ones.
    Three methods, of which two find words that nobody knows beforehand:

    * `"dictionary"` counts the words in `known`.
    * `"iblt"` or an `IBLT`: sums of sketches, of which the server can list the
      words. Only with noise, and a threshold on it, is that private.
    * `"triehh"` or a `TrieHH`: clients vote on prefixes, letter by letter. It
      is private by sampling and a threshold, and needs many thousand clients.

    Args:
        data, column, privacy, budget: As of `mean`, but of texts.
        k: How many words.
        method: See above.
        known: The dictionary: words, or a layer that has them.
        split: True makes words of a text as `keras.layers.TextVectorization`
            does by default; False leaves it whole; a function makes a list of
            words of a text.

    Returns:
        `HeavyHitters`; of `TrieHH` all words that pass, by the alphabet.

    Raises:
        ValueError: If the column holds no texts, or what a method needs is
            missing.

    Example:

    >>> data = {"anna": {"said": ["a rose is", "a rose"]},
    ...         "ben": {"said": ["a nose"]}}
    >>> found = heavy_hitters(data, k=1)
    >>> found.words, found.counts
    (('a',), array([2.]))
    """
    query = Query("heavy_hitters", data, column, "texts", privacy, budget)
    if (method == "dictionary") != (known is not None):
        raise ValueError(
            "method='dictionary' counts the words in `known`: give both, or "
            f"neither. Received: method={method!r}, known={known!r}."
        )
    return found_by(query, k, method, known, splitting(split))


def found_by(
    query: Query,
    k: int,
    method: str | IBLT | TrieHH,
    known: Iterable[str] | keras.layers.Layer | None,
    names: Callable[[np.ndarray], list[str]],
) -> HeavyHitters:
    """The answer to a query, of the words that clients' texts are made of."""
    k = checks.whole("k", k)
    if not isinstance(method, (IBLT, TrieHH)):
        checks.one_of("method", method, ("triehh", "iblt", "dictionary"))
    each = map(names, query.all_values())
    counts: np.ndarray | None
    if known is not None:
        found, counts, error = _in_dictionary(query, each, listed(known))
    elif method == "triehh" or isinstance(method, TrieHH):
        method = method if isinstance(method, TrieHH) else TrieHH()
        found, counts, error = trie.find(query, method, each), None, 0.0
    else:
        method = method if isinstance(method, IBLT) else IBLT()
        most = query.privacy.max_per_client
        clients = (most_frequent(w, most) for w in each)
        found, counts, error = iblt.find(query, method, clients)
    if counts is not None:
        order = np.lexsort((np.array(found), -counts))[:k]
        found, counts = [found[i] for i in order], counts[order]
    return query.result(
        HeavyHitters, words=tuple(found), counts=counts, error=error
    )


def most_frequent(found: Sequence[str], most: int | None) -> list[str]:
    """Different words, the most frequent first: so many, if they are more."""
    return [word for word, _ in Counter(found).most_common(most)]


def _in_dictionary(
    query: Query, each: Iterator[list[str]], known: list[str]
) -> tuple[list[str], np.ndarray, float]:
    if not known:
        raise ValueError("`known` has no words to count. Expected some.")
    counted, inside = counter(known), set(known)
    most = min(query.privacy.max_per_client or len(known), len(known))
    add = query.summing(len(known), norm=math.sqrt(most), whole=True)
    sums = add(
        counted(most_frequent([w for w in found if w in inside], most))
        for found in each
    )
    return known, sums.value, sums.error
