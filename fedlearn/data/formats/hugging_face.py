"""Data sets of the library `datasets` of Hugging Face.

The library itself is not imported: what is asked of the data set is
`column_names`, `select_columns`, `with_format` and a slice.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fedlearn.data import element as el
from fedlearn.data.class_names import is_text, number_classes
from fedlearn.data.sources import FlatArrays, group_by_client


def _check_table(dataset: Any) -> None:
    if isinstance(dataset, Mapping):
        raise TypeError(
            f"Got a {type(dataset).__name__} of the splits "
            f"{', '.join(map(repr, dataset))}. Expected one of them, as in "
            "dataset['train']."
        )
    needed = ("column_names", "select_columns", "with_format", "__getitem__")
    if not all(hasattr(dataset, name) for name in needed):
        raise TypeError(
            f"Got a {type(dataset).__name__}. Expected a datasets.Dataset; "
            "of one that streams, take a part first, as with "
            "datasets.Dataset.from_list(list(stream.take(1000)))."
        )


def _choose(
    names: list[str],
    client: str,
    label: str | None,
    features: Iterable[str] | None,
) -> list[str]:
    """The columns of the features, in order."""
    if isinstance(features, str):
        raise TypeError(
            f"features is the string {features!r}. Expected a list of "
            f"columns, as in features=[{features!r}]."
        )
    used = {client, label}
    chosen = (
        [name for name in names if name not in used]
        if features is None
        else list(features)
    )
    asked = [client, *chosen] + ([] if label is None else [label])
    for name in asked:
        if name not in names:
            raise ValueError(
                f"There is no column {name!r}. Expected one of "
                f"{', '.join(map(repr, names))}."
            )
    if len(set(asked)) != len(asked):
        raise ValueError(
            f"A column is named twice in client, label and features: {asked}."
        )
    if not chosen:
        raise ValueError("No column is left for the features.")
    return chosen


def _as_array(values: Any, name: str) -> np.ndarray:
    """A column as numbers, or as text in objects of type `bytes`."""
    array = np.asarray(values)
    if array.dtype.kind in "biuf":
        return array
    flat = array.ravel().tolist() if array.dtype.kind in "OSU" else [None]
    odd = next((v for v in flat if not isinstance(v, (str, bytes))), b"")
    if odd != b"":
        found = "missing values" if odd is None else f"a {type(odd).__name__}"
        raise ValueError(
            f"Column {name!r} has dtype {array.dtype} and holds {found}. "
            "Expected numbers or text, of one shape in all rows; fill, pad "
            "or convert it first with dataset.map, or leave it out with "
            "features=[...]."
        )
    encoded = np.empty(len(flat), object)
    encoded[:] = [v.encode() if isinstance(v, str) else v for v in flat]
    return encoded.reshape(array.shape)


def _feature(dataset: Any, name: str) -> Any:
    features = getattr(dataset, "features", None)
    return features.get(name) if isinstance(features, Mapping) else None


def _wide_dtype(dataset: Any, name: str) -> Any:
    dtype = getattr(_feature(dataset, name), "dtype", None)
    return dtype if dtype in ("float64", "uint64") else None


def _class_names(dataset: Any, label: str) -> tuple[str, ...] | None:
    """Those of a `datasets.ClassLabel`."""
    names = getattr(_feature(dataset, label), "names", None)
    return tuple(names) if names else None


def read_hugging_face(
    dataset: Any,
    client: str,
    label: str | None = None,
    features: Iterable[str] | None = None,
) -> tuple[FlatArrays, tuple[str, ...] | None]:
    """Clients, and the names of classes of the label's column, if it has any.

    See `FederatedDataset.from_hugging_face`.
    """
    _check_table(dataset)
    chosen = _choose(list(dataset.column_names), client, label, features)
    wanted = [client, *chosen] + ([] if label is None else [label])
    columns = dataset.select_columns(wanted).with_format("numpy")[:]
    for name in wanted:
        wide = _wide_dtype(dataset, name)
        if wide is not None:
            # By itself it makes float32 of float64 and int64 of uint64.
            column = dataset.select_columns([name])
            columns[name] = column.with_format("numpy", dtype=wide)[:][name]
    ids = np.asarray(columns[client])
    if not len(ids):
        raise ValueError("The data set has no rows. Expected at least one.")
    if ids.ndim != 1:
        raise ValueError(
            f"Column {client!r} holds arrays. Expected a client id a row."
        )
    arrays = {name: _as_array(columns[name], name) for name in chosen}
    element: Any = arrays
    names = None
    if label is not None:
        x = arrays[chosen[0]] if len(chosen) == 1 else arrays
        y = _as_array(columns[label], label)
        names = _class_names(dataset, label)
        if names is not None or is_text(y):
            (y,), names = number_classes([y], [f"Column {label!r}"], names)
        element = (x, y)
    checked = el.as_element(element, "The data set")
    el.check_labels(checked, "The data set")
    return group_by_client(checked, ids), names
