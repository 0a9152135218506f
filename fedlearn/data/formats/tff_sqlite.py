"""The SQLite files of TensorFlow Federated.

Table `examples` has a row an example (`split_name`, `client_id`,
`serialized_example_proto`), table `client_metadata` a row a client and split
(`client_id`, `split_name`, `num_examples`).
"""

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fedlearn.data.columns import Column, MemoryStorage, column_for
from fedlearn.data.fetching.archive import unpack_lzma
from fedlearn.data.formats import example_proto as proto
from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.formats.one_by_one import checked_ids
from fedlearn.data.formats.sqlite_tables import check_tables
from fedlearn.data.sources import ClientColumns

_SQLITE_MAGIC = b"SQLite format 3\0"
_XZ_MAGIC = b"\xfd7zXZ\0"

# What a compressed file may unpack to: this many times its size (EMNIST: 28
# times), but in any case so many bytes.
_MAX_RATIO = 200
_MIN_UNPACKED = 10**9

# Rows that are decoded together: enough to make NumPy's cost per call small,
# few enough to stay in tens of megabytes.
_ROWS = 1024


@contextlib.contextmanager
def _plain_database(path: Path, scratch: Path | None) -> Iterator[Path]:
    """The path of the uncompressed file, for as long as it is needed."""
    with open(path, "rb") as file:
        head = file.read(16)
    if head == _SQLITE_MAGIC:
        yield path
        return
    # A legacy .lzma file has no magic number, but begins with a byte of
    # settings below 225 and a dictionary size that is 2^n or 2^n + 2^(n-1).
    size = int.from_bytes(head[1:5], "little")
    legacy = len(head) > 12 and head[0] < 225
    legacy = legacy and (size & (size - 1) == 0 or size % 3 == 0)
    if not head.startswith(_XZ_MAGIC) and not legacy:
        what = "is empty" if not head else f"begins with {head[:8]!r}"
        raise FormatError(
            f"{path} {what}. Expected a SQLite file, plain or compressed "
            "with LZMA (.xz or .lzma)."
        )
    limit = max(_MIN_UNPACKED, _MAX_RATIO * path.stat().st_size)
    with tempfile.TemporaryDirectory(prefix="fedlearn-", dir=scratch) as folder:
        target = unpack_lzma(path, Path(folder, "plain.sqlite"), limit)
        with open(target, "rb") as file:
            head = file.read(16)
        if head != _SQLITE_MAGIC:
            raise FormatError(
                f"{path} unpacks to a file that begins with {head[:8]!r}. "
                "Expected SQLite."
            )
        yield target


def _check_schema(connection: sqlite3.Connection, path: Path) -> bool:
    """Raises if TFF's tables are missing; says if counts are there."""
    needed = {
        "examples": {"split_name", "client_id", "serialized_example_proto"},
        "client_metadata": {"client_id", "split_name"},
    }
    check_tables(connection, path, needed)
    rows = connection.execute("PRAGMA table_info(client_metadata)").fetchall()
    return "num_examples" in {row[1] for row in rows}


def _clients(
    connection: sqlite3.Connection,
    path: Path,
    split: str | None,
    has_counts: bool,
) -> dict[str, int]:
    """Number of examples by client id, sorted."""
    where, bound = _where(split)
    total = "SUM(num_examples)" if has_counts else "NULL"
    stated = dict(
        connection.execute(
            f"SELECT client_id, {total} FROM client_metadata {where} "
            "GROUP BY client_id",
            bound,
        ).fetchall()
    )
    found = dict(
        connection.execute(
            f"SELECT client_id, COUNT(*) FROM examples {where} "
            "GROUP BY client_id",
            bound,
        ).fetchall()
    )
    if not stated:
        raise FormatError(f"{path} lists no clients in 'client_metadata'.")
    ids = checked_ids(stated, path)
    for client_id, count in stated.items():
        if count is not None and count != found.get(client_id, 0):
            raise FormatError(
                f"{path}: client {client_id!r} has {count:,} examples by "
                f"'client_metadata', but {found.get(client_id, 0):,} in "
                "'examples'. The file is incomplete; make or fetch it again."
            )
    if odd := found.keys() - stated.keys():
        raise FormatError(
            f"{path}: client {next(iter(odd))!r} has "
            "examples, but is not listed in 'client_metadata'."
        )
    return {i: found.get(i, 0) for i in ids}


def _decode(name: str, kind: int, pending: list[Any]) -> np.ndarray:
    """One feature of some examples, as an array of `(rows, length)`."""
    rows = len(pending)
    if kind == proto.BYTES:
        length = _one_length(name, {len(values) for values in pending})
        chunk = np.empty((rows, length), object)
        for row, values in enumerate(pending):
            chunk[row] = values
        return chunk
    data = b"".join(pending)
    if kind == proto.FLOAT:
        sizes = {len(part) for part in pending}
        if any(size % 4 for size in sizes):
            raise ValueError("a list of float that ends within a number")
        length = _one_length(name, {size // 4 for size in sizes})
        return proto.decode_floats(data).reshape(rows, length)
    numbers = proto.decode_ints(data)
    # Each example must have the same share of them, which is so if every
    # example's bytes end where that share ends.
    if len(data) == len(numbers):
        lengths = {len(part) for part in pending}
    else:
        lengths = {proto.count_ints(part) for part in pending}
        if any(part and part[-1] >= 0x80 for part in pending):
            raise ValueError("a list of int64 that ends within a number")
    return numbers.reshape(rows, _one_length(name, lengths))


def _one_length(name: str, lengths: set[int]) -> int:
    if len(lengths) > 1:
        raise ValueError(
            f"feature {name!r} has {min(lengths)} values in some examples "
            f"and {max(lengths)} in others, so that they cannot be stacked"
        )
    return lengths.pop()


class _Decoder:
    """Turns rows of the table into arrays, which are alike in all chunks."""

    def __init__(self) -> None:
        # Kind of each feature, and number of values that an example has.
        self._kinds: dict[str, int] = {}
        self._lengths: dict[str, int] = {}

    def arrays(self, rows: list[tuple[str, bytes]]) -> dict[str, np.ndarray]:
        """Some (client id, serialized example), as `(rows, length)` arrays;
        `(rows,)` where each example has one value."""
        pending = self._parse(rows)
        chunk = {}
        try:
            for name, values in pending.items():
                array = _decode(name, self._kinds[name], values)
                length = self._lengths.setdefault(name, array.shape[1])
                _one_length(name, {length, array.shape[1]})
                chunk[name] = array[:, 0] if length == 1 else array
        except ValueError as error:
            raise FormatError(
                f"between an example of client {rows[0][0]!r} and one of "
                f"client {rows[-1][0]!r}: {error}"
            ) from error
        return chunk

    def _parse(self, rows: list[tuple[str, bytes]]) -> dict[str, list[Any]]:
        pending: dict[str, list[Any]] = {name: [] for name in self._kinds}
        for client_id, blob in rows:
            try:
                if not isinstance(blob, bytes):
                    raise ValueError(
                        f"it is of type {type(blob).__name__}, not a blob"
                    )
                features = proto.parse_example(blob)
                if not self._kinds:
                    self._kinds = {n: features[n][0] for n in sorted(features)}
                    pending = {name: [] for name in self._kinds}
                self._check_alike(features)
            except ValueError as error:
                raise FormatError(
                    f"an example of client {client_id!r} cannot be read: "
                    f"{error}"
                ) from error
            for name, (_, values) in features.items():
                pending[name].append(values)
        return pending

    def _check_alike(self, features: dict[str, proto.Feature]) -> None:
        if not features:
            raise ValueError("it has no features")
        if features.keys() != self._kinds.keys():
            raise ValueError(
                f"it has the features {sorted(features)}, while the "
                f"examples before it have {sorted(self._kinds)}"
            )
        for name, (kind, _) in features.items():
            if kind != self._kinds[name]:
                raise ValueError(
                    f"feature {name!r} holds {proto.KIND_NAMES[kind]}, "
                    "while in the examples before it it holds "
                    f"{proto.KIND_NAMES[self._kinds[name]]}"
                )


class SqliteSplit:
    """One split of an open file: how many examples who has, and what.

    Args:
        connection: To a file of TFF's.
        path: What messages call it.
        split: The split's name; None for all of them.
        counts: Number of examples by client id, sorted.

    Raises:
        FormatError: If there are no examples.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        split: str | None,
        counts: dict[str, int],
    ) -> None:
        self.path = path
        self.counts = counts
        self._connection = connection
        self._split = split
        if not sum(self.counts.values()):
            raise FormatError(f"{path} has no examples.")

    def chunks(self) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yields some examples at a time: their places, and their features.

        A place counts the examples of all clients, client after client in
        the order of `counts`, and within one in the order of the file.
        Places increase within a chunk. All chunks together are every
        example once.
        """
        # NOT INDEXED: one pass in the order of the file, instead of a seek
        # for each example. The order of rowids is the order of storage.
        where, bound = _where(self._split)
        cursor = self._connection.execute(
            "SELECT client_id, serialized_example_proto FROM examples "
            f"NOT INDEXED {where}",
            bound,
        )
        sizes = np.fromiter(self.counts.values(), np.int64, len(self.counts))
        stops = np.cumsum(sizes)
        next_place = dict(
            zip(self.counts, (stops - sizes).tolist(), strict=True)
        )
        ends = dict(zip(self.counts, stops.tolist(), strict=True))
        decoder = _Decoder()
        while rows := cursor.fetchmany(_ROWS):
            places = np.empty(len(rows), np.int64)
            for k, (client_id, _) in enumerate(rows):
                place = next_place.get(client_id)
                if place is None or place == ends[client_id]:
                    raise self._disagreement(client_id)
                places[k] = place
                next_place[client_id] += 1
            try:
                chunk = decoder.arrays(rows)
            except FormatError as error:
                raise FormatError(f"{self.path}: {error}") from error.__cause__
            if (places[1:] < places[:-1]).any():
                order = np.argsort(places)
                places = places[order]
                chunk = {name: array[order] for name, array in chunk.items()}
            yield places, chunk
        for client_id, place in next_place.items():
            if place != ends[client_id]:
                raise self._disagreement(client_id)

    def _disagreement(self, client_id: str) -> FormatError:
        return FormatError(
            f"{self.path}: an index does not list the examples of client "
            f"{client_id!r} that are in the table. The file is damaged; "
            "make or fetch it again."
        )


def _where(split: str | None) -> tuple[str, tuple[str, ...]]:
    return ("", ()) if split is None else ("WHERE split_name = ?", (split,))


class TffSqlite:
    """An open file.

    Args:
        connection: To it.
        path: What messages call it.

    Raises:
        FormatError: If tables or columns are missing.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._has_counts = _check_schema(connection, path)

    @property
    def names(self) -> list[str]:
        """The splits, sorted."""
        rows = self._connection.execute(
            "SELECT DISTINCT split_name FROM client_metadata"
        )
        names = [name for (name,) in rows]
        if not all(isinstance(name, str) for name in names):
            raise FormatError(
                f"{self._path} has splits named {names}. Expected text."
            )
        return sorted(names)

    def split(self, name: str | None) -> SqliteSplit:
        """One split; all of them, if `name` is None.

        Raises:
            ValueError: If there is no such split.
            FormatError: If it has no examples, or not those it should have.
        """
        if name is not None and name not in self.names:
            raise ValueError(
                f"{self._path} has no split {name!r}. Expected one of "
                f"{', '.join(map(repr, self.names))}, or None for all."
            )
        counts = _clients(self._connection, self._path, name, self._has_counts)
        return SqliteSplit(self._connection, self._path, name, counts)


@contextlib.contextmanager
def open_tff_sqlite(
    path: str | os.PathLike[str], scratch: Path | None = None
) -> Iterator[TffSqlite]:
    """An open file of TFF's, for as long as the block lasts.

    Args:
        path: The file, plain or under LZMA.
        scratch: Folder where a file under LZMA is unpacked; what is unpacked
            is removed after the block.

    Raises:
        FormatError: If it is cut short, damaged, or no such file.
    """
    path = Path(path)
    if path.is_dir():
        raise FormatError(f"{path} is a folder. Expected a SQLite file.")
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
        ends = np.cumsum([*found.counts.values()])
        total = int(ends[-1])
        storage = MemoryStorage()
        columns: dict[str, Column] = {}
        for places, chunk in found.chunks():
            for name, array in chunk.items():
                if name not in columns:
                    columns[name] = column_for(array, storage, total)
                columns[name].put(places, array)
    offsets = np.concatenate([[0], ends])
    return ClientColumns(tuple(found.counts), offsets, columns)
