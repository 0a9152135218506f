"""Small photographs of 100 kinds of things.

clients   Made up, by Pachinko allocation: a client's images are mostly of a
          few of the 20 coarse labels.
part      train: 500 clients, 50,000 examples
part      test: 100 clients, 10,000 examples
x         float32 (n, 32, 32, 3), each image with mean 0 and deviation 1
y         int64 (n,), 0 to 99
note      Train and test have different clients, though both have the ids
          '0', '1', ...: client '7' of one has nothing to do with '7' of the
          other.
note      The papers train on random crops of 24 x 24, flipped at random,
          and test on the central crop: see crop_size, and
          keras.layers.RandomCrop and RandomFlip for the training.
licence   No licence is stated; the authors ask to be cited.
cite      Krizhevsky, 'Learning multiple layers of features from tiny
          images', technical report, University of Toronto, 2009; divided by
          Reddi et al., 'Adaptive federated optimization', ICLR 2021,
          arXiv:2003.00295.
disk      340 MB, unpacked
"""

import os
from typing import Any

import numpy as np

from fedlearn import checks
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.datasets.public_file import PublicFile
from fedlearn.datasets.task import Task
from fedlearn.datasets.tff_files import BASE_URL, TffFiles

__all__ = ["FILES", "load_data", "standardized", "task"]
__dir__ = __all__.copy  # `dir` shows what is public

_SQLITE = PublicFile(
    BASE_URL + "cifar100.sqlite.lzma",
    "23d3916c9caa33395737ee560cc7cb77bbd05fc7b73647ee7be3a7e764172939",
    153_019_920,
)
_FILES = TffFiles("cifar100", _SQLITE, "fed_cifar100.tar.bz2")

FILES = (_SQLITE,)


def standardized(images: np.ndarray) -> np.ndarray:
    """Each image less its mean, divided by its standard deviation.

    The deviation is taken to be at least `1 / sqrt(number of values)`, so
    that an image of one colour becomes 0.

    Args:
        images: `(n, ...)` numbers.

    Returns:
        The same shape, `float32`.

    Example:

    >>> standardized(np.array([[0, 2], [5, 5]])).tolist()
    [[-1.0, 1.0], [0.0, 0.0]]
    """
    count = max(1, int(np.prod(images.shape[1:])))
    flat = images.reshape(-1, count).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True, dtype=np.float64)
    square = np.einsum("ij,ij->i", flat, flat)[:, None]
    flat /= np.maximum(np.sqrt(square / count), 1 / np.sqrt(count))
    return flat.reshape(images.shape)


def load_data(
    crop_size: int = 32,
    *,
    source: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[FederatedDataset, FederatedDataset]:
    """Photographs of 32 x 32 pixels, 100 on each of 500 clients.

    `x` has shape `(n, 32, 32, 3)` and dtype `float32`; each image is
    standardized (see `standardized`). `y` has shape `(n,)` and dtype `int64`,
    0 to 99.

    Args:
        crop_size: Side of the central square of an image that is kept; the
            papers use 24. The crop comes before the standardization.
        source: `cifar100.sqlite.lzma` or `fed_cifar100.tar.bz2`; see
            `fl.datasets`.
        cache_dir: See `fl.datasets`, also for errors.

    Returns:
        `(train, test)`, of different clients.

    Raises:
        ValueError: If `crop_size` is not from 1 to 32.

    Example:

    >>> train, test = load_data(crop_size=24, source="synthetic")
    >>> train["0"][0].shape
    (100, 24, 24, 3)
    """
    checks.whole("crop_size", crop_size, most=32)
    start = (32 - crop_size) // 2

    def examples(stored: Any) -> Any:
        image = stored["image"].reshape(-1, 32, 32, 3)
        image = image[:, start : start + crop_size, start : start + crop_size]
        return standardized(image), stored["label"].astype(np.int64)

    return _FILES.load(source, cache_dir, examples)


def task(**arguments: Any) -> Task:
    """What a photograph shows; arguments as of `load_data`.

    Batch size and learning rate are published: FedAvg's of Reddi et al. 2021,
    beside a server's learning rate of `10 ** 0.5`.
    """
    train, test = load_data(**arguments)
    shape = train.element_spec[0].shape
    sizes = {"input_shape": shape, "num_classes": 100}
    return Task(train, test, "resnet18_gn", sizes, batch_size=20)
