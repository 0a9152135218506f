"""The compact file: every client's examples, one slice away.

An HDF5 file, so that other programs read it too. Version 2 holds::

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
(`fedlearn.data.formats.checksum`), compared when it is first read, since it
takes nearly as long as reading and a run reads a client many times; and, in
`checksum`, of all else that the file says, compared when it is opened.
Version 1 had none, and the structure and the dtypes as attributes of the file
and of the groups; such texts of no fixed length lie in HDF5's global heap,
which has no checksums, and whose sizes are checked before HDF5 sees them.
"""

import itertools
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fedlearn.data import element as el
from fedlearn.data.class_names import check_class_names
from fedlearn.data.columns import (
    Column,
    NumberColumn,
    TextColumn,
    column_for,
)
from fedlearn.data.formats.checksum import checksum
from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.formats.hdf5_heap import check_heaps
from fedlearn.data.sources import ClientColumns

FORMAT = "fedlearn clients"
VERSION = 2

# Pieces in which texts are stored; one is read at a time.
_POOL_CHUNK = 1 << 16

# How many bytes of examples go to a column at a time.
_WRITE_BYTES = 1 << 24

# How much is read again for checksums at a time.
_CHECK_BYTES = 1 << 21


class _Pool:
    """Bytes in an HDF5 data set that grows."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._length = len(dataset)

    def append(self, data: bytes) -> None:
        start = self._length
        self._length += len(data)
        self.dataset.resize(self._length, 0)
        self.dataset[start:] = np.frombuffer(data, np.uint8)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, where: slice) -> bytes:
        return self.dataset[where].tobytes()


class _FileStorage:
    """Columns in an HDF5 group, whose data sets get their names later."""

    def __init__(self, group: Any) -> None:
        self._group = group

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        return self._group.create_dataset(None, shape, dtype)

    def pool(self) -> _Pool:
        return _Pool(
            self._group.create_dataset(
                None, (0,), np.uint8, maxshape=(None,), chunks=(_POOL_CHUNK,)
            )
        )


class CompactWriter:
    """Writes a compact file, chunk by chunk, in any order of the examples.

    As a context manager: the file appears under its name when the block
    ends, and not at all if it raises.

    Args:
        path: The file to write; what is there is replaced.
        counts: Number of examples by client id, in the order of the file.
        class_names: Of the labels, where they have names.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "two.h5")
    >>> with CompactWriter(path, {"a": 1, "b": 1}) as writer:
    ...     writer.write(np.array([1]), {"age": np.array([40])})
    ...     writer.write(np.array([0]), {"age": np.array([30])})
    >>> open_compact_file(path).load("a")
    {'age': array([30])}
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        counts: dict[str, int],
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        self._path = Path(path)
        self._class_names = class_names
        self._ids = tuple(counts)
        self._ends = np.cumsum([*counts.values()], dtype=np.int64)
        self._columns: Any = None
        self._spec: Any = None
        self._num_written = 0

    def __enter__(self) -> "CompactWriter":
        import h5py

        # Beside the target, for the rename; named after the process and the
        # thread, since two may write the same file.
        writer = f"{os.getpid()}-{threading.get_ident()}"
        self._partial = self._path.with_name(
            f"{self._path.name}.{writer}.partial"
        )
        self._file = h5py.File(self._partial, "w", libver="v110")
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if error is None:
                self._finish()
            self._file.close()
            if error is None:
                with open(self._partial, "rb") as file:
                    os.fsync(file.fileno())
                os.replace(self._partial, self._path)
        finally:
            self._file.close()
            self._partial.unlink(missing_ok=True)

    @property
    def total(self) -> int:
        """Number of examples of all clients."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def write(self, places: np.ndarray, element: el.Element) -> None:
        """Stores some examples.

        Args:
            places: Increasing integers: where in the file each of them
                goes. Client k's places follow those of client k - 1.
            element: A structure of arrays with one row a place.

        Raises:
            ValueError: If the element differs in structure, shape or dtype
                from the first one.
        """
        if not len(places):
            return
        element = el.map_arrays(_texts_as_objects, element)
        spec = el.spec_of(element)
        if self._columns is None:
            storage = _FileStorage(self._file)
            self._columns = el.map_arrays(
                lambda a: column_for(a, storage, self.total), element
            )
            self._spec = spec
        what = f"the examples from place {int(places[0]):,}"
        el.check_same_spec(spec, what, self._spec, "the first examples")
        el.map_arrays(lambda a, c: c.put(places, a), element, self._columns)
        self._num_written += len(places)

    def _finish(self) -> None:
        if self._num_written != self.total:
            raise ValueError(
                f"{self._num_written:,} of {self.total:,} examples were "
                f"written to {self._path}."
            )
        if self._columns is None:
            raise ValueError(f"There are no examples to write to {self._path}.")
        file = self._file
        encoded = [name.encode("utf-8", "surrogatepass") for name in self._ids]
        ids = file.create_group("client_ids")
        ids["bytes"] = np.frombuffer(b"".join(encoded), np.uint8)
        ids["ends"] = np.cumsum([len(e) for e in encoded], dtype=np.int64)
        file["ends"] = self._ends
        arrays = file.create_group("arrays")
        numbers = iter(range(1 << 30))
        structure = el.map_arrays(
            lambda c: _name_column(arrays, next(numbers), c), self._columns
        )
        about = {
            "structure": _to_json(structure),
            "dtypes": [_handed_out(c) for c in el.arrays(self._columns)],
            "class_names": self._class_names,
        }
        file["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        file["checksums"] = self._checksums()
        file.attrs["checksum"] = _rest_checksum(
            file["about"][:], self._ids, self._ends, file["checksums"][:]
        )
        file.attrs["version"] = VERSION
        # Last: a file without it is not complete.
        file.attrs["format"] = np.bytes_(FORMAT)

    def _checksums(self) -> np.ndarray:
        """Read again from the file, so that they vouch for what is in it."""
        row_bytes = 1 + sum(
            int(np.prod(s.shape, dtype=int)) * s.dtype.itemsize
            for s in el.arrays(self._spec)
        )
        offsets = [0, *self._ends.tolist()]
        sums = np.zeros(len(self._ids), np.uint32)
        first = 0
        while first < len(sums):
            # As many clients at a time as are quick to read.
            last = first + 1
            start = offsets[first]
            while (
                last < len(sums)
                and (offsets[last + 1] - start) * row_bytes < _CHECK_BYTES
            ):
                last += 1
            block = el.map_arrays(
                lambda c, a=start, b=offsets[last]: c.read(a, b),
                self._columns,
            )
            for k in range(first, last):
                rows = slice(offsets[k] - start, offsets[k + 1] - start)
                sums[k] = checksum(el.take(block, rows))
            first = last
        return sums


def _rest_checksum(
    about: np.ndarray,
    ids: tuple[str, ...],
    ends: np.ndarray,
    checksums: np.ndarray,
) -> int:
    """CRC-32 of what a file says beside its arrays."""
    value = zlib.crc32(json.dumps(ids).encode())
    for numbers in (about, ends.astype("<i8"), checksums.astype("<u4")):
        value = zlib.crc32(numbers.tobytes(), value)
    return value


def _texts_as_objects(array: np.ndarray) -> np.ndarray:
    # "S3" and "S5" are different dtypes, but clients may well differ so.
    return array.astype(object) if array.dtype.kind in "SU" else array


def _to_json(structure: Any) -> Any:
    """JSON has no tuples, and would turn them into lists."""
    if isinstance(structure, dict):
        for key in structure:
            if not isinstance(key, str):
                raise TypeError(
                    f"The feature {key!r} has a name of type "
                    f"{type(key).__name__}. Expected a string."
                )
        return {"dict": [[k, _to_json(v)] for k, v in structure.items()]}
    if isinstance(structure, (tuple, list)):
        kind = "list" if isinstance(structure, list) else "tuple"
        return {kind: [_to_json(item) for item in structure]}
    return structure


def _from_json(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, dict) and len(value) == 1:
        ((kind, items),) = value.items()
        if kind == "dict" and items:
            return {str(key): _from_json(item) for key, item in items}
        if kind in ("list", "tuple") and items:
            inner = [_from_json(item) for item in items]
            return inner if kind == "list" else tuple(inner)
    raise ValueError(f"{value!r} is no structure of arrays")


def _name_column(arrays: Any, number: int, column: Column) -> int:
    group = arrays.create_group(str(number))
    if isinstance(column, TextColumn):
        group["starts"] = column.starts
        group["lengths"] = column.lengths
        group["pool"] = column.pool.dataset
    else:
        group["values"] = column.values
        if column.table is not None:
            group["table"] = column.table
    return number


def _handed_out(column: Column) -> str:
    if isinstance(column, TextColumn):
        return "str" if column.text else "bytes"
    return column.dtype.str


def write_compact_file(
    path: str | os.PathLike[str],
    counts: dict[str, int],
    elements: Iterable[el.Element],
    class_names: tuple[str, ...] | None = None,
) -> None:
    """Writes clients in the order of the file, one element at a time."""
    with CompactWriter(path, counts, class_names) as writer:
        place = 0
        for element in elements:
            total = el.num_examples(element)
            row_bytes = sum(a.nbytes for a in el.arrays(element)) // (
                total or 1
            )
            step = max(1, _WRITE_BYTES // max(1, row_bytes))
            for start in range(0, total, step):
                rows = slice(start, min(start + step, total))
                places = np.arange(place + rows.start, place + rows.stop)
                writer.write(places, el.take(element, rows))
            place += total


def _child(group: Any, name: str, kind: type) -> Any:
    """A group or data set that lies in this file and nowhere else.

    HDF5 can point to other files, which a data file from elsewhere must not
    make us read.
    """
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{group.name} has no {name!r} in this file")
    child = group[name]
    if not isinstance(child, kind):
        raise ValueError(f"{child.name} is not a {kind.__name__.lower()}")
    if isinstance(child, h5py.Dataset):
        if child.is_virtual or child.external:
            raise ValueError(f"{child.name} lies in another file")
        if child.dtype.kind not in "iufc":
            raise ValueError(f"{child.name} has dtype {child.dtype}")
        # Else a few bytes could claim, or unpack to, an array of terabytes.
        if child.id.get_create_plist().get_nfilters():
            raise ValueError(f"{child.name} is compressed")
        if child.id.get_storage_size() < child.nbytes:
            raise ValueError(f"{child.name} is not all there")
    return child


def _integers(group: Any, name: str) -> np.ndarray:
    import h5py

    dataset = _child(group, name, h5py.Dataset)
    if dataset.dtype != np.int64 or dataset.ndim != 1 or dataset.chunks:
        raise ValueError(f"{dataset.name} is no row of int64")
    return dataset[:]


def _ends(group: Any, name: str, total: int | None) -> np.ndarray:
    """`(n + 1,)` offsets from `n` ends, which do not decrease."""
    offsets = np.concatenate([[0], _integers(group, name)])
    if (np.diff(offsets) < 0).any():
        raise ValueError(f"{group.name}/{name} decreases")
    if total is not None and offsets[-1] != total:
        raise ValueError(f"{group.name}/{name} does not end at {total:,}")
    return offsets


def _read_ids(file: Any) -> tuple[str, ...]:
    import h5py

    group = _child(file, "client_ids", h5py.Group)
    data = _child(group, "bytes", h5py.Dataset)
    if data.dtype != np.uint8 or data.ndim != 1 or data.chunks:
        raise ValueError(f"{data.name} is no row of bytes")
    ends = _ends(group, "ends", len(data)).tolist()
    text = data[:].tobytes()
    ids = tuple(
        [
            text[a:b].decode("utf-8", "surrogatepass")
            for a, b in itertools.pairwise(ends)
        ]
    )
    if len(set(ids)) != len(ids) or "" in ids:
        raise ValueError("a client id is empty or there twice")
    return ids


def _open_column(group: Any, name: str, total: int) -> Column:
    import h5py

    def dataset(name: str) -> Any:
        child = _child(group, name, h5py.Dataset)
        if child.ndim < 1 or len(child) != total:
            raise ValueError(
                f"{child.name} has shape {child.shape} for {total:,} examples"
            )
        return child

    if name in ("bytes", "str"):
        starts, lengths = dataset("starts"), dataset("lengths")
        pool = _child(group, "pool", h5py.Dataset)
        if starts.shape != lengths.shape or pool.dtype != np.uint8:
            raise ValueError(f"{group.name} is no column of texts")
        return TextColumn(starts, lengths, _Pool(pool), name == "str")
    values = dataset("values")
    dtype = np.dtype(name)
    if dtype.kind not in "biufc":
        raise ValueError(f"{group.name} claims dtype {dtype}")
    table = None
    if "table" in group:
        table = _child(group, "table", h5py.Dataset)[:]
        if table.shape != (256,) or values.dtype != np.uint8:
            raise ValueError(f"{group.name} has no table of 256 values")
        table = table.astype(dtype, copy=False)
    return NumberColumn.of(values, table, dtype)


def _number_attribute(file: Any, name: str) -> int | None:
    """An integer that lies in the file's header; None if there is none."""
    if name not in file.attrs:
        return None
    attribute = file.attrs.get_id(name)
    if attribute.dtype.kind not in "iu" or attribute.shape != ():
        raise ValueError(f"its attribute {name!r} is no integer")
    return int(file.attrs[name])


def _fixed_attribute(file: Any, name: str) -> str | None:
    """A text that lies in the file's header, and not in its heap."""
    if name not in file.attrs:
        return None
    attribute = file.attrs.get_id(name)
    if attribute.dtype.kind != "S" or attribute.shape != ():
        raise ValueError(f"its attribute {name!r} is no text of fixed length")
    return bytes(file.attrs[name]).decode()


class CompactFile(ClientColumns):
    """The clients of a compact file, each read when it is asked for.

    It can be pickled and sent to another process, which opens the file for
    itself.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import h5py

        self._checksums: np.ndarray | None = None
        self._checked: set[str] = set()
        self.class_names: tuple[str, ...] | None = None
        self.path = Path(path).absolute()
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
        except FormatError:
            self._file.close()
            raise
        except Exception as error:
            self._file.close()
            raise FormatError(
                f"{self.path} is damaged: {error}. Make it again."
            ) from error

    def _contents(self) -> tuple[tuple[str, ...], np.ndarray, Any]:
        import h5py

        file = self._file
        version = _number_attribute(file, "version")
        if version is None:
            raise FormatError(
                f"{self.path} is an HDF5 file, but no complete compact file: "
                "it has no version. Expected what FederatedDataset.save "
                "writes."
            )
        if version not in (1, VERSION):
            raise FormatError(
                f"{self.path} is of version {version}, and this release "
                f"reads versions 1 to {VERSION}. Make the file again."
            )
        if version == 1:
            check_heaps(self.path)
            found = file.attrs.get("format")
        else:
            found = _fixed_attribute(file, "format")
        if found != FORMAT:
            raise FormatError(
                f"{self.path} is an HDF5 file, but no complete compact file: "
                f"its format is {found!r}, expected {FORMAT!r}."
            )
        if (version == 1) != ("checksums" not in file):
            raise ValueError(f"it is of version {version}, but has checksums")
        ids = _read_ids(file)
        offsets = _ends(file, "ends", None)
        if len(offsets) != len(ids) + 1:
            raise ValueError(f"it has {len(ids):,} ids, but other ends")
        groups = _child(file, "arrays", h5py.Group)
        total = int(offsets[-1])
        if version == 1:
            structure = _from_json(json.loads(file.attrs["structure"]))
            dtypes = {
                n: str(_child(groups, str(n), h5py.Group).attrs["dtype"])
                for n in el.arrays(structure)
            }
        else:
            about = self._check_rest(ids, offsets[1:])
            structure = _from_json(about["structure"])
            dtypes = dict(enumerate(about["dtypes"]))
            self.class_names = check_class_names(about["class_names"])
        columns = el.map_arrays(
            lambda n: _open_column(
                _child(groups, str(n), h5py.Group), dtypes[n], total
            ),
            structure,
        )
        return ids, offsets, columns

    def _check_rest(
        self, ids: tuple[str, ...], ends: np.ndarray
    ) -> dict[str, Any]:
        """What the file says of its arrays, once all of it is checked."""
        import h5py

        about = _child(self._file, "about", h5py.Dataset)[:]
        self._checksums = _child(self._file, "checksums", h5py.Dataset)[:]
        if self._checksums.shape != (len(ids),):
            raise ValueError("it has checksums of other clients")
        expected = _number_attribute(self._file, "checksum")
        if _rest_checksum(about, ids, ends, self._checksums) != expected:
            raise ValueError("its checksum doesn't match")
        return json.loads(about.tobytes())

    def all_examples(self) -> el.Element:
        element = super().all_examples()
        offsets = self._offsets.tolist()
        for client_id, rows in zip(
            self.client_ids, itertools.pairwise(offsets), strict=True
        ):
            self._check(client_id, el.take(element, slice(*rows)))
        return element

    def _check(self, client_id: str, element: el.Element) -> None:
        if self._checksums is None or client_id in self._checked:
            return
        k = self._index[client_id]
        if checksum(element) != int(self._checksums[k]):
            raise FormatError(
                f"{self.path}: client {client_id!r} cannot be read: its "
                "checksum doesn't match, so the file is damaged. Make it "
                "again."
            )
        self._checked.add(client_id)

    @property
    def checksum_of(self) -> Callable[[str], int] | None:
        """From a client to its arrays' checksum, without reading them; None
        if the file has none."""
        sums = self._checksums
        if sums is None:
            return None
        return lambda client_id: int(sums[self._index[client_id]])

    def load(self, client_id: str) -> el.Element:
        try:
            element = super().load(client_id)
            self._check(client_id, element)
            return element
        except FormatError:
            raise
        except (OSError, ValueError) as error:
            raise FormatError(
                f"{self.path}: client {client_id!r} cannot be read: {error}. "
                "Make the file again."
            ) from error

    def __reduce__(self) -> Any:
        return CompactFile, (self.path,)


def open_compact_file(path: str | os.PathLike[str]) -> CompactFile:
    """See `FederatedDataset.load`."""
    return CompactFile(path)
