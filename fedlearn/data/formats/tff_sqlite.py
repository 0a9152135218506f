"""The SQLite files of TensorFlow Federated, read and written.

Table `examples` has a row an example (`split_name`, `client_id`,
`serialized_example_proto`), table `client_metadata` a row a client and split
(`client_id`, `split_name`, `num_examples`).
"""

import contextlib
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
        head = file.read(16)
    if head == _SQLITE_MAGIC:
        yield path
        return
    # A legacy .lzma file has no magic number, but begins with a byte of
    # settings and a dictionary size that is a round number.
    if head[:6] != b"\xfd7zXZ\0" and (head[1:3] != b"\0\0" or len(head) < 13):
        what = "is empty" if not head else f"begins with {head[:8]!r}"
        raise FormatError(
            f"{path} {what}. Expected a SQLite file, plain or compressed "
            "with LZMA (.xz or .lzma)."
        )
    with tempfile.TemporaryDirectory(prefix="fedlearn-", dir=scratch) as folder:
        target = unpack_lzma(path, Path(folder, "plain.sqlite"))
        with open(target, "rb") as file:
            head = file.read(16)
        if head != _SQLITE_MAGIC:
            raise FormatError(
                f"{path} unpacks to a file that begins with {head[:8]!r}. "
                "Expected SQLite."
            )
        yield target


class SqliteSplit:
    """One split of an open file (all, if it is None): who has what."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, split: str | None
    ) -> None:
        self._connection = connection
        self._path = path
        self._where = (
            ("", ()) if split is None else ("WHERE split_name = ?", (split,))
        )
        listed = self._select("SELECT DISTINCT client_id FROM client_metadata")
        ids = checked_ids([i for (i,) in listed], path)
        found = dict(
            self._select(
                "SELECT client_id, COUNT(*) FROM examples", "GROUP BY client_id"
            )
        )
        if odd := found.keys() - set(ids):
            raise FormatError(
                f"{path}: client {next(iter(odd))!r} has examples, but is not "
                "listed in 'client_metadata'."
            )
        if not found:
            raise FormatError(f"{path} has no examples.")
        self.counts = {i: found.get(i, 0) for i in ids}
        for client_id, count in self._select(
            "SELECT client_id, SUM(num_examples) FROM client_metadata",
            "GROUP BY client_id",
        ):
            if count != self.counts[client_id]:
                raise FormatError(
                    f"{path}: client {client_id!r} has {count:,} examples by "
                    "'client_metadata', but "
                    f"{self.counts[client_id]:,} in 'examples'. The file is "
                    "incomplete; make or fetch it again."
                )

    def _select(self, what: str, then: str = "") -> sqlite3.Cursor:
        where, bound = self._where
        return self._connection.execute(f"{what} {where} {then}", bound)

    def chunks(self) -> Iterator[Chunk]:
        """Yields some examples at a time: their places, and their features.

        A place counts the examples of all clients, client after client in
        the order of `counts`, and within one in the order of the file.
        """
        # NOT INDEXED: one pass in the order of the file, instead of a seek
        # for each example. The order of rowids is the order of storage.
        cursor = self._select(
            "SELECT client_id, serialized_example_proto FROM examples "
            "NOT INDEXED"
        )
        ends = np.cumsum([0, *self.counts.values()]).tolist()
        place_of = dict(zip(self.counts, ends[:-1], strict=True))
        end_of = dict(zip(self.counts, ends[1:], strict=True))
        features: dict[str, example_message.Feature] = {}
        while rows := cursor.fetchmany(_ROWS):
            places = np.empty(len(rows), np.int64)
            for k, (client_id, _) in enumerate(rows):
                place = place_of.get(client_id)
                if place is None or place == end_of[client_id]:
                    raise FormatError(
                        f"{self._path}: an index doesn't list the examples of "
                        f"client {client_id!r} that are in the table. The file "
                        "is damaged; make or fetch it again."
                    )
                places[k] = place
                place_of[client_id] = place + 1
            try:
                chunk, features = example_message.decode(
                    [blob for _, blob in rows], features
                )
            except example_message.BadExampleError as error:
                raise FormatError(
                    f"{self._path}: an example of client "
                    f"{rows[error.row][0]!r} cannot be read: {error}"
                ) from error
            order = np.argsort(places)
            yield (
                places[order],
                {name: array[order] for name, array in chunk.items()},
            )


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
        rows = connection.execute(
            "SELECT DISTINCT split_name FROM client_metadata"
        )
        self.names = sorted(str(name) for (name,) in rows)

    def split(self, name: str | None) -> SqliteSplit:
        """One split; all of them, if `name` is None."""
        if name is not None and name not in self.names:
            raise ValueError(
                f"{self._path} has no split {name!r}. Expected one of "
                f"{', '.join(map(repr, self.names))}, or None for all."
            )
        return SqliteSplit(self._connection, self._path, name)


@contextlib.contextmanager
def open_tff_sqlite(
    path: str | os.PathLike[str], scratch: Path | None = None
) -> Iterator[TffSqlite]:
    """An open file of TFF's, plain or under LZMA, while the block lasts.

    A file under LZMA is unpacked in the folder `scratch`, and what is
    unpacked is removed after the block.
    """
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
        found = file.split(split)
        offsets = np.cumsum([0, *found.counts.values()])
        columns = fill_columns(found.chunks(), np.empty, int(offsets[-1]))
    return ClientColumns(tuple(found.counts), offsets, columns)


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
                "array under each name; make it a flat dict of features with "
                "map first, as in ds.map(lambda c: {'a': c[0]['a'], 'y': "
                "c[1]})."
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
        raise ValueError(
            "The data set has no examples. Expected at least one: the file "
            "could not be read again."
        )


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
