"""The data set that flags name."""

import importlib
import inspect
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from fedlearn import datasets
from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.cli import own_data
from fedlearn.cli.flags import PLACES, VARIANTS, UsageError, Values
from fedlearn.datasets.task import Task


def find(name: str) -> ModuleType:
    """The module `fl.datasets.<name>`."""
    names = datasets.list()
    if name not in names:
        raise UsageError(
            f"there is no data set {name!r}. Expected one of: "
            f"{', '.join(names)}.{did_you_mean(name, names)}"
        )
    return importlib.import_module(f"fedlearn.datasets.{name}")


def arguments(flags: Any) -> dict[str, Any]:
    """For `load_data` of the data set: flags of `VARIANTS` that are given."""
    accepted, found = _accepted(flags.dataset), {}
    for name in VARIANTS:
        # Runs of earlier versions don't have all of them.
        value = getattr(flags, name, None)
        if value is not None and name not in accepted:
            others = [n for n in datasets.list() if name in _accepted(n)]
            raise UsageError(
                f"--{name} doesn't go with --dataset={flags.dataset}, only "
                f"with {', '.join(others)}. Leave it out."
            )
        if value is not None:
            found[name] = value
    return found


def task(flags: Any, class_names: Any = None) -> Task:
    """What flags say to train on."""
    if getattr(flags, "data", None) is not None:
        return own_data.task(flags, class_names)
    return find(flags.dataset).task(**arguments(flags))


def task_of_run(config: Mapping[str, Any], flags: Any) -> Task:
    """The task of a run, whose data may lie elsewhere now."""
    moved = {n: getattr(flags, n) for n in PLACES if n in flags.given}
    # A file from elsewhere may lack a class, or have others.
    return task(
        Values(**{**config["flags"], **moved}), config.get("class_names")
    )


def title(flags: Mapping[str, Any]) -> str:
    """The data set and which variant of it, for people.

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


def _accepted(name: str) -> set[str]:
    return set(inspect.signature(find(name).load_data).parameters)
