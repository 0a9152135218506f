"""A few labels a client."""

from typing import Any

import numpy as np

from fedlearn import seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.partition.pool import Pool, deal, even_cuts


def shards(
    x: Any,
    y: Any,
    num_clients: int,
    shards_per_client: int = 2,
    seed: int = 0,
) -> FederatedDataset:
    """Sorts by label, cuts into shards, and deals each client some of them.

    The "pathological" non-IID split of McMahan et al. 2017, section 3,
    https://arxiv.org/abs/1602.05629: with two shards most clients see two
    labels. Examples of one label are in random order before the cut; shards
    are of the same size up to one example.

    Args:
        x, y, num_clients, seed: See `fl.partition`, also for errors.
        shards_per_client: How many shards each gets.

    Raises:
        ValueError: If there are more shards than examples.

    Example:

    >>> import numpy as np
    >>> y = np.repeat(np.arange(4), 10)
    >>> ds = shards(np.zeros((40, 2)), y, num_clients=2, shards_per_client=2)
    >>> [len(np.unique(ds[i][1])) for i in ds.client_ids]
    [2, 2]
    """
    pool = Pool(x, y, num_clients, "shards")
    labels = pool.labels()
    pieces = num_clients * shards_per_client
    if shards_per_client < 1 or pieces > pool.total:
        raise ValueError(
            f"shards: {num_clients:,} clients with {shards_per_client!r} "
            f"shards each need {pieces:,} shards, but there are {pool.total:,} "
            "examples. Expected at least one shard a client and one example "
            "a shard."
        )
    dealt = seeds.permutation(pieces, seed, "shards", "deal")
    owners = np.empty(pieces, np.int64)
    owners[dealt] = np.repeat(np.arange(num_clients), shards_per_client)
    cuts = even_cuts(pool.total, pieces)
    return pool.dealt(deal(pool.order(seed, labels), cuts, owners))
