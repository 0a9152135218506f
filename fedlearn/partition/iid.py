"""All clients alike."""

from typing import Any

import numpy as np

from fedlearn import seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.partition.division import clients, deal, even_cuts, pooled


def iid(x: Any, y: Any, num_clients: int, seed: int = 0) -> FederatedDataset:
    """Deals the examples at random, to all the same number up to one.

    The IID split of McMahan et al. 2017, section 3,
    https://arxiv.org/abs/1602.05629.

    Args:
        x: `(examples, ...)` array, or a dict, tuple or list of them.
        y: The same.
        num_clients: At most the number of examples.
        seed: An integer.

    Raises:
        ValueError: If there are more clients than examples.

    Example:

    >>> import numpy as np
    >>> ds = iid(np.zeros((10, 2)), np.arange(10), num_clients=3)
    >>> [ds.num_examples(i) for i in ds.client_ids]
    [3, 3, 4]
    """
    element, total, class_names = pooled(x, y, num_clients, "iid")
    order = seeds.permutation(total, seed, "iid")
    cuts = even_cuts(total, num_clients)
    codes = deal(order, cuts, np.arange(num_clients))
    return clients(element, codes, num_clients, class_names)
