"""The SQLite files of TensorFlow Federated, read and written.

Table `examples` has a row an example (`split_name`, `client_id`,
`serialized_example_proto`), table `client_metadata` a row a client and split
(`client_id`, `split_name`, `num_examples`).
"""

import contextlib
import itertools
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedlearn.data import element as el
from fedlearn.data.columns import Chunk, fill_columns
from fedlearn.data.fetching.archive import unpack_lzma
from fedlearn.data.formats import example_message
from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.formats.one_by_one import checked_ids
from fedlearn.data.sources import ClientColumns

_SQLITE_MAGIC = b"SQLite format 3\0"

# Rows that are decoded together: enough to make NumPy's cost per call small,
# few enough to stay in tens of megabytes.
_ROWS = 1024

_TABLES = {
    "examples": "split_name TEXT NOT NULL, client_id TEXT NOT NULL, "
    "serialized_example_proto BLOB NOT NULL",
    "client_metadata": "client_id TEXT NOT NULL, split_name TEXT NOT NULL, "
    "num_examples INTEGER NOT NULL",
}
_INDICES = {
    "idx_examples_client_id": "examples (client_id)",
    "idx_examples_client_id_split": "examples (split_name, client_id)",
    "idx_metadata_client_id": "client_metadata (client_id)",
}


@contextlib.contextmanager
def _plain_database(path: Path, scratch: Path | None) -> Iterator[Path]:
    """The path of the uncompressed file, for as long as it is needed."""
    if path.is_dir():
        raise FormatError(f"{path} is a folder. Expected a SQLite file.")
    with open(path, "rb") as file:
        if file.read(16) == _SQLITE_MAGIC:
            yield path
            return
    with tempfile.TemporaryDirectory(prefix="fedlearn-", dir=scratch) as folder:
        yield unpack_lzma(path, Path(folder, "plain.sqlite"))


class TffSqlite:
    """An open file, which messages call `path`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        for table in _TABLES:
            # A view has no first page: what it holds is a program of the
            # file's author.
            if not connection.execute(
                "SELECT 1 FROM sqlite_master WHERE name = ? AND rootpage > 0",
                (table,),
            ).fetchone():
                raise FormatError(
                    f"{path} has no table {table!r}. Expected the tables "
                    f"{' and '.join(map(repr, _TABLES))}."
                )
        self._connection = connection
        self._path = path
        names = self._select("DISTINCT split_name FROM client_metadata", None)
        self.names = sorted(str(name) for (name,) in names)

    def _select(
        self, what: str, split: str | None, then: str = ""
    ) -> sqlite3.Cursor:
        where = "" if split is None else "WHERE split_name = :split"
        return self._connection.execute(
            f"SELECT {what} {where} {then}", {"split": split}
        )

    def read(self, split: str | None) -> tuple[dict[str, int], Iterator[Chunk]]:
        """How many examples each client of a split has, and all examples,
        in the order of the file; their places count client after client.
        """
        if split is not None and split not in self.names:
            raise ValueError(
                f"{self._path} has no split {split!r}. Expected one of "
                f"{', '.join(map(repr, self.names))}, or None for all."
            )
        counts = self._counts(split)
        return counts, self._chunks(split, counts)

    def _counts(self, split: str | None) -> dict[str, int]:
        path, then = self._path, "GROUP BY client_id"
        what = "client_id, COALESCE(SUM(num_examples), 0) FROM client_metadata"
        listed = dict(self._select(what, split, then))
        ids = checked_ids(listed, path)
        found = dict(
            self._select("client_id, COUNT(*) FROM examples", split, then)
        )
        if not found:
            raise FormatError(f"{path} has no examples.")
        for client_id in [*ids, *(found.keys() - listed.keys())]:
            promised = listed.get(client_id, 0)
            if promised != found.get(client_id, 0):
                raise FormatError(
                    f"{path}: client {client_id!r} has {promised:,} examples "
                    f"by 'client_metadata', but {found.get(client_id, 0):,} in "
                    "'examples'. The file is incomplete; make or fetch it "
                    "again."
                )
        return {i: found.get(i, 0) for i in ids}

    def _chunks(
        self, split: str | None, counts: Mapping[str, int]
    ) -> Iterator[Chunk]:
        # NOT INDEXED: one pass in the order of the file, instead of a seek
        # for each example. The order of rowids is the order of storage.
        what = "client_id, serialized_example_proto FROM examples NOT INDEXED"
        cursor = self._select(what, split)
        ends = np.cumsum([0, *counts.values()]).tolist()
        left = {
            i: iter(range(*place))
            for i, place in zip(counts, itertools.pairwise(ends), strict=True)
        }
        features: dict[str, example_message.Feature] = {}
        while rows := cursor.fetchmany(_ROWS):
            places = [next(left.get(i, iter(())), -1) for i, _ in rows]
            if -1 in places:
                raise FormatError(
                    f"{self._path}: an index doesn't list the examples of "
                    f"client {rows[places.index(-1)][0]!r} that are in the "
                    "table. The file is damaged; make or fetch it again."
                )
            try:
                chunk, features = example_message.decode(rows, features)
            except ValueError as error:
                raise FormatError(f"{self._path}: {error}") from error
            order = np.argsort(places)
            yield np.array(places)[order], el.take(chunk, order)


@contextlib.contextmanager
def open_tff_sqlite(
    path: str | os.PathLike[str], scratch: Path | None = None
) -> Iterator[TffSqlite]:
    """An open file of TFF's while the block lasts, unpacked in `scratch`."""
    path = Path(path)
    with _plain_database(path, scratch) as plain:
        uri = f"{plain.resolve().as_uri()}?mode=ro"
        try:
            with contextlib.closing(
                sqlite3.connect(uri, uri=True)
            ) as connection:
                yield TffSqlite(connection, path)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise FormatError(
                f"{path} cannot be read as SQLite ({error}). It may be cut "
                "short or damaged; fetch it again."
            ) from error


def read_tff_sqlite(
    path: str | os.PathLike[str], split: str | None
) -> ClientColumns:
    """See `FederatedDataset.from_tff_sqlite`."""
    with open_tff_sqlite(path) as file:
        counts, chunks = file.read(split)
        offsets = np.cumsum([0, *counts.values()])
        columns = fill_columns(chunks, np.zeros, int(offsets[-1]))
    return ClientColumns(tuple(counts), offsets, columns)


def _insert(
    connection: sqlite3.Connection, dataset: Mapping[str, Any], split: str
) -> None:
    """Adds all clients, one after the other."""
    spec, other = None, ""
    for client_id in dataset:
        who = f"Client {client_id!r}"
        features = dataset[client_id]
        if not isinstance(features, Mapping):
            features = dict(zip(el.PARTS, features, strict=False))
        if not all(isinstance(a, np.ndarray) for a in features.values()):
            raise ValueError(
                f"{who}: {features.keys()} hold dicts or tuples. Expected one "
                "array each; make it a flat dict with map first, as in "
                "ds.map(lambda c: {'a': c[0]['a'], 'y': c[1]})."
            )
        count = el.num_examples(features)
        if count:
            mine = el.spec_of(features)
            if spec is None:
                spec, other = mine, f"client {client_id!r}"
            el.common_spec(mine, who, spec, other, same=True)
            try:
                blobs = example_message.encode(features)
            except ValueError as error:
                raise ValueError(f"{who}: {error}") from error
            connection.executemany(
                "INSERT INTO examples VALUES (?, ?, ?)",
                ((split, client_id, blob) for blob in blobs),
            )
        connection.execute(
            "INSERT INTO client_metadata VALUES (?, ?, ?)",
            (client_id, split, count),
        )
    if spec is None:
        raise ValueError("The data set has no examples. Expected some.")


def write_tff_sqlite(
    dataset: Mapping[str, Any],
    path: str | os.PathLike[str],
    split: str = "train",
) -> None:
    """See `FederatedDataset.to_tff_sqlite`; all is written, or nothing."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent}.")
    is_new = not path.exists()
    try:
        with contextlib.closing(
            sqlite3.connect(path, isolation_level=None)
        ) as connection:
            # SQLite undoes what isn't committed.
            connection.execute("BEGIN IMMEDIATE")
            if is_new:
                for table, columns in _TABLES.items():
                    connection.execute(f"CREATE TABLE {table} ({columns})")
            if split in TffSqlite(connection, path).names:
                raise ValueError(
                    f"{path} has a split {split!r} already. Choose another "
                    "name for the split, or remove the file first."
                )
            _insert(connection, dataset, split)
            if is_new:
                # After the rows: sorting them once is quicker.
                for name, where in _INDICES.items():
                    connection.execute(f"CREATE INDEX {name} ON {where}")
            connection.execute("COMMIT")
    except BaseException as error:
        if is_new:
            path.unlink(missing_ok=True)
        if not isinstance(error, sqlite3.Error):
            raise
        raise FormatError(
            f"The split {split!r} cannot be added to {path} ({error}). "
            "Expected no file there, or a SQLite file of TFF's layout that "
            "can be written to."
        ) from error
