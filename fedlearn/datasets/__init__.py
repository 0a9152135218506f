"""Federated data sets, one module each with a `load_data`.

`list()` names them, `describe(name)` tells what is in one, and `fetch(name)`
gets it onto this machine, for use without a network. Each module has a
`CARD` with the same facts.
"""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedlearn.datasets import (
    celeba,
    cifar100,
    digits,
    emnist,
    heart_disease,
    shakespeare,
    stackoverflow,
    synthetic,
)
from fedlearn.datasets.task import Task

if TYPE_CHECKING:
    from fedlearn.datasets.card import Card

_NAMES = (
    "celeba",
    "cifar100",
    "digits",
    "emnist",
    "heart_disease",
    "shakespeare",
    "stackoverflow",
    "synthetic",
)

__all__ = [
    "Task",
    "celeba",
    "cifar100",
    "describe",
    "digits",
    "emnist",
    "fetch",
    "heart_disease",
    "list",
    "shakespeare",
    "stackoverflow",
    "synthetic",
]
__dir__ = __all__.copy  # `dir` shows what is public


def list() -> tuple[str, ...]:
    """The names of the data sets.

    Example:

    >>> "emnist" in list()
    True
    """
    return _NAMES


def _module(name: str) -> Any:
    if name not in _NAMES:
        raise ValueError(
            f"There is no data set {name!r}. Expected one of "
            f"{', '.join(_NAMES)}."
        )
    return importlib.import_module(f"{__name__}.{name}")


def describe(name: str, print_fn: Callable[[str], Any] = print) -> None:
    """Prints what is in a data set, whose it is, and what surprises people.

    Args:
        name: One of `list()`.
        print_fn: Called with each line of text.

    Raises:
        ValueError: If there is no such data set.

    Example:

    >>> lines = []
    >>> describe("cifar100", lines.append)
    >>> lines[0]
    'cifar100: small photographs of 100 kinds of things'
    """
    card: Card = _module(name).CARD
    for line in card.lines():
        print_fn(line)


def fetch(
    name: str, cache_dir: str | os.PathLike[str] | None = None
) -> Path | None:
    """Gets a data set's files and converts them, for use without a network.

    What is there already is kept. With the default arguments of its
    `load_data`, the data set then opens in milliseconds.

    Args:
        name: One of `list()`.
        cache_dir: Where to; by default the environment variable
            `FEDLEARN_CACHE`, or `~/.keras/fedlearn`.

    Returns:
        The folder with the files; None for a data set that has none to
        fetch.

    Raises:
        ValueError: If there is no such data set.
        DownloadError: If a file cannot be fetched; says where to put it.
        FormatError: If a file is damaged.

    Example:

    >>> fetch("digits") is None
    True
    """
    from fedlearn.data.fetching.cache_folder import cache_folder

    module = _module(name)
    if not module.CARD.files:
        return None
    folder = cache_folder(cache_dir) / name
    for file in module.CARD.files:
        file.fetch(folder)
    module.load_data(cache_dir=cache_dir)
    return folder
