"""The data set that flags name."""

import importlib
import inspect
from types import ModuleType
from typing import Any

import numpy as np

from fedlearn.cli.errors import UsageError, did_you_mean
from fedlearn.data.federated_dataset import FederatedDataset

# Flags that only some data sets take, by the names of their arguments.
ARGUMENTS = ("num_clients", "alpha")


def find(name: str) -> ModuleType:
    """The module `fl.datasets.<name>`.

    Raises:
        UsageError: If there is none.
    """
    from fedlearn import datasets

    if name not in datasets.__all__:
        raise UsageError(
            f"there is no data set {name!r}. Expected one of: "
            f"{', '.join(sorted(datasets.__all__))}."
            + did_you_mean(name, datasets.__all__, "--dataset=")
        )
    return importlib.import_module(f"fedlearn.datasets.{name}")


def load(flags: Any) -> tuple[FederatedDataset, FederatedDataset]:
    """`(train, test)` of `fl.datasets.<flags.dataset>`.

    Args:
        flags: With `dataset` and what `ARGUMENTS` names.

    Raises:
        UsageError: If there is no such data set, or it doesn't take a flag.
    """
    module = find(flags.dataset)
    accepted = inspect.signature(module.load_data).parameters
    arguments = {}
    for name in ARGUMENTS:
        value = getattr(flags, name)
        if value is None:
            continue
        if name not in accepted:
            raise UsageError(
                f"--{name} doesn't go with --dataset={flags.dataset}, whose "
                "clients are given. Leave it out."
            )
        arguments[name] = value
    return module.load_data(**arguments)


def shape_and_classes(data: FederatedDataset) -> tuple[Any, int | None]:
    """What a classifier of these examples needs to know.

    Returns:
        The shape of an example, None where it has several inputs; and the
        number of classes, None where labels aren't one integer each.

    Example:

    >>> shape_and_classes(
    ...     FederatedDataset.from_clients({"a": ([[1.0, 2.0]], [3])}))
    ((2,), 4)
    """
    spec = data.element_spec
    if not isinstance(spec, tuple) or len(spec) < 2:
        return None, None
    shape = getattr(spec[0], "shape", None)
    if getattr(spec[1], "shape", None) != () or not np.issubdtype(
        spec[1].dtype, np.integer
    ):
        return shape, None
    largest = max(
        int(data[client][1].max())
        for client in data
        if data.num_examples(client)
    )
    return shape, largest + 1
