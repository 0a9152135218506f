"""Data sets of the library `datasets` of Hugging Face, which isn't imported."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fedlearn.data import element as el
from fedlearn.data.class_names import is_text, number_classes
from fedlearn.data.client_id import client_of_rows
from fedlearn.data.formats.dataframe import (
    Roles,
    check_columns,
    feature_columns,
)
from fedlearn.data.sources import ClientColumns, group_rows


def _column(dataset: Any, name: str) -> np.ndarray:
    """A column as numbers, or as text in objects of type `bytes`."""
    feature = (getattr(dataset, "features", None) or {}).get(name)
    # By itself it makes float32 of float64 and int64 of uint64.
    dtype = getattr(feature, "dtype", None)
    kwargs = {"dtype": dtype} if dtype in ("float64", "uint64") else {}
    column = dataset.select_columns([name]).with_format("numpy", **kwargs)
    array = np.asarray(column[:][name])
    if array.dtype.kind == "O" and any(v is None for v in array.flat):
        raise ValueError(
            f"Column {name!r} holds missing values. Expected numbers or text "
            "in all rows; fill or convert it first with dataset.map, or leave "
            "it out with features=[...]."
        )
    return el.encoded(array) if array.dtype.kind in "OSU" else array


def read_hugging_face(
    dataset: Any,
    client: str,
    label: str | None = None,
    features: Iterable[str] | None = None,
) -> tuple[ClientColumns, tuple[str, ...] | None]:
    """See `FederatedDataset.from_hugging_face`."""
    if isinstance(dataset, Mapping):
        raise TypeError(
            f"Got a {type(dataset).__name__} of the splits "
            f"{', '.join(map(repr, dataset))}. Expected one of them, as in "
            "dataset['train']."
        )
    if not {"select_columns", "__getitem__"} <= set(dir(dataset)):
        raise TypeError(
            f"Got a {type(dataset).__name__}. Expected a datasets.Dataset; "
            "of one that streams, take a part first, as with "
            "datasets.Dataset.from_list(list(stream.take(1000)))."
        )
    roles = Roles(client, label, features)
    columns = list(dataset.column_names)
    check_columns("The data set", columns, roles)
    (chosen,) = feature_columns("The data set", columns, roles).values()
    ids = _column(dataset, client)
    if not len(ids):
        raise ValueError("The data set has no rows. Expected at least one.")
    if ids.ndim != 1:
        raise ValueError(
            f"Column {client!r} holds arrays. Expected a client id a row."
        )
    arrays = {str(name): _column(dataset, str(name)) for name in chosen}
    element: Any = arrays
    names = None
    if label is not None:
        x = next(iter(arrays.values())) if len(arrays) == 1 else arrays
        y = _column(dataset, label)
        # Those of a `datasets.ClassLabel`.
        feature = (getattr(dataset, "features", None) or {}).get(label)
        names = getattr(feature, "names", None)
        if names or is_text(y):
            (y,), names = number_classes([y], [f"Column {label!r}"], names)
        element = (x, y)
    checked = el.as_element(element, "The data set")
    el.check_labels(checked, "The data set")
    client_ids, codes = client_of_rows(ids)
    return group_rows(checked, codes, client_ids), names
