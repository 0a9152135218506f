"""The SQLite files of TensorFlow Federated.

Table `examples` has a row an example (`split_name`, `client_id`,
`serialized_example_proto`), table `client_metadata` a row a client and split
(`client_id`, `split_name`, `num_examples`).
"""

import contextlib
import lzma
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fedlearn.data import example_proto as proto
from fedlearn.data.format_error import FormatError
from fedlearn.data.sources import FlatArrays

_SQLITE_MAGIC = b"SQLite format 3\0"
_XZ_MAGIC = b"\xfd7zXZ\0"
_CHUNK_BYTES = 1 << 20

# Rows that are decoded together: enough to make NumPy's cost per call small,
# few enough to stay in tens of megabytes.
_ROWS = 1024

# Narrowest first.
_INT_DTYPES = [np.dtype(d) for d in ("uint8", "int16", "int32", "int64")]


def _decompress(path: Path, target: Path) -> None:
    try:
        # Tells .xz from the older .lzma container by itself.
        with lzma.open(path) as packed, open(target, "wb") as plain:
            shutil.copyfileobj(packed, plain, _CHUNK_BYTES)
    except EOFError as error:
        raise FormatError(
            f"{path} is cut short: its LZMA stream has no end. Fetch the "
            "file again."
        ) from error
    except lzma.LZMAError as error:
        raise FormatError(
            f"{path} is a damaged LZMA file ({error}). Fetch it again."
        ) from error


@contextlib.contextmanager
def _plain_database(path: Path) -> Iterator[Path]:
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
    with tempfile.TemporaryDirectory(prefix="fedlearn-") as folder:
        target = Path(folder, "plain.sqlite")
        _decompress(path, target)
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
    columns: set[str] = set()
    for table, names in needed.items():
        rows = connection.execute(f"PRAGMA table_info({table})").fetchall()
        columns = {row[1] for row in rows}
        if not columns:
            raise FormatError(
                f"{path} has no table {table!r}. Expected TFF's tables "
                "'examples' and 'client_metadata'."
            )
        if names - columns:
            raise FormatError(
                f"{path}: table {table!r} has no column "
                f"{', '.join(map(repr, sorted(names - columns)))}; it has "
                f"{', '.join(map(repr, sorted(columns)))}."
            )
    return "num_examples" in columns


def _clients(
    connection: sqlite3.Connection, path: Path, split: str | None
) -> dict[str, int]:
    """Number of examples by client id, sorted."""
    has_counts = _check_schema(connection, path)
    splits = [
        name
        for (name,) in connection.execute(
            "SELECT DISTINCT split_name FROM client_metadata"
        )
    ]
    if split is not None and split not in splits:
        raise ValueError(
            f"{path} has no split {split!r}. Expected one of "
            f"{', '.join(map(repr, sorted(splits)))}, or None for all."
        )
    where, bound = (
        ("", ()) if split is None else ("WHERE split_name = ?", (split,))
    )
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
    for client_id, count in stated.items():
        if count is not None and count != found.get(client_id, 0):
            raise FormatError(
                f"{path}: client {client_id!r} has {count:,} examples by "
                f"'client_metadata', but {found.get(client_id, 0):,} in "
                "'examples'. The file is incomplete; make or fetch it again."
            )
    if found.keys() - stated.keys():
        raise FormatError(
            f"{path}: client {min(found.keys() - stated.keys())!r} has "
            "examples, but is not listed in 'client_metadata'."
        )
    return {i: found.get(i, 0) for i in sorted(stated)}


class _Column:
    """One feature of all examples, filled chunk by chunk."""

    def __init__(self, name: str, kind: int, total: int) -> None:
        self.name = name
        self.kind = kind
        self.pending: list[Any] = []
        self._total = total
        self._values: np.ndarray | None = None

    def _decode(self) -> np.ndarray:
        """The pending values, as an array of `(rows, length)`."""
        rows = len(self.pending)
        if self.kind == proto.BYTES:
            lengths = {len(values) for values in self.pending}
            self._check_lengths(lengths)
            chunk = np.empty((rows, lengths.pop()), object)
            for row, values in enumerate(self.pending):
                chunk[row] = values
            return chunk
        data = b"".join(self.pending)
        if self.kind == proto.FLOAT:
            sizes = {len(part) for part in self.pending}
            if any(size % 4 for size in sizes):
                raise ValueError("a list of float that ends within a number")
            self._check_lengths({size // 4 for size in sizes})
            return proto.decode_floats(data).reshape(rows, -1)
        numbers = proto.decode_ints(data)
        # Each example must have the same share of them, which is so if every
        # example's bytes end where that share ends.
        if len(data) == len(numbers):
            lengths = {len(part) for part in self.pending}
        else:
            lengths = {proto.count_ints(part) for part in self.pending}
            if any(part and part[-1] >= 0x80 for part in self.pending):
                raise ValueError("a list of int64 that ends within a number")
        self._check_lengths(lengths)
        return numbers.reshape(rows, -1)

    def _check_lengths(self, lengths: set[int]) -> None:
        if self._values is not None:
            lengths = lengths | {self._values.shape[1]}
        if len(lengths) > 1:
            raise ValueError(
                f"feature {self.name!r} has {min(lengths)} values in some "
                f"examples and {max(lengths)} in others, so that they "
                "cannot be stacked"
            )

    def flush(self, places: np.ndarray) -> None:
        """Moves the pending values to their places in the whole."""
        chunk = self._decode()
        self.pending.clear()
        if self.kind == proto.INT64 and chunk.size:
            low, high = int(chunk.min()), int(chunk.max())
            dtype = next(
                d
                for d in _INT_DTYPES
                if np.iinfo(d).min <= low and high <= np.iinfo(d).max
            )
        else:
            dtype = chunk.dtype if self.kind != proto.INT64 else _INT_DTYPES[0]
        if self._values is None:
            self._values = np.empty((self._total, chunk.shape[1]), dtype)
        elif self.kind == proto.INT64:
            widest = max(dtype, self._values.dtype, key=_INT_DTYPES.index)
            self._values = self._values.astype(widest, copy=False)
        self._values[places] = chunk

    def values(self) -> np.ndarray:
        assert self._values is not None
        if self._values.shape[1] == 1:
            return self._values[:, 0]
        return self._values

    def dtype(self) -> np.dtype:
        return {
            proto.BYTES: np.dtype(object),
            proto.FLOAT: np.dtype(np.float32),
            proto.INT64: np.dtype(np.int64),
        }[self.kind]


def _place(
    columns: dict[str, _Column],
    rows: list[tuple[str, bytes]],
    next_place: dict[str, int],
    total: int,
) -> None:
    """Decodes rows and puts each into its client's part of the columns."""
    places = np.empty(len(rows), np.int64)
    for k, (client_id, blob) in enumerate(rows):
        try:
            if not isinstance(blob, bytes):
                raise ValueError(
                    f"it is of type {type(blob).__name__}, not a blob"
                )
            features = proto.parse_example(blob)
            if not columns:
                for name in sorted(features):
                    kind = features[name][0]
                    columns[name] = _Column(name, kind, total)
            if features.keys() != columns.keys():
                raise ValueError(
                    f"it has the features {sorted(features)}, while the "
                    f"examples before it have {sorted(columns)}"
                )
            for name, (kind, values) in features.items():
                column = columns[name]
                if kind != column.kind:
                    raise ValueError(
                        f"feature {name!r} holds {proto.KIND_NAMES[kind]}, "
                        "while in the examples before it it holds "
                        f"{proto.KIND_NAMES[column.kind]}"
                    )
                column.pending.append(values)
        except ValueError as error:
            raise FormatError(
                f"an example of client {client_id!r} cannot be read: {error}"
            ) from error
        places[k] = next_place[client_id]
        next_place[client_id] += 1
    for column in columns.values():
        try:
            column.flush(places)
        except ValueError as error:
            raise FormatError(
                f"between an example of client {rows[0][0]!r} and one of "
                f"client {rows[-1][0]!r}: {error}"
            ) from error


def _read(
    connection: sqlite3.Connection, path: Path, split: str | None
) -> FlatArrays:
    counts = _clients(connection, path, split)
    sizes = np.fromiter(counts.values(), np.int64, len(counts))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    total = int(offsets[-1])
    next_place = dict(zip(counts, offsets.tolist(), strict=False))
    if not total:
        raise FormatError(f"{path} has no examples.")
    # NOT INDEXED: one pass in the order of the file, instead of a seek for
    # each example. The order of rowids is the order of storage.
    where, bound = (
        ("", ()) if split is None else ("WHERE split_name = ?", (split,))
    )
    cursor = connection.execute(
        "SELECT client_id, serialized_example_proto FROM examples "
        f"NOT INDEXED {where}",
        bound,
    )
    columns: dict[str, _Column] = {}
    while rows := cursor.fetchmany(_ROWS):
        try:
            _place(columns, rows, next_place, total)
        except FormatError as error:
            raise FormatError(f"{path}: {error}") from error.__cause__
    if not columns:
        raise FormatError(f"{path}: the examples have no features.")
    return FlatArrays(
        tuple(counts),
        offsets,
        {name: column.values() for name, column in columns.items()},
        {name: column.dtype() for name, column in columns.items()},
    )


def read_tff_sqlite(
    path: str | os.PathLike[str], split: str | None
) -> FlatArrays:
    """See `FederatedDataset.from_tff_sqlite`."""
    path = Path(path)
    if path.is_dir():
        raise FormatError(f"{path} is a folder. Expected a SQLite file.")
    with _plain_database(path) as plain:
        uri = f"{plain.resolve().as_uri()}?mode=ro"
        try:
            with contextlib.closing(
                sqlite3.connect(uri, uri=True)
            ) as connection:
                return _read(connection, path, split)
        except sqlite3.Error as error:
            raise FormatError(
                f"{path} cannot be read as SQLite ({error}). It may be cut "
                "short or damaged; fetch it again."
            ) from error
