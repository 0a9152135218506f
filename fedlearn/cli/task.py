"""What is to be predicted, as far as a model and its loss depend on it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fedlearn.data.element import ArraySpec
from fedlearn.data.federated_dataset import FederatedDataset

# Counting classes takes a pass over all clients, for what is known.
_CLASSES = {
    "celeba": 2,
    "cifar100": 100,
    "digits": 10,
    "heart_disease": 2,
    "synthetic": 10,
}


class Task(NamedTuple):
    """A task of learning.

    Attributes:
        label: Shape and dtype of an example's label; None for labels of
            several parts.
        sizes: Arguments for the functions of `fl.models`, by name.
        ignored: For sequences, the labels that accuracy leaves out.
    """

    label: ArraySpec | None
    sizes: Mapping[str, Any]
    ignored: tuple[int, ...] = ()


def task_of(flags: Any, data: FederatedDataset) -> Task:
    """The task of a data set.

    Args:
        flags: With which `data` were loaded.
        data: The training data.

    Example:

    >>> from types import SimpleNamespace
    >>> data = FederatedDataset.from_clients({"a": ([[1.0, 2.0]], [3])})
    >>> task_of(SimpleNamespace(dataset="digits"), data).sizes
    {'input_shape': (2,), 'num_classes': 10}
    """
    if flags.dataset == "csv":
        from fedlearn.cli import own_data

        return own_data.task(data)
    spec = data.element_spec
    if (
        not isinstance(spec, tuple)
        or len(spec) < 2
        or not isinstance(spec[1], ArraySpec)
    ):
        return Task(None, {})
    label = spec[1]
    sizes: dict[str, Any] = {}
    if isinstance(spec[0], ArraySpec):
        sizes["input_shape"] = spec[0].shape
    if not np.issubdtype(label.dtype, np.integer):
        if len(label.shape) == 1:
            sizes["num_tags"] = label.shape[0]
        return Task(label, sizes)
    if not label.shape:
        return Task(label, {**sizes, "num_classes": _num_classes(flags, data)})
    if flags.dataset == "stackoverflow":
        # Its number of words depends on the source. A sentence begins with
        # the number of a beginning, after which only that of an end comes.
        first = next(client for client in data if data.num_examples(client))
        beginning = int(data[first][0][0, 0])
        special = (beginning - 1, beginning, beginning + 1)
        return Task(label, {"vocab_size": beginning + 2}, (0, *special))
    from fedlearn.datasets import shakespeare

    sizes = {"vocab_size": shakespeare.VOCABULARY_SIZE}
    return Task(label, sizes, (shakespeare.PAD,))


def _num_classes(flags: Any, data: FederatedDataset) -> int:
    if flags.dataset in _CLASSES:
        return _CLASSES[flags.dataset]
    source = getattr(flags, "source", None)
    if flags.dataset == "emnist" and source in (None, "synthetic"):
        only_digits = getattr(flags, "only_digits", None)
        return 62 if only_digits is False else 10
    # A file of one's own may have other classes.
    return 1 + max(
        int(data[client][1].max())
        for client in data
        if data.num_examples(client)
    )
