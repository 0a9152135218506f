"""Writes the SQLite files of TensorFlow Federated."""

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedlearn.data import element as el
from fedlearn.data.formats.example_encoder import encode_examples
from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.formats.sqlite_tables import check_tables

_TABLES = {
    "examples": {"split_name", "client_id", "serialized_example_proto"},
    "client_metadata": {"client_id", "split_name", "num_examples"},
}

_CREATE_TABLES = (
    "CREATE TABLE examples (split_name TEXT NOT NULL, client_id TEXT NOT "
    "NULL, serialized_example_proto BLOB NOT NULL)",
    "CREATE TABLE client_metadata (client_id TEXT NOT NULL, split_name TEXT "
    "NOT NULL, num_examples INTEGER NOT NULL)",
)

_CREATE_INDICES = (
    "CREATE INDEX idx_examples_client_id ON examples (client_id)",
    "CREATE INDEX idx_examples_client_id_split ON examples (split_name, "
    "client_id)",
    "CREATE INDEX idx_metadata_client_id ON client_metadata (client_id)",
)


def _features(element: el.Element, who: str) -> dict[str, np.ndarray]:
    """The arrays by the name that the file gives them."""
    named: dict[Any, Any] = (
        dict(element)
        if isinstance(element, Mapping)
        else dict(zip(el.PARTS, element, strict=False))
    )
    for name, array in named.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            raise ValueError(
                f"{who}: {name!r} holds a {type(array).__name__}. Expected "
                "one array under each name; make it a flat dict of features "
                "with map first, as in "
                "ds.map(lambda c: {'a': c[0]['a'], 'y': c[1]})."
            )
    return named


def _insert(
    connection: sqlite3.Connection, dataset: Mapping[str, Any], split: str
) -> None:
    """Adds all clients, one after the other."""
    spec, other = None, ""
    for client_id in dataset:
        who = f"Client {client_id!r}"
        features = _features(dataset[client_id], who)
        count = el.num_examples(features)
        if count:
            mine = el.spec_of(features)
            if spec is None:
                spec, other = mine, f"client {client_id!r}"
            el.check_same_spec(mine, who, spec, other)
            try:
                connection.executemany(
                    "INSERT INTO examples VALUES (?, ?, ?)",
                    ((split, client_id, e) for e in encode_examples(features)),
                )
            except ValueError as error:
                raise ValueError(f"{who}: {error}") from error
        connection.execute(
            "INSERT INTO client_metadata VALUES (?, ?, ?)",
            (client_id, split, count),
        )
    if spec is None:
        raise ValueError(
            "The data set has no examples. Expected at least one: the file "
            "could not be read again."
        )


@contextlib.contextmanager
def _transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection whose changes are kept all or, on an error, not at all."""
    with contextlib.closing(
        sqlite3.connect(path, isolation_level=None)
    ) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def _create(dataset: Mapping[str, Any], path: Path, split: str) -> None:
    handle, name = tempfile.mkstemp(
        prefix=f"{path.name}.", suffix=".partial", dir=path.parent
    )
    os.close(handle)
    try:
        with _transaction(Path(name)) as connection:
            for statement in _CREATE_TABLES:
                connection.execute(statement)
            _insert(connection, dataset, split)
            # After the rows: sorting them once is quicker.
            for statement in _CREATE_INDICES:
                connection.execute(statement)
        # mkstemp's files are for their owner alone; this one is to have the
        # permissions of any new file.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _append(dataset: Mapping[str, Any], path: Path, split: str) -> None:
    try:
        with _transaction(path) as connection:
            check_tables(connection, path, _TABLES)
            there = connection.execute(
                "SELECT 1 FROM client_metadata WHERE split_name = ?1 UNION "
                "ALL SELECT 1 FROM examples WHERE split_name = ?1 LIMIT 1",
                (split,),
            ).fetchone()
            if there:
                raise ValueError(
                    f"{path} has a split {split!r} already. Choose another "
                    "name for the split, or remove the file first."
                )
            _insert(connection, dataset, split)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise FormatError(
            f"The split {split!r} cannot be added to {path} ({error}). "
            "Expected no file there, or a SQLite file of TFF's layout that "
            "can be written to."
        ) from error


def write_tff_sqlite(
    dataset: Mapping[str, Any],
    path: str | os.PathLike[str],
    split: str = "train",
) -> None:
    """See `FederatedDataset.to_tff_sqlite`."""
    if not isinstance(split, str) or not split:
        raise ValueError(
            f"split is {split!r}. Expected a name, such as 'train'."
        )
    if not dataset:
        raise ValueError(
            "A data set without clients cannot be written. Expected one."
        )
    path = Path(path)
    if path.exists():
        _append(dataset, path, split)
    else:
        _create(dataset, path, split)
