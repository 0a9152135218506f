"""Questions and answers of Stack Overflow, sentence by sentence.

clients   A person who wrote at least 100 sentences.
part      train: 342,477 clients, 135,818,730 examples
part      heldout: 38,758 clients, 16,491,230 examples
part      test: 204,088 clients, 16,586,035 examples
x         words: int32 (n, 20), word numbers; tags: float32 (n, 10000), shares
y         words: int32 (n, 20), the next words; tags: float32 (n, 500), 0 or 1
note      heldout has the people whose number is divisible by 10; of the
          others, train has what they wrote before 2018, and test the rest.
note      Neither the loss nor the accuracy should count padding, number 0: see
          fl.models and fl.metrics.MaskedAccuracy.
note      No checksum is published for the SQLite file.
note      The largest clients have tens of thousands of sentences: see
          fl.LocalTraining(max_steps=...).
licence   CC BY-SA 3.0, by the users of Stack Overflow
cite      The TensorFlow Federated Authors, 'TensorFlow Federated Stack
          Overflow dataset', 2019; Reddi et al., 'Adaptive federated
          optimization', ICLR 2021, arXiv:2003.00295.
"""

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedlearn import checks
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.data.fetching.archive import unpack_tar
from fedlearn.data.fetching.cache_folder import cache_folder
from fedlearn.data.formats.format_error import FormatError
from fedlearn.datasets import stand_in
from fedlearn.datasets.public_file import PublicFile, fingerprint, locate
from fedlearn.datasets.task import Task
from fedlearn.datasets.tff_files import BASE_URL, TffFiles

__all__ = [
    "FILES",
    "load_data",
    "load_tag_counts",
    "load_word_counts",
    "task",
    "word_numbers",
]
__dir__ = __all__.copy  # `dir` shows what is public

_SQLITE = PublicFile(BASE_URL + "stackoverflow.sqlite.lzma")
_WORD_COUNTS = PublicFile(
    BASE_URL + "stackoverflow.word_count.tar.bz2",
    "1dc00256d6e527c54b9756d968118378ae14e6692c0b3b6cad470cdd3f0c519c",
)
_TAG_COUNTS = PublicFile(
    BASE_URL + "stackoverflow.tag_count.tar.bz2",
    "6fe281cec490d9384a290d560072438e7e2b377bbb823876ce7bd6f82696772d",
)
_FILES = TffFiles(
    "stackoverflow",
    _SQLITE,
    "stackoverflow.tar.bz2",
    {part: (part,) for part in ("train", "heldout", "test")},
)

FILES = (_SQLITE, _WORD_COUNTS, _TAG_COUNTS)


def load_word_counts(
    vocab_size: int | None = None,
    *,
    source: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> dict[str, int]:
    """How many people of the train part use each word, most used first.

    The public file has 6,005,329 words.

    Args:
        vocab_size: How many words to give; all of them by default.
        source: The public file's tar, or the text in it,
            `stackoverflow.word_count`; see `fl.datasets`.
        cache_dir: See `fl.datasets`, also for errors.

    Raises:
        ValueError: If `vocab_size` is below 1.

    Example:

    >>> len(load_word_counts(10, source="synthetic"))
    10
    """
    if vocab_size is not None:
        checks.whole("vocab_size", vocab_size)
    if source == "synthetic":
        found = stand_in.counts("tokens", b" ").items()
        return dict(itertools.islice(found, vocab_size))
    path = _count_file(_WORD_COUNTS, source, cache_dir)
    counts: dict[str, int] = {}
    try:
        with open(path, encoding="utf-8") as file:
            lines = list(itertools.islice(file, vocab_size))
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8: {error}.") from error
    for number, line in enumerate(lines, 1):
        word, _, count = line.rstrip("\n").rpartition(" ")
        if not word or not count.isdecimal() or word in counts:
            raise FormatError(
                f"{path}, line {number}: {line[:60]!r}. Expected a word, a "
                "space and a count, and each word once."
            )
        counts[word] = int(count)
    return counts


def load_tag_counts(
    *,
    source: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> dict[str, int]:
    """How many people of the train part use each tag, most used first.

    The public file has 50,454 tags.

    Args:
        source: The public file's tar, or the JSON in it,
            `stackoverflow.tag_count`; see `fl.datasets`.
        cache_dir: See `fl.datasets`, also for errors.

    Example:

    >>> counts = load_tag_counts(source="synthetic")
    >>> sorted(counts.values(), reverse=True) == list(counts.values())
    True
    """
    if source == "synthetic":
        return stand_in.counts("tags", b"|")
    path = _count_file(_TAG_COUNTS, source, cache_dir)
    try:
        counts = json.loads(path.read_text(encoding="utf-8"))
        # Sorting keeps tags of equal count in the order of the file.
        return dict(sorted(counts.items(), key=lambda item: -item[1]))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is no JSON text: {error}.") from error
    except (AttributeError, TypeError) as error:
        raise FormatError(
            f"{path} is JSON of another kind. Expected an object from tag to "
            "count."
        ) from error


def _count_file(
    file: PublicFile,
    source: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
) -> Path:
    member = file.name.removesuffix(".tar.bz2")
    folder = cache_folder(cache_dir) / "stackoverflow"
    if source is None:
        path = file.fetch(folder)
    else:
        path = locate(source, [member, file.name], f"{member} (counts)")
        folder /= f"{member}-{fingerprint(path)[:16]}"
    with open(path, "rb") as opened:
        if opened.read(3) != b"BZh":
            return path
    return unpack_tar(path, [member], folder)[member]


def word_numbers(
    tokens: np.ndarray, index: Mapping[bytes, int], sequence_length: int = 20
) -> np.ndarray:
    """Sentences as rows of word numbers.

    A row begins with the number of a beginning; then come the sentence's
    first words, as many as `sequence_length`; then, if there are fewer, the
    number of an end; then zeros.

    Args:
        tokens: `(n,)` objects of `bytes`: words between single spaces.
        index: Numbers of the known words, from 1 on.
        sequence_length: Words of an input.

    Returns:
        `(n, sequence_length + 1)`, `int32`.

    Example:

    >>> word_numbers(np.array([b"it is so"], object), {b"is": 1, b"it": 2}, 4)
    array([[4, 2, 1, 3, 5]], dtype=int32)
    """
    length = sequence_length
    oov = len(index) + 1
    bos, eos = oov + 1, oov + 2
    rows = np.zeros((len(tokens), length + 1), np.int32)
    rows[:, 0] = bos
    for row, sentence in zip(rows, tokens.tolist(), strict=True):
        words = sentence.split(b" ", length)[:length]
        numbers = [index.get(word, oov) for word in words]
        if len(numbers) < length:
            numbers.append(eos)
        row[1 : len(numbers) + 1] = numbers
    return rows


def _bags(
    texts: list[bytes], separator: bytes | None, index: Mapping[bytes, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of known pieces, `(n, known)`, and of all pieces, `(n,)`."""
    counts = np.zeros((len(texts), len(index)), np.float32)
    totals = np.zeros(len(texts), np.float32)
    for row, text in enumerate(texts):
        pieces = text.split(separator)
        totals[row] = len(pieces)
        known = [index[piece] for piece in pieces if piece in index]
        np.add.at(counts[row], np.array(known, np.int64), 1)
    return counts, totals


def load_data(
    task: str = "words",
    *,
    vocab_size: int = 10_000,
    num_tags: int = 500,
    sequence_length: int = 20,
    source: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[FederatedDataset, FederatedDataset, FederatedDataset]:
    """What 342,477 people wrote on Stack Overflow, a client each.

    With `task="words"`, `x` and `y` have shape `(n, 20)` and dtype `int32`:
    a sentence's first word numbers, `y` shifted by one. 0 is padding, 1 to
    10,000 are words (the most used first), 10,001 is any other, 10,002 and
    10,003 the beginning and the end of a sentence.

    With `task="tags"`, `x` has shape `(n, 10000)` and dtype `float32`: the
    share that each word has among the words of a sentence and of its
    question's title, known or not. `y` has shape `(n, 500)` and dtype
    `float32`: 1 for each of the 500 most used tags that it has.

    Args:
        task: `"words"`, to predict the next word, or `"tags"`, to predict a
            post's tags.
        vocab_size: How many words are known.
        num_tags: How many tags are to be predicted; for `"tags"` only.
        sequence_length: Words of an example; for `"words"` only.
        source: `stackoverflow.sqlite.lzma` or `stackoverflow.tar.bz2`, with
            the counts (`stackoverflow.word_count.tar.bz2`,
            `stackoverflow.tag_count.tar.bz2`) beside it; see `fl.datasets`.
        cache_dir: See `fl.datasets`, also for errors.

    Returns:
        `(train, heldout, test)`. `heldout` has other clients than `train`
        and `test`, which have many in common.

    Raises:
        ValueError: If `task` is neither, or a size is below 1.

    Example:

    >>> train, heldout, test = load_data(source="synthetic")
    >>> train[train.client_ids[0]][0].shape[1:]
    (20,)
    """
    checks.one_of("task", task, ("words", "tags"))
    checks.whole("vocab_size", vocab_size)
    checks.whole("num_tags", num_tags)
    checks.whole("sequence_length", sequence_length)
    # First, so that a damaged file is found before the counts are missed.
    parts = _FILES.open(source, cache_dir)
    beside = source
    if source is not None and source != "synthetic":
        beside = locate(source, _FILES.names, "stackoverflow").parent
    words = load_word_counts(vocab_size, source=beside, cache_dir=cache_dir)
    if task == "words":
        from_one = {word.encode(): k for k, word in enumerate(words, 1)}

        def examples(stored: Any) -> Any:
            rows = word_numbers(stored["tokens"], from_one, sequence_length)
            return rows[:, :-1], rows[:, 1:]
    else:
        tags = load_tag_counts(source=beside, cache_dir=cache_dir)
        most = itertools.islice(tags, num_tags)
        numbers = {tag.encode(): k for k, tag in enumerate(most)}
        index = {word.encode(): k for k, word in enumerate(words)}

        def examples(stored: Any) -> Any:
            texts = (stored["tokens"] + b" " + stored["title"]).tolist()
            counts, totals = _bags(texts, None, index)
            x = counts / np.maximum(totals, 1)[:, None]
            y, _ = _bags(stored["tags"].tolist(), b"|", numbers)
            return x, np.minimum(y, 1)

    train, heldout, test = (part.map(examples, True) for part in parts)
    return train, heldout, test


def task(**arguments: Any) -> Task:
    """The next word, or a post's tags; arguments as of `load_data`.

    For words, batch size and learning rate are published: FedAvg's of Reddi et
    al. 2021. For tags, their 100 is for a loss that is a sum over a batch's
    examples; for a mean over ten it is 1,000. Their batches are of 100.
    """
    train, _, test = load_data(**arguments)
    x, y = train.element_spec
    if arguments.get("task") == "tags":
        sizes = {"input_shape": x.shape, "num_tags": y.shape[0]}
        name = "stackoverflow_tags"
        return Task(train, test, name, sizes, learning_rate=1000.0)
    # A source may have fewer words than are asked for. A sentence begins with
    # the number of a beginning, after which only that of an end comes.
    first = next(client for client in train if train.num_examples(client))
    beginning = int(train[first][0][0, 0])
    return Task(
        train,
        test,
        "stackoverflow_lstm",
        {"vocab_size": beginning + 2},
        ignored=(0, beginning - 1, beginning, beginning + 1),
        batch_size=16,
        learning_rate=10**-0.5,
    )
