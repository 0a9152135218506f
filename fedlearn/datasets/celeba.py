"""Photographs of famous people, with 40 attributes.

clients   A person with at least 5 photographs.
part      train: 8,408 clients, 180,429 examples
part      test: 935 clients, 19,859 examples
part      train, split_by='examples': 9,343 clients, 177,457 examples
part      test, split_by='examples': 9,343 clients, 22,831 examples
x         float32 (n, 84, 84, 3) in [0, 1]
y         int64 (n,), 1 if the attribute holds (by default, smiling)
note      Split by clients, train and test are different people; split by
          examples, other photographs of the same people.
note      A person's photographs mostly agree in attributes such as male, so
          that a client often has one label only.
note      No checksum is published.
licence   For research that is not commercial; the images belong to others
          (see mmlab.ie.cuhk.edu.hk/projects/CelebA.html).
cite      Liu, Luo, Wang and Tang, 'Deep learning face attributes in the
          wild', ICCV 2015, arXiv:1411.7766; Caldas et al., 'LEAF: a
          benchmark for federated settings', 2018, arXiv:1812.01097.
"""

import os
from typing import Any

import numpy as np

from fedlearn import checks
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.datasets.celeba_attributes import ATTRIBUTES
from fedlearn.datasets.public_file import PublicFile
from fedlearn.datasets.task import Task
from fedlearn.datasets.tff_files import BASE_URL, TffFiles

__all__ = ["ATTRIBUTES", "FILES", "load_data", "task"]
__dir__ = __all__.copy  # `dir` shows what is public

_SQLITE = PublicFile(BASE_URL + "celeba.sqlite.lzma")


def _files(by: str, stand_in: str) -> TffFiles:
    splits = {part: (f"split_by_{by}_{part}",) for part in ("train", "test")}
    return TffFiles("celeba", _SQLITE, None, splits, stand_in)


_FILES = {
    "clients": _files("clients", "celeba"),
    "examples": _files("examples", "celeba_examples"),
}

FILES = (_SQLITE,)


def load_data(
    target: str = "smiling",
    *,
    split_by: str = "clients",
    source: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[FederatedDataset, FederatedDataset]:
    """Photographs of 9,343 famous people, a client each.

    `x` has shape `(n, 84, 84, 3)` and dtype `float32`, in [0, 1]; `y` has
    shape `(n,)` and dtype `int64`, 1 where the photograph has the attribute
    `target`, or else 0.

    Args:
        target: One of `ATTRIBUTES`.
        split_by: `"clients"`: test people are not among the train people;
            `"examples"`: each person's photographs are divided.
        source: `celeba.sqlite.lzma` or `celeba.sqlite`; see `fl.datasets`.
        cache_dir: See `fl.datasets`, also for errors.

    Returns:
        `(train, test)`.

    Raises:
        ValueError: If `target` or `split_by` is none of those.

    Example:

    >>> train, test = load_data("eyeglasses", source="synthetic")
    >>> train[train.client_ids[0]][0].shape[1:]
    (84, 84, 3)
    """
    checks.one_of("target", target, ATTRIBUTES)
    checks.one_of("split_by", split_by, _FILES)

    def examples(stored: Any) -> Any:
        image = stored["image"].reshape(-1, 84, 84, 3)
        x = image.astype(np.float32) / np.float32(255)
        return x, stored[target].astype(np.int64)

    return _FILES[split_by].load(source, cache_dir, examples)


def task(**arguments: Any) -> Task:
    """Whether a photograph has an attribute; arguments as of `load_data`.

    The learning rate is published: it is that of LEAF's code.
    """
    train, test = load_data(**arguments)
    sizes = {"input_shape": (84, 84, 3), "num_classes": 2}
    return Task(train, test, "celeba_cnn", sizes)
