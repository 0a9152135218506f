"""All clients alike."""

from typing import Any

from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.partition.pool import Pool, dealt_evenly


def iid(x: Any, y: Any, num_clients: int, seed: int = 0) -> FederatedDataset:
    """Deals the examples at random, to all the same number up to one.

    The IID split of McMahan et al. 2017, section 3,
    https://arxiv.org/abs/1602.05629.

    Args:
        x, y, num_clients, seed: See `fl.partition`, also for errors.

    Example:

    >>> import numpy as np
    >>> ds = iid(np.zeros((10, 2)), np.arange(10), num_clients=3)
    >>> [ds.num_examples(i) for i in ds.client_ids]
    [3, 3, 4]
    """
    pool = Pool(x, y, num_clients, "iid")
    return pool.dealt(dealt_evenly(pool.total, num_clients, seed, "iid"))
