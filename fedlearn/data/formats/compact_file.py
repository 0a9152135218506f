"""The compact file: every client's examples, one slice away.

An HDF5 file, so that other programs read it too::

    attributes   format = "fedlearn clients", version = 2, checksum
    about        JSON in UTF-8, as uint8: an object of
                 structure, the structure of an element with the number of a
                 group in place of each array;
                 dtypes, what the groups are handed out as, a list in the
                 order of their numbers: of NumPy, or "bytes" or "str";
                 class_names, a list, or null where labels have no names
    checksums    uint32, one a client: of its arrays
    client_ids   bytes (uint8, the ids in UTF-8, end to end)
                 ends (int64, one a client)
    ends         int64, one a client: where its examples end
    arrays/0...  one group for each array of an element:
      numbers    values, of shape (examples, ...), and for floats kept as
                 bytes table, the 256 values that they stand for
      text       starts and lengths, of shape (examples, ...), and pool, the
                 bytes that they point into

Checksums are CRC-32: of a client's arrays as they are handed out
(`fedlearn.data.checksum`), compared when it is first read, since it takes
nearly as long as reading and a run reads a client many times; and, in
`checksum`, of all else that the file says, compared when it is opened.
"""

import itertools
import json
import os
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fedlearn.data import element as el
from fedlearn.data.checksum import checksum
from fedlearn.data.class_names import check_class_names
from fedlearn.data.columns import (
    Chunk,
    Column,
    NumberColumn,
    TextColumn,
    fill_columns,
)
from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.sources import ClientColumns, Source
from fedlearn.runs import atomic_file

FORMAT = "fedlearn clients"
VERSION = 2

# Texts become longer by so many bytes at a time.
_GROWTH = 1 << 14


def _rest_checksum(
    ids: Sequence[str],
    about: np.ndarray,
    ends: np.ndarray,
    checksums: np.ndarray,
) -> int:
    """CRC-32 of what a file says beside its arrays."""
    value = zlib.crc32(json.dumps(ids).encode())
    for numbers in (about, ends.astype("<i8"), checksums.astype("<u4")):
        value = zlib.crc32(numbers.tobytes(), value)
    return value


def _to_json(structure: Any) -> Any:
    """JSON has no tuples, and would turn them into lists."""
    if isinstance(structure, dict):
        if odd := [key for key in structure if not isinstance(key, str)]:
            raise TypeError(f"Feature {odd[0]!r} has no text for a name.")
        return {"dict": [[k, _to_json(v)] for k, v in structure.items()]}
    if isinstance(structure, (tuple, list)):
        kind = "list" if isinstance(structure, list) else "tuple"
        return {kind: [_to_json(item) for item in structure]}
    return structure


def _from_json(value: Any) -> Any:
    if isinstance(value, int):
        return value
    ((kind, items),) = value.items()
    if kind == "dict":
        return {str(key): _from_json(item) for key, item in items}
    inner = [_from_json(item) for item in items]
    return inner if kind == "list" else tuple(inner)


def _name_column(group: Any, column: Column) -> str:
    """Gives a column's arrays their names; returns what it hands out."""
    if isinstance(column, TextColumn):
        group["starts"] = column.starts
        group["lengths"] = column.lengths
        group["pool"] = column.pool
        return "str" if column.text else "bytes"
    group["values"] = column.values
    if column.table is not None:
        group["table"] = column.table
    return column.dtype.str


def write_compact_file(
    path: str | os.PathLike[str],
    counts: Mapping[str, int],
    chunks: Iterable[Chunk],
    class_names: Sequence[str] | None = None,
) -> None:
    """Writes a compact file, which appears under its name when it is whole.

    `counts` are of examples by client id; for `chunks` see `fill_columns`.
    """
    path = Path(path)
    # Beside the target, for the rename; named after the process and the
    # thread, since two may write the same file.
    writer = f"{os.getpid()}-{threading.get_ident()}"
    partial = path.with_name(f"{path.name}.{writer}.partial")
    ends = np.cumsum([0, *counts.values()], dtype=np.int64)
    try:
        with h5py.File(partial, "w", libver="v110") as file:

            def create(shape: tuple[int, ...], dtype: Any) -> Any:
                grows = {"maxshape": (None,), "chunks": (_GROWTH,)}
                more = {} if shape[0] else grows
                return file.create_dataset(None, shape, dtype, **more)

            columns = fill_columns(chunks, create, int(ends[-1]))
            groups = file.create_group("arrays")
            leaves = list(el.arrays(columns))
            dtypes = [
                _name_column(groups.create_group(str(k)), column)
                for k, column in enumerate(leaves)
            ]
            numbers = iter(range(len(leaves)))
            says = {
                "structure": _to_json(
                    el.map_arrays(lambda _: next(numbers), columns)
                ),
                "dtypes": dtypes,
                "class_names": class_names,
            }
            about = np.frombuffer(json.dumps(says).encode(), np.uint8)
            file["about"] = about
            names = [i.encode("utf-8", "surrogatepass") for i in counts]
            ids = file.create_group("client_ids")
            ids["bytes"] = np.frombuffer(b"".join(names), np.uint8)
            ids["ends"] = np.cumsum([*map(len, names)], dtype=np.int64)
            file["ends"] = ends[1:]
            # Of what is read again, so that they vouch for what is in there.
            written = ClientColumns(tuple(counts), ends, columns)
            sums = np.array(
                [checksum(written.load(i)) for i in counts], np.uint32
            )
            file["checksums"] = sums
            file.attrs["checksum"] = _rest_checksum(
                tuple(counts), about, ends[1:], sums
            )
            file.attrs["version"] = VERSION
            # Last: a file without it is not complete.
            file.attrs["format"] = np.bytes_(FORMAT)
        atomic_file.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def save_clients(
    path: str | os.PathLike[str],
    source: Source,
    client_ids: Sequence[str],
    class_names: Sequence[str] | None = None,
) -> None:
    """Writes clients of any source, which are read one by one."""
    counts = {i: source.num_examples(i) for i in client_ids}

    def chunks() -> Iterator[Chunk]:
        start = 0
        for client_id, count in counts.items():
            element = source.load(client_id)
            if el.num_examples(element) != count:
                raise ValueError(
                    f"Client {client_id!r}: the examples are others than when "
                    "they were counted. Expected the same each time; give "
                    "what is drawn at random in a function for map a seed."
                )
            yield np.arange(start, start + count), element
            start += count

    write_compact_file(path, counts, chunks(), class_names)


def _open_column(group: Any, name: str, total: int) -> Column:
    if name in ("bytes", "str"):
        starts, lengths = group["starts"], group["lengths"]
        return TextColumn(starts, lengths, group["pool"], name == "str")
    values, dtype = group["values"], np.dtype(name)
    if len(values) != total or values.dtype.kind == "O":
        raise ValueError(f"{values.name} isn't of {total:,} examples")
    table = group["table"][:].astype(dtype) if "table" in group else None
    return NumberColumn(values, dtype, table)


class CompactFile(ClientColumns):
    """The clients of a compact file, each read when it is asked for."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.class_names: tuple[str, ...] | None = None
        self.path = Path(path).absolute()
        self._checked: set[str] = set()
        if not self.path.exists():
            raise FileNotFoundError(f"There is no file {self.path}.")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise FormatError(
                f"{self.path} cannot be opened as HDF5 ({error}). It may be "
                "cut short, or in another format."
            ) from error
        try:
            super().__init__(*self._contents())
        except Exception as error:
            self._file.close()
            if isinstance(error, FormatError):
                raise
            raise FormatError(
                f"{self.path} is damaged: {error}. Make it again."
            ) from error

    def _header(self, name: str) -> Any:
        """An attribute of fixed length: others may hang HDF5 if damaged."""
        attributes = self._file.attrs
        if name not in attributes or attributes.get_id(name).dtype.kind == "O":
            return None
        return attributes[name]

    def _contents(self) -> tuple[tuple[str, ...], np.ndarray, Any]:
        file = self._file
        version = self._header("version")
        if version is None:
            raise FormatError(
                f"{self.path} is an HDF5 file, but no complete compact file. "
                "Expected what FederatedDataset.save writes."
            )
        if version != VERSION or self._header("format") != FORMAT.encode():
            raise FormatError(
                f"{self.path} is of version {version}. This release reads "
                f"version {VERSION}: make the file again, or delete it to "
                "have a data set in the cache converted again."
            )
        text = file["client_ids/bytes"][:].tobytes()
        id_ends = [0, *file["client_ids/ends"][:].tolist()]
        ids = tuple(
            text[a:b].decode("utf-8", "surrogatepass")
            for a, b in itertools.pairwise(id_ends)
        )
        ends, about = file["ends"][:], file["about"][:]
        self._checksums = file["checksums"][:]
        if self._header("checksum") != _rest_checksum(
            ids, about, ends, self._checksums
        ):
            raise ValueError("its checksum doesn't match")
        says = json.loads(about.tobytes())
        self.class_names = check_class_names(says["class_names"])
        columns = el.map_arrays(
            lambda k: _open_column(
                file[f"arrays/{k}"], says["dtypes"][k], int(ends[-1])
            ),
            _from_json(says["structure"]),
        )
        return ids, np.concatenate([[0], ends]), columns

    def all_examples(self) -> el.Element:
        element = super().all_examples()
        for k, client_id in enumerate(self.client_ids):
            rows = slice(*self._offsets[k : k + 2].tolist())
            self._check(client_id, el.take(element, rows))
        return element

    def _check(self, client_id: str, element: el.Element) -> None:
        if client_id in self._checked:
            return
        if checksum(element) != self._checksums[self._index[client_id]]:
            raise FormatError(
                f"{self.path}: client {client_id!r} cannot be read: its "
                "checksum doesn't match, so the file is damaged. Make it "
                "again."
            )
        self._checked.add(client_id)

    def checksum_of(self, client_id: str) -> int:
        """The checksum of a client's arrays, without reading them."""
        return int(self._checksums[self._index[client_id]])

    def load(self, client_id: str) -> el.Element:
        try:
            element = super().load(client_id)
        except (OSError, ValueError) as error:
            raise FormatError(
                f"{self.path}: client {client_id!r} cannot be read: {error}. "
                "Make the file again."
            ) from error
        self._check(client_id, element)
        return element

    def __reduce__(self) -> Any:
        return CompactFile, (self.path,)
