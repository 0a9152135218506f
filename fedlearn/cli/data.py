"""The data set that flags name."""

import importlib
import inspect
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from absl import flags as absl_flags

from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.cli import own_data
from fedlearn.cli.command import Values
from fedlearn.cli.errors import UsageError
from fedlearn.cli.flag_types import Choice, Place, Positive, Whole, define
from fedlearn.data.federated_dataset import FederatedDataset

# Where the data are: after a run they may have been moved.
PLACES = ("source", "cache_dir", "data")
# Flags that only some data sets take, by the names of their arguments; None
# leaves the choice to the data set.
ARGUMENTS = (
    "source",
    "cache_dir",
    "only_digits",
    "task",
    "target",
    "num_clients",
    "alpha",
)


def define_places(values: absl_flags.FlagValues) -> None:
    """Defines the flags that `PLACES` names."""
    own_data.define_place(values)
    _define_sources(values)


def _define_sources(values: absl_flags.FlagValues) -> None:
    define(
        values,
        "source",
        None,
        "read these data instead of the public ones: a file or folder, a "
        "file:// address, or synthetic, a stand-in that is drawn offline",
        Place(words=("synthetic",)),
    )
    define(
        values,
        "cache_dir",
        None,
        "where fetched data are kept (default: the environment variable "
        "FEDLEARN_CACHE, or ~/.keras/fedlearn)",
        Place(),
    )


def define_arguments(values: absl_flags.FlagValues) -> None:
    """Defines the flags that `ARGUMENTS` names."""
    _define_sources(values)
    absl_flags.DEFINE_bool(
        "only_digits",
        None,
        "emnist: only the digits, or letters too (default: only digits)",
        flag_values=values,
    )
    define(
        values,
        "task",
        None,
        "stackoverflow: predict the next of the words, or the tags of a post "
        "(default: words)",
        Choice(("words", "tags")),
    )
    define(
        values,
        "target",
        None,
        "celeba: the attribute to predict, such as eyeglasses (default: "
        "smiling)",
    )
    define(
        values,
        "num_clients",
        None,
        "digits, synthetic: among how many clients they are divided "
        "(default: 50, 30)",
        Whole(1),
    )
    define(
        values,
        "alpha",
        None,
        "digits: how alike clients are; small values give each client few "
        "digits. synthetic: how much they differ (default: 1.0)",
        Positive(),
    )


def find(name: str) -> ModuleType:
    """The module `fl.datasets.<name>`.

    Raises:
        UsageError: If there is none.
    """
    from fedlearn import datasets

    names = datasets.list()
    if name not in names:
        raise UsageError(
            f"there is no data set {name!r}. Expected one of: "
            f"{', '.join(names)}.{did_you_mean(name, names)}"
        )
    return importlib.import_module(f"fedlearn.datasets.{name}")


def load_parts(flags: Any) -> tuple[FederatedDataset, ...]:
    """What `load_data` of `fl.datasets.<flags.dataset>` returns.

    Args:
        flags: With `dataset` and what `ARGUMENTS` names.

    Raises:
        UsageError: If there is no such data set, or it doesn't take a flag.
    """
    module = find(flags.dataset)
    accepted = _arguments_of(flags.dataset)
    arguments = {}
    for name in ARGUMENTS:
        # Runs of earlier versions don't have all of them.
        value = getattr(flags, name, None)
        if value is None:
            continue
        if name not in accepted:
            from fedlearn import datasets

            others = [n for n in datasets.list() if name in _arguments_of(n)]
            raise UsageError(
                f"--{name} doesn't go with --dataset={flags.dataset}, only "
                f"with {', '.join(others)}. Leave it out."
            )
        arguments[name] = value
    return module.load_data(**arguments)


def load(flags: Any) -> tuple[FederatedDataset, FederatedDataset]:
    """`(train, test)` of the data set; other parts are left out.

    Args and errors: as of `load_parts`.
    """
    if flags.dataset == own_data.NAME:
        return own_data.load(flags)
    # Stack Overflow's held-out people are between the two.
    train, *_, test = load_parts(flags)
    return train, test


def load_of_run(
    config: Mapping[str, Any], flags: Any
) -> tuple[FederatedDataset, FederatedDataset]:
    """`(train, test)` of a run, which may lie elsewhere now.

    Args:
        config: Of the run, from `config.json`.
        flags: With what `PLACES` names; None for where the run had them.
    """
    moved = {n: getattr(flags, n) for n in PLACES if n in flags.given}
    flags = Values({**config["flags"], **moved}, set())
    if flags.dataset == own_data.NAME:
        # A file from elsewhere may lack a class, or have others.
        return own_data.load(flags, config.get("class_names"))
    return load(flags)


def title(flags: Mapping[str, Any]) -> str:
    """The data set and which variant of it, for people.

    Args:
        flags: Values by name.

    Example:

    >>> title({"dataset": "stackoverflow", "task": "tags"})
    'stackoverflow (tags)'
    >>> title({"dataset": "emnist", "source": "/data/emnist.sqlite"})
    'emnist (emnist.sqlite)'
    """
    if flags.get("data"):
        return os.path.basename(flags["data"].rstrip("/"))
    variant = [flags[n] for n in ("task", "target") if flags.get(n)]
    if flags.get("only_digits") is False:
        variant.append("with letters")
    if flags.get("source"):
        variant.append(os.path.basename(flags["source"].rstrip("/")))
    name = str(flags["dataset"])
    return f"{name} ({', '.join(variant)})" if variant else name


def _arguments_of(name: str) -> set[str]:
    return set(inspect.signature(find(name).load_data).parameters)
