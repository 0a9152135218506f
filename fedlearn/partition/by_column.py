"""Clients that the data themselves name."""

from typing import Any

from fedlearn.data.client_id import client_of_rows, ids_array
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.partition.pool import Pool, dealt_evenly


def by_column(
    x: Any,
    y: Any,
    values: Any,
    num_clients: int | None = None,
    seed: int = 0,
) -> FederatedDataset:
    """Makes a client of each distinct value of a column, or of several.

    Without `num_clients` the clients are the column's values, and their ids,
    as with `FederatedDataset.from_arrays`. With it, whole values are dealt to
    that many clients at random, to all the same number of values up to one:
    say, 3,500 writers to 100 schools.

    Args:
        x, y, seed: See `fl.partition`.
        values: `(examples,)` strings or integers.
        num_clients: How many clients share the values; None for one a value.

    Raises:
        ValueError: If there are fewer values than clients, or one is missing.

    Example:

    >>> import numpy as np
    >>> ds = by_column(np.array([30, 41, 52]), np.array([0, 1, 1]), list("bab"))
    >>> ds["b"]
    (array([30, 52]), array([0, 1]))
    """
    if num_clients is None:
        return FederatedDataset.from_arrays(x, y, values)
    names, codes = client_of_rows(ids_array(values).reshape(-1))
    if not 1 <= num_clients <= len(names):
        raise ValueError(
            f"by_column: num_clients is {num_clients!r}, and the column has "
            f"{len(names):,} distinct values. Expected 1 to {len(names):,}."
        )
    pool = Pool(x, y, num_clients, "by_column")
    if len(codes) != pool.total:
        raise ValueError(
            f"by_column: values has {len(codes):,} entries, and x and y have "
            f"{pool.total:,} examples. Expected one value for each example."
        )
    owners = dealt_evenly(len(names), num_clients, seed, "by_column")
    return pool.dealt(owners[codes])
