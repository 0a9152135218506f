"""The SQLite files of FedJAX: a row a client.

Table `federated_data` has the columns `client_id` (blob), `data` (blob: the
client's arrays, packed with MessagePack and compressed with zlib) and
`num_examples`.
"""

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedlearn.data import element as el
from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.formats.one_by_one import OneByOne, checked_ids
from fedlearn.data.formats.packed_arrays import unpack_arrays
from fedlearn.data.formats.sqlite_tables import check_tables
from fedlearn.data.formats.unpacked import most_unpacked

_SQLITE_MAGIC = b"SQLite format 3\0"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    if path.is_dir():
        raise FormatError(f"{path} is a folder. Expected a SQLite file.")
    with open(path, "rb") as file:
        head = file.read(16)
    if head != _SQLITE_MAGIC:
        what = "is empty" if not head else f"begins with {head[:8]!r}"
        raise FormatError(f"{path} {what}. Expected a SQLite file.")
    uri = f"{path.resolve().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            yield connection
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise FormatError(
            f"{path} cannot be read as SQLite ({error}). It may be cut short "
            "or damaged; fetch it again."
        ) from error


def _decompress(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    most = most_unpacked(len(data))
    try:
        plain = unpacker.decompress(data, most)
    except zlib.error as error:
        raise ValueError(f"its data is no zlib stream ({error})") from error
    if unpacker.unconsumed_tail:
        raise ValueError(
            f"its {len(data):,} bytes unpack to more than {most:,}"
        )
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("its data is no whole zlib stream")
    return plain


def _element(data: Any, num_examples: int) -> el.Element:
    if not isinstance(data, bytes):
        raise ValueError(f"its data is of type {type(data).__name__}")
    element = unpack_arrays(_decompress(data))
    if not element:
        raise ValueError("it has no features")
    for name, array in element.items():
        if len(array) != num_examples:
            raise ValueError(
                f"feature {name!r} has {len(array):,} examples, but "
                f"'num_examples' is {num_examples:,}"
            )
    return element


class _FedJAXClients(OneByOne):
    """The clients of one file."""

    def _row(self, client_id: str, columns: str) -> tuple[Any, ...]:
        with _opened(self._path) as connection:
            row = connection.execute(
                f"SELECT {columns} FROM federated_data WHERE client_id = ?",
                (client_id.encode(),),
            ).fetchone()
        if row is None:
            raise FormatError(
                f"{self._path} lists client {client_id!r}, but has no row "
                "for it: it is damaged, or has changed since it was opened."
            )
        if not isinstance(row[0], int) or row[0] < 0:
            raise FormatError(
                f"{self._path}: client {client_id!r} has {row[0]!r} as "
                "'num_examples'. Expected an integer of 0 or more."
            )
        return row

    def num_examples(self, client_id: str) -> int:
        return int(self._row(client_id, "num_examples")[0])

    def _read(self, client_id: str) -> el.Element:
        count, data = self._row(client_id, "num_examples, data")
        try:
            return _element(data, count)
        except ValueError as error:
            raise FormatError(
                f"{self._path}: client {client_id!r} cannot be read: "
                f"{error}. Expected arrays packed by FedJAX."
            ) from error


def read_fedjax_sqlite(path: str | os.PathLike[str]) -> OneByOne:
    """See `FederatedDataset.from_fedjax_sqlite`."""
    path = Path(path)
    with _opened(path) as connection:
        check_tables(
            connection,
            path,
            {"federated_data": {"client_id", "data", "num_examples"}},
        )
        # The primary key's index holds all ids, so that no data is read.
        rows = connection.execute("SELECT client_id FROM federated_data")
        ids = []
        for (key,) in rows:
            try:
                if not isinstance(key, bytes):
                    raise ValueError(f"of type {type(key).__name__}")
                ids.append(key.decode("utf-8"))
            except ValueError as error:
                raise FormatError(
                    f"{path}: the client id {key!r} is not read ({error}). "
                    "Expected a blob of UTF-8."
                ) from error
    return _FedJAXClients(path, checked_ids(ids, path))
