"""Handwritten digits (10 classes), or digits and letters (62).

clients   The person who wrote the characters.
part      train: 3,383 clients, 341,873 examples
part      test: 3,383 clients, 40,832 examples
part      train, only_digits=False: 3,400 clients, 671,585 examples
part      test, only_digits=False: 3,400 clients, 77,483 examples
x         float32 (n, 28, 28, 1) in [0, 1]; 1 is paper, 0 is ink
y         int64 (n,); 0 to 9 digits, 10 to 35 capital letters, 36 to 61
          small
note      Polarity: paper is 1 and ink is 0, the inverse of MNIST.
          invert=True turns it round.
note      Each writer's examples are divided between train and test, so both
          have the same clients; they are examples never seen, not writers.
note      The public file takes 4.7 GB for the minutes of its conversion.
licence   NIST Special Database 19 is a work of the United States
          government, free to use; EMNIST asks to be cited.
cite      Cohen, Afshar, Tapson and van Schaik, 'EMNIST: extending MNIST to
          handwritten letters', IJCNN 2017, arXiv:1702.05373; Caldas et al.,
          'LEAF: a benchmark for federated settings', 2018,
          arXiv:1812.01097.
disk      780 MB, unpacked
"""

import os
from typing import Any

import numpy as np

from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.datasets.public_file import PublicFile
from fedlearn.datasets.task import Task, num_classes
from fedlearn.datasets.tff_files import BASE_URL, TffFiles

__all__ = ["FILES", "load_data", "task"]
__dir__ = __all__.copy  # `dir` shows what is public

_SQLITE = PublicFile(
    BASE_URL + "emnist_all.sqlite.lzma",
    "c3aaf91b4cf4e69d53d81627ad119eccdc878ff906f68e66063ff10f67faad48",
    170_507_172,
)


def _files(split: str, archive: str, stand_in: str) -> TffFiles:
    splits = {part: (f"{split}_{part}", part) for part in ("train", "test")}
    return TffFiles("emnist", _SQLITE, archive, splits, stand_in)


_DIGITS = _files("digits_only", "fed_emnist_digitsonly.tar.bz2", "emnist")
_ALL = _files("all", "fed_emnist.tar.bz2", "emnist_letters")

FILES = (_SQLITE,)


def load_data(
    only_digits: bool = True,
    *,
    invert: bool = False,
    source: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[FederatedDataset, FederatedDataset]:
    """Handwritten characters of some 3,400 people, a client each.

    `x` has shape `(n, 28, 28, 1)` and dtype `float32`, in [0, 1]; `y` has
    shape `(n,)` and dtype `int64`.

    The first call fetches 171 MB and converts them, which takes minutes and,
    while it lasts, 5 GB of disk; later ones open the converted file in
    milliseconds. Clients are read when they are needed.

    Args:
        only_digits: The ten digits (3,383 writers), or all 62 classes (3,400).
        invert: Give 1 for ink and 0 for paper, as MNIST does.
        source: Such as `emnist_all.sqlite.lzma` or
            `fed_emnist_digitsonly.tar.bz2`; a file whose splits are `train`
            and `test` will do, such as MNIST divided among clients. See
            `fl.datasets`.
        cache_dir: See `fl.datasets`, also for errors.

    Returns:
        `(train, test)`, of the same clients.

    Example:

    >>> train, test = load_data(source="synthetic")
    >>> train[train.client_ids[0]][0].shape[1:]
    (28, 28, 1)
    """

    def examples(stored: Any) -> Any:
        x = stored["pixels"].reshape(-1, 28, 28, 1)
        return 1 - x if invert else x, stored["label"].astype(np.int64)

    files = _DIGITS if only_digits else _ALL
    return files.load(source, cache_dir, examples)


def task(**arguments: Any) -> Task:
    """Which character an image shows; arguments as of `load_data`.

    Batch size and learning rate are published: FedAvg's of Reddi et al. 2021.
    """
    train, test = load_data(**arguments)
    if arguments.get("source") in (None, "synthetic"):
        classes = 10 if arguments.get("only_digits", True) else 62
    else:  # a file of one's own may have others
        classes = num_classes(train)
    sizes = {"input_shape": (28, 28, 1), "num_classes": classes}
    return Task(train, test, "emnist_cnn", sizes, batch_size=20)
