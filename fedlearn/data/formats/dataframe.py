"""Data frames, of any library with `columns` and `to_numpy`."""

import decimal
import numbers
from typing import Any

import numpy as np

from fedlearn.data.class_names import categories_of
from fedlearn.data.client_id import is_missing
from fedlearn.data.formats.table import Cells, Table


def _values(df: Any, name: Any) -> np.ndarray:
    column = df[name]
    values = np.asarray(column.to_numpy())
    kind = getattr(getattr(column, "dtype", None), "kind", None)
    if values.dtype.kind == "f" and kind is not None and kind in "iu":
        # pandas makes floats of integers with gaps.
        values = np.asarray(column.to_numpy(dtype=object))
    if values.ndim != 1:
        raise ValueError(
            f"Column {name!r} appears more than once in the data frame. "
            "Rename one of them."
        )
    return values


def _cells(df: Any, name: Any) -> Cells:
    values = _values(df, name)
    nothing = np.zeros(len(values), bool)
    if values.dtype.kind in "biu":
        return Cells(values, nothing)
    if values.dtype.kind == "f":
        return Cells(values, np.isnan(values))
    listed = list(values)
    missing = np.fromiter(map(is_missing, listed), bool, len(listed))
    present = [v for v, gone in zip(listed, missing, strict=True) if not gone]
    odd = next((k for k, v in enumerate(present) if not _is_number(v)), None)
    if odd is None:
        return Cells(_numbers(listed, missing, name), missing)
    objects = np.fromiter(listed, object, len(listed))
    return Cells(
        objects,
        missing,
        int(np.flatnonzero(~missing)[odd]),
        all(isinstance(v, (str, bytes)) for v in present),
        categories_of(df[name]),
    )


def _is_number(value: Any) -> bool:
    # To NumPy a time span is an integer.
    return isinstance(
        value, (numbers.Real, decimal.Decimal, np.bool_)
    ) and not isinstance(value, np.timedelta64)


def _numbers(listed: list[Any], missing: np.ndarray, name: Any) -> np.ndarray:
    """Objects as numbers: pandas keeps integers with gaps as objects."""
    filled = [0 if gone else v for v, gone in zip(listed, missing, strict=True)]
    whole = (numbers.Integral, np.bool_)
    if all(isinstance(v, whole) for v in filled):
        for dtype in (np.int64, np.uint64):
            try:
                return np.array([int(v) for v in filled], dtype)
            except OverflowError:
                continue
    floats = [float(v) for v in filled]
    for exact, rounded in zip(filled, floats, strict=True):
        if isinstance(exact, whole) and int(exact) != rounded:
            raise ValueError(
                f"Column {name!r} holds {exact}, which no dtype of NumPy "
                "holds beside the other values. Divide it, or leave the "
                "column out with features=[...]."
            )
    return np.array(floats)


def _ids(df: Any, name: Any) -> np.ndarray:
    ids = _values(df, name)
    gaps = sum(map(is_missing, ids)) if ids.dtype.kind not in "biu" else 0
    if gaps:
        raise ValueError(
            f"Column {name!r} (client) has {gaps:,} missing values. Expected "
            "an id in every row; drop those rows first, as with "
            f"df.dropna(subset=[{name!r}])."
        )
    return ids


def table_of(df: Any, name: str = "The data frame") -> Table:
    """A data frame as a table.

    Raises:
        TypeError: If it is none.
    """
    if not hasattr(df, "columns"):
        raise TypeError(
            f"from_dataframe got a {type(df).__name__}. Expected a data "
            "frame, such as pandas.DataFrame, or a dict of them by client."
        )
    columns = list(df.columns)
    first = df[columns[0]].to_numpy() if columns else ()
    return Table(
        name,
        columns,
        len(first),
        read=lambda column, class_names=(): _cells(df, column),
        ids=lambda column: _ids(df, column),
    )
