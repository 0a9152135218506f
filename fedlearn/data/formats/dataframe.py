"""Data frames, of any library with `columns` and `to_numpy`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedlearn.data.class_names import categories_of
from fedlearn.data.client_id import is_missing
from fedlearn.data.formats.table import Roles, Table, read_tables, table_ids
from fedlearn.data.sources import ClientColumns


def _values(
    column: Any, class_names: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(column.to_numpy())
    kind = getattr(getattr(column, "dtype", None), "kind", None)
    if values.dtype.kind == "f" and kind is not None and kind in "iu":
        # pandas makes floats of integers with gaps.
        values = np.asarray(column.to_numpy(dtype=object))
    if values.dtype.kind in "biu":
        return values, np.zeros(len(values), bool)
    if values.dtype.kind == "f":
        return values, np.isnan(values)
    # Time stamps stay what they are, which astype(object) makes integers of.
    objects = np.fromiter(values, object, len(values))
    return objects, np.fromiter(map(is_missing, objects), bool, len(values))


def _table(df: Any, name: str) -> Table:
    if not hasattr(df, "columns"):
        raise TypeError(
            f"from_dataframe got a {type(df).__name__}. Expected a data "
            "frame, such as pandas.DataFrame, or a dict of them by client."
        )
    columns = list(df.columns)
    return Table(
        name,
        columns,
        len(df[columns[0]].to_numpy()) if columns else 0,
        read=lambda name, class_names: _values(df[name]),
        ids=lambda name: np.asarray(df[name].to_numpy()),
        categories=lambda name: categories_of(df[name]),
    )


def read_dataframe(
    df: Any, roles: Roles
) -> tuple[ClientColumns, tuple[str, ...] | None]:
    """See `FederatedDataset.from_dataframe`."""
    if not isinstance(df, Mapping) or hasattr(df, "columns"):
        return read_tables([_table(df, "The data frame")], (), roles)
    tables = [_table(frame, f"Client {str(i)!r}") for i, frame in df.items()]
    ids = table_ids(df, roles.client, "data frames")
    return read_tables(tables, ids, roles)
