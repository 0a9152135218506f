"""Clients that the data themselves name."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlearn import seeds
from fedlearn.data import element as el
from fedlearn.data.client_id import ids_array
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.data.formats.arrays import pooled_examples
from fedlearn.data.sources import group_by_client
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
        x: `(examples, ...)` array, or a dict, tuple or list of them.
        y: The same.
        values: `(examples,)` strings or integers; or the key in `x` of a
            column of these, which is then taken out of `x`: it says whose an
            example is, and is not for the model to read.
        num_clients: How many clients share the values; None for one a value.
        seed: An integer; without `num_clients` nothing is drawn.

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
    element, class_names = pooled_examples((x, y), "by_column")
    total = el.num_examples(element)
    column = ids_array(values)
    if column.shape == (total, 1):
        column = column.reshape(-1)
    if column.shape != (total,) or not total:
        raise ValueError(
            f"by_column: values has shape {column.shape}, and x and y have "
            f"{total:,} examples. Expected one value for each example, and "
            "at least one."
        )
    if num_clients is None:
        source = group_by_client(element, column)
        return FederatedDataset(source, class_names=class_names)
    rows = group_by_client(np.arange(total), column)
    num_values = len(rows.client_ids)
    if not 1 <= num_clients <= num_values:
        raise ValueError(
            f"by_column: num_clients is {num_clients!r}, and the column has "
            f"{num_values:,} distinct values. Expected 1 to {num_values:,}."
        )
    owners = deal(
        seeds.permutation(num_values, seed, "by_column"),
        even_cuts(num_values, num_clients),
        range(num_clients),
    )
    codes = np.empty(total, np.int64)
    for owner, value in zip(owners, rows.client_ids, strict=True):
        codes[rows.load(value)] = owner
    return Pool(x, y, num_clients, "by_column").dealt(codes)


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
