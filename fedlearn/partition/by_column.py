"""Clients that the data themselves name."""

from collections.abc import Mapping
from typing import Any

from fedlearn import seeds
from fedlearn.data.client_id import client_of_rows, ids_array
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.partition.pool import Pool, deal, even_cuts


def by_column(
    x: Any,
    y: Any,
    values: Any,
    num_clients: int | None = None,
    seed: int = 0,
) -> FederatedDataset:
    """Makes a client of each distinct value of a column, or of several.

    Without `num_clients` the clients are the column's values, as with
    `FederatedDataset.from_arrays`. With it, whole values are dealt to that
    many clients at random, to all the same number of values up to one: say,
    3,500 writers to 100 schools. Examples of one value stay together.

    Args:
        x, y, seed: See `fl.partition`; without `num_clients` nothing is drawn.
        values: `(examples,)` strings or integers; or the key in `x` of a
            column of these, which is then taken out of `x`: it says whose an
            example is, and is not for the model to read.
        num_clients: How many clients share the values; None for one a value.

    Returns:
        A data set whose ids are the values, or numbers with leading zeros if
        `num_clients` is given.

    Raises:
        ValueError: If there are fewer values than clients, a value is
            missing, or `x` has no such column, or no other.

    Example:

    >>> import numpy as np
    >>> x = {"age": np.array([30, 41, 52]), "shop": np.array(["b", "a", "b"])}
    >>> ds = by_column(x, np.array([0, 1, 1]), "shop")
    >>> ds["b"]
    ({'age': array([30, 52])}, array([0, 1]))
    """
    if isinstance(values, str):
        x, values = _take_out(x, values)
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
    owners = deal(
        seeds.permutation(len(names), seed, "by_column"),
        even_cuts(len(names), num_clients),
        range(num_clients),
    )
    return pool.dealt(owners[codes])


def _take_out(x: Any, key: str) -> tuple[Any, Any]:
    if not isinstance(x, Mapping):
        raise ValueError(
            f"by_column: values is the key {key!r}, but x is a "
            f"{type(x).__name__}. Expected a dict x, or an array of values."
        )
    if key not in x or len(x) == 1:
        raise ValueError(
            f"by_column: x has {'no' if key not in x else 'only'} {key!r}. It "
            f"has: {', '.join(map(str, x))}. Expected it, and a column that a "
            "model can read."
        )
    return {k: column for k, column in x.items() if k != key}, x[key]
