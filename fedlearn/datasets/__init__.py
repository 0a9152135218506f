"""Federated data sets, one module each with a `load_data` and a `task`.

`list()` names them, `describe(name)` prints a module's docstring, which tells
what is in the data, whose they are, and what surprises people, and
`fetch(name)` gets them onto this machine, for use without a network. `task`
takes the arguments of `load_data`, and says besides which model, loss and
metrics suit the data (`Task`).

The files' own features, such as all attributes of `celeba`, are read by
`FederatedDataset.from_tff_sqlite`. The `load_data` of the published sets have
in common:

Args:
    source: A file to read instead of the public one, or the folder that holds
        it under its public name; a path or a `file://` address.
        `"synthetic"` draws a stand-in, offline: features, shapes, dtypes and
        sizes of clients are those of the real data, with fewer clients; what
        is in them are patterns that a model can learn.
    cache_dir: Where fetched and converted files are kept; by default the
        environment variable `FEDLEARN_CACHE`, or `~/.keras/fedlearn`.

Raises:
    DownloadError: If the file cannot be fetched; says where to put it.
    FileNotFoundError: If `source` is not there.
    FormatError: If a file is damaged or of another kind.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedlearn import checks
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

_SETS: dict[str, Any] = {
    name: globals()[name]
    for name in __all__
    if hasattr(globals().get(name), "load_data")
}


def list() -> tuple[str, ...]:
    """The names of the data sets.

    Example:

    >>> "emnist" in list()
    True
    """
    return tuple(_SETS)


def _module(name: str) -> Any:
    return _SETS[checks.one_of("name", name, _SETS)]


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
    'cifar100: Small photographs of 100 kinds of things.'
    """
    module = _module(name)
    title, _, facts = (module.__doc__ or "").strip().partition("\n\n")
    print_fn(f"{name}: {title}")
    for line in facts.splitlines():
        print_fn(f"  {line}")
    for file in module.FILES:
        size = "" if file.size is None else f", {file.size:,} bytes"
        print_fn(f"  file      {file.url}{size}")
        if file.sha256:
            print_fn(f"            SHA-256 {file.sha256}")


def fetch(
    name: str, cache_dir: str | os.PathLike[str] | None = None
) -> Path | None:
    """Gets a data set's files and converts them, for use without a network.

    What is there already is kept. With the default arguments of its
    `load_data`, the data set then opens in milliseconds.

    Args:
        name: One of `list()`.
        cache_dir: As of `load_data`.

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
    if not module.FILES:
        return None
    folder = cache_folder(cache_dir) / name
    for file in module.FILES:
        file.fetch(folder)
    module.load_data(cache_dir=cache_dir)
    return folder
