"""Handwritten digits of 8 x 8 pixels.

clients   Made up: each draws its mix of digits from a Dirichlet
          distribution.
part      train: 50 clients, 1,437 examples
part      test: 50 clients, 360 examples
x         float32 (n, 8, 8, 1) in [0, 1]; 0 is paper, 1 is ink
y         int64 (n,), 0 to 9
note      The 1,797 images of the test part, as scikit-learn ships them; nothing
          is fetched.
licence   CC BY 4.0
cite      Alpaydin and Kaynak, 'Optical Recognition of Handwritten Digits',
          UCI Machine Learning Repository, 1998, doi:10.24432/C50P49.
"""

from typing import Any

import numpy as np

from fedlearn import checks, partition
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.datasets.task import Task

__all__ = ["FILES", "load_data", "task"]
__dir__ = __all__.copy  # `dir` shows what is public

FILES = ()


def load_data(
    num_clients: int = 50,
    alpha: float = 1.0,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> tuple[FederatedDataset, FederatedDataset]:
    """1,797 digits, divided among clients by a Dirichlet distribution.

    A model learns them in seconds. The clients are made up, by
    `fl.partition.dirichlet` with at least two examples each; each client's
    are then divided into train and test, with at least one in both.

    `x` has shape `(n, 8, 8, 1)` and dtype `float32`, in [0, 1]; `y` has
    shape `(n,)` and dtype `int64`.

    Args:
        num_clients: Number of clients, up to 898.
        alpha: Concentration: a small one gives each client few digits, a
            large one all of them alike.
        test_fraction: Part of each client's examples that is for testing.
        seed: An integer.

    Returns:
        `(train, test)`, two data sets of the same clients.

    Raises:
        ValueError: If `test_fraction` is not in (0, 1), or there are too many
            clients for that `alpha`.

    Example:

    >>> train, test = load_data(num_clients=10)
    >>> len(train), train.client_ids == test.client_ids
    (10, True)
    >>> train["0"][0].shape[1:]
    (8, 8, 1)
    """
    checks.fraction("test_fraction", test_fraction, one=False)
    from sklearn.datasets import load_digits  # takes a second: not at import

    images, labels = load_digits(return_X_y=True)
    # Stored as counts of ink from 0 to 16.
    x = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    clients = partition.dirichlet(
        x, labels.astype(np.int64), num_clients, alpha, 2, seed
    )
    return clients.split_examples(1 - test_fraction, seed)


def task(**arguments: Any) -> Task:
    """Which digit an image shows; arguments as of `load_data`."""
    train, test = load_data(**arguments)
    sizes = {"input_shape": (8, 8, 1), "num_classes": 10}
    return Task(train, test, "digits_cnn", sizes)
