import re
import string
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Split = bool | Callable[[str], Iterable[str]]
"""How a text becomes words: by itself, not at all, or by a function."""

_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]")


def as_text(value: Any) -> str:
    """A text that may be bytes of UTF-8."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def listed(known: Any) -> list[str]:
    """The words of a vocabulary, or of a layer that has one, each once."""
    known = getattr(known, "get_vocabulary", lambda: known)()
    if isinstance(known, (str, bytes)) or not isinstance(known, Iterable):
        raise ValueError(
            "`known` must be a list of words, or a layer that has them. "
            f"Received: {known!r}."
        )
    return list(dict.fromkeys(map(as_text, known)))


def splitting(split: Split) -> Callable[[np.ndarray], list[str]]:
    """A function from values to their words; an error if it isn't one."""
    if not isinstance(split, bool) and not callable(split):
        raise ValueError(
            "`split` must be True, False, or a function from a text to a list "
            f"of words. Received: {split!r}."
        )
    return lambda values: words(values, split)


def words(values: np.ndarray, split: Split = True) -> list[str]:
    """The words of texts, one after another.

    By default in lower case, without punctuation, split at white space: as of
    `keras.layers.TextVectorization`.

    >>> words(np.array(["The cat.", b"The dog!"], object))
    ['the', 'cat', 'the', 'dog']
    """
    texts = [as_text(v) for v in np.ravel(values)]
    if split is False:
        return texts
    if split is True:
        return [
            word
            for text in texts
            for word in _PUNCTUATION.sub("", text.lower()).split()
        ]
    return [word for text in texts for word in split(text)]
