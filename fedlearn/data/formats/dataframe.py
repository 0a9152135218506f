"""Data frames, of any library with `columns` and `to_numpy`."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from fedlearn.data.client_id import is_missing


def choose_columns(
    columns: list[str],
    client: str,
    label: str,
    features: Iterable[str] | None,
    where: str,
) -> list[str]:
    """The feature columns; checks that all the named columns exist.

    Raises:
        ValueError: That lists the columns there are.
    """
    if isinstance(features, str):
        raise TypeError(
            f"features is the string {features!r}. Expected a list of "
            f"columns, as in [{features!r}]."
        )
    if features is None:
        chosen = [name for name in columns if name not in (client, label)]
    else:
        chosen = list(features)
    for role, names in (
        ("client", [client]),
        ("label", [label]),
        ("features", chosen),
    ):
        for name in names:
            if name not in columns:
                raise ValueError(
                    f"{where} has no column {name!r} ({role}). It has "
                    f"{', '.join(map(repr, columns))}."
                )
    if client == label:
        raise ValueError(
            f"client and label are the same column, {client!r}. Expected "
            "two different ones."
        )
    if not chosen:
        raise ValueError(
            f"{where} has no feature columns. Expected at least one column "
            "other than client and label."
        )
    for name in chosen:
        if name in (client, label):
            role = "client" if name == client else "label"
            raise ValueError(
                f"Column {name!r} is among the features and is also the "
                f"{role} column. Leave it out of features."
            )
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"features names a column twice: {chosen}.")
    return chosen


def _column(df: Any, name: str) -> tuple[np.ndarray, int]:
    """A column's values, and how many are missing."""
    values = np.asarray(df[name].to_numpy())
    if values.ndim != 1:
        raise ValueError(
            f"Column {name!r} appears more than once in the data frame. "
            "Rename one of them."
        )
    kind = values.dtype.kind
    if kind == "f":
        return values, int(np.isnan(values).sum())
    if kind in "mM":
        return values, int(np.isnat(values).sum())
    if kind == "O":
        missing = [is_missing(v) for v in values.tolist()]
        present = [
            v
            for v, gone in zip(values.tolist(), missing, strict=True)
            if not gone
        ]
        # pandas keeps integers with missing values as objects.
        numbers = (int, float, np.number, np.bool_)
        if present and all(isinstance(v, numbers) for v in present):
            filled = [
                np.nan if gone else v
                for v, gone in zip(values.tolist(), missing, strict=True)
            ]
            values = np.asarray(filled)
        return values, sum(missing)
    return values, 0


def read_dataframe(
    df: Any, client: str, label: str, features: Iterable[str] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`x`, `y` and client ids; see `FederatedDataset.from_dataframe`."""
    if not hasattr(df, "columns"):
        raise TypeError(
            f"from_dataframe got a {type(df).__name__}. Expected a data "
            "frame, such as pandas.DataFrame."
        )
    columns = list(df.columns)
    chosen = choose_columns(columns, client, label, features, "The data frame")
    ids, missing = _column(df, client)
    if missing:
        raise ValueError(
            f"Column {client!r} (client) has {missing:,} missing values. "
            f"Expected an id in every row; drop those rows first, as with "
            f"df.dropna(subset=[{client!r}])."
        )
    if not len(ids):
        raise ValueError("The data frame has no rows. Expected some.")
    read = {name: _column(df, name) for name in [*chosen, label]}
    text = [n for n, (v, _) in read.items() if v.dtype.kind not in "biuf"]
    if label in text:
        raise ValueError(
            f"Column {label!r} (label) holds no numbers (dtype "
            f"{read[label][0].dtype}). Map the labels to integers first, as "
            f"with df[{label!r}] = df[{label!r}].astype('category').cat.codes."
        )
    if text:
        raise ValueError(
            f"Columns without numbers: {', '.join(map(repr, text))}. Expected "
            "numbers in every feature; leave these out with features=[...], "
            "or encode them first, as with pandas.get_dummies."
        )
    gaps = {n: count for n, (_, count) in read.items() if count}
    if gaps:
        listed = ", ".join(f"{n!r} ({count:,})" for n, count in gaps.items())
        raise ValueError(
            f"Columns with missing values: {listed}. Expected none; fill "
            "them (df.fillna), drop the rows (df.dropna), or leave the "
            "columns out with features=[...]."
        )
    x = np.stack([read[n][0].astype(np.float32) for n in chosen], axis=1)
    y = read[label][0]
    y = y.astype(np.float32 if y.dtype.kind == "f" else np.int64)
    return x, y, ids
