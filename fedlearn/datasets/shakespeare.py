"""The plays of Shakespeare, for predicting the next character.

clients   A role of a play; its examples are pieces of what it says.
part      train: 715 clients, 16,068 examples
part      test: 715 clients, 2,356 examples
x         int32 (n, 80): numbers of characters, 0 for padding
y         int32 (n, 80): x shifted by one character
note      The counts are of snippets; one snippet makes as many examples as
          it has pieces of 81 characters.
note      Merged roles: the play in a client's id is often wrong, since only
          some titles were recognised and later plays are filed under the
          last one. Roles of one name from several plays are then one
          client; that is why there are 715 and not over 1,100.
note      Some snippets are empty.
note      y has zeros where it is padded, which neither the loss nor the
          accuracy should count: see fl.models.shakespeare_lstm and
          fl.metrics.MaskedAccuracy.
licence   The text is in the public domain.
cite      McMahan, Moore, Ramage, Hampson and Aguera y Arcas,
          'Communication-efficient learning of deep networks from
          decentralized data', AISTATS 2017, arXiv:1602.05629; Caldas et
          al., 'LEAF: a benchmark for federated settings', 2018,
          arXiv:1812.01097.
disk      8 MB, unpacked
"""

import os
from typing import Any

import numpy as np

from fedlearn import checks
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.datasets.public_file import PublicFile
from fedlearn.datasets.task import Task
from fedlearn.datasets.tff_files import BASE_URL, TffFiles

__all__ = [
    "BOS",
    "EOS",
    "FILES",
    "OOV",
    "PAD",
    "VOCABULARY",
    "VOCABULARY_SIZE",
    "load_data",
    "task",
    "text",
    "tokens",
]
__dir__ = __all__.copy  # `dir` shows what is public

# In this order the published models and results number them (from 1).
VOCABULARY = (
    "dhlptx@DHLPTX $(,048cgkoswCGKOSW[_#'/37;?bfjnrvzBFJNRVZ\"&*.26:\n"
    "aeimquyAEIMQUY]!%)-159\r"
)
PAD = 0
OOV = len(VOCABULARY) + 1
BOS = len(VOCABULARY) + 2
EOS = len(VOCABULARY) + 3
VOCABULARY_SIZE = len(VOCABULARY) + 4

_SQLITE = PublicFile(
    BASE_URL + "shakespeare.sqlite.lzma",
    "d3d11fceb9e105439ac6f4d52af6efafed5a2a1e1eb24c5bd2dd54ced242f5c4",
    1_329_828,
)
_FILES = TffFiles("shakespeare", _SQLITE, "shakespeare.tar.bz2")

FILES = (_SQLITE,)


def tokens(snippets: np.ndarray, sequence_length: int = 80) -> np.ndarray:
    """Snippets as character numbers, in pieces of one length.

    A snippet is put between the numbers of a beginning and an end, padded to
    a multiple of `sequence_length + 1`, and cut; each piece is a row.

    Args:
        snippets: `(n,)` objects of `bytes`.
        sequence_length: Characters of an input.

    Returns:
        `(pieces, sequence_length + 1)`, `int32`.

    Example:

    >>> tokens(np.array([b"the"], object), 5)
    array([[88,  5,  2, 65, 89,  0]], dtype=int32)
    """
    width = sequence_length + 1
    table = np.full(256, OOV, np.int32)
    table[[ord(c) for c in VOCABULARY]] = np.arange(1, len(VOCABULARY) + 1)
    texts = snippets.tolist()
    pieces = [-(-(len(text) + 2) // width) for text in texts]
    rows = np.full((sum(pieces), width), PAD, np.int32)
    flat, start = rows.reshape(-1), 0
    for text, count in zip(texts, pieces, strict=True):
        end = start + len(text) + 1
        flat[start], flat[end] = BOS, EOS
        flat[start + 1 : end] = table[np.frombuffer(text, np.uint8)]
        start += count * width
    return rows


def text(numbers: Any) -> str:
    """The characters that numbers stand for.

    Args:
        numbers: Integers from 0 to 89. Padding, beginnings and ends are left
            out; unknown characters become `\\ufffd`.

    Example:

    >>> text([88, 5, 2, 65, 89, 0])
    'the'
    """
    shown = {k + 1: c for k, c in enumerate(VOCABULARY)} | {OOV: "\ufffd"}
    return "".join(shown.get(int(n), "") for n in np.ravel(numbers))


def load_data(
    sequence_length: int = 80,
    *,
    source: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[FederatedDataset, FederatedDataset]:
    """What Shakespeare's roles say, a client each, as character numbers.

    `x` and `y` have shape `(n, 80)` and dtype `int32`; `y` is `x` shifted by
    one character. 0 is padding (`PAD`), 1 to 86 are the characters of
    `VOCABULARY`, 87 is any other (`OOV`), 88 and 89 are the beginning and the
    end of a snippet (`BOS`, `EOS`): 90 in all (`VOCABULARY_SIZE`).

    Args:
        sequence_length: Characters of an example.
        source: `shakespeare.sqlite.lzma` or `shakespeare.tar.bz2`; see
            `fl.datasets`.
        cache_dir: See `fl.datasets`, also for errors.

    Returns:
        `(train, test)`, of the same clients.

    Raises:
        ValueError: If `sequence_length` is below 1.

    Example:

    >>> train, test = load_data(source="synthetic")
    >>> x, y = train[train.client_ids[0]]
    >>> bool((x[:, 1:] == y[:, :-1]).all())
    True
    """
    checks.whole("sequence_length", sequence_length)

    def examples(stored: Any) -> Any:
        rows = tokens(stored["snippets"], sequence_length)
        return rows[:, :-1], rows[:, 1:]

    return _FILES.load(source, cache_dir, examples, same_length=False)


def task(**arguments: Any) -> Task:
    """The next character; arguments as of `load_data`.

    Batch size and learning rate are published: FedAvg's of Reddi et al. 2021.
    """
    train, test = load_data(**arguments)
    sizes = {"vocab_size": VOCABULARY_SIZE}
    return Task(train, test, "shakespeare_lstm", sizes, (PAD,), 4, 1.0)
