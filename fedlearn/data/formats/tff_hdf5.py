"""The HDF5 files that TensorFlow Federated used before SQLite.

Data set `/examples/<client id>/<feature>` holds a feature of all examples of
a client; its first axis counts them.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from fedlearn.data import element as el
from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.formats.one_by_one import OneByOne, checked_ids
from fedlearn.data.formats.unpacked import most_unpacked

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_ARCHIVE_MAGICS = (b"BZh", b"\x1f\x8b", b"\xfd7zXZ\0", b"PK\x03\x04")

# All rows of text may point at one long string, so that a small file would
# fill the memory; this many are read before the total is looked at.
_TEXT_ROWS = 16

# What h5py raises for bytes that make no sense to it.
_H5PY_ERRORS = (
    OSError,
    KeyError,
    RuntimeError,
    ValueError,
    TypeError,
    OverflowError,
    SystemError,
    MemoryError,
)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The open file; what h5py cannot read in it is a `FormatError`."""
    _check_magic(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FormatError:
        raise
    except _H5PY_ERRORS as error:
        raise FormatError(
            f"{path} cannot be read as HDF5 ({error}). It may be cut short "
            "or damaged; fetch it again."
        ) from error


def _check_magic(path: Path) -> None:
    if path.is_dir():
        raise FormatError(f"{path} is a folder. Expected an HDF5 file.")
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith(_HDF5_MAGIC):
        return
    if head.startswith(_ARCHIVE_MAGICS) or head[257:262] == b"ustar":
        raise FormatError(
            f"{path} is an archive. Expected the HDF5 file inside: unpack it "
            "first, for instance with `tar -xf`, and name one of the .h5 "
            "files that come out."
        )
    what = "is empty" if not head else f"begins with {head[:8]!r}"
    raise FormatError(f"{path} {what}. Expected an HDF5 file.")


def _member(group: h5py.Group, name: str, kind: type, where: str) -> h5py.Group:
    """What lies under `name`, which has to be in this very file."""
    noun = "data set" if kind is h5py.Dataset else "group"
    link = group.get(name, getlink=True)
    if link is None:
        raise FormatError(
            f"{where} does not exist. Expected TFF's layout, "
            "/examples/<client id>/<feature>."
        )
    if not isinstance(link, h5py.HardLink):
        raise FormatError(
            f"{where} is a link ({type(link).__name__}) to elsewhere, which "
            f"is not followed. Expected a {noun}."
        )
    found = group[name]
    if not isinstance(found, kind):
        raise FormatError(
            f"{where} is of type {type(found).__name__}. Expected a {noun}, "
            "as in TFF's layout, /examples/<client id>/<feature>."
        )
    return found


def _names(group: h5py.Group, where: str) -> list[str]:
    """What a group holds, sorted."""
    names = list(group)
    for name in names:
        # h5py hands out a name that is no UTF-8 as bytes.
        if not isinstance(name, str):
            raise FormatError(
                f"{where} holds the name {name!r}. Expected UTF-8."
            )
    return sorted(names)


def _check_dtype(dtype: np.dtype, where: str) -> None:
    if h5py.check_string_dtype(dtype) is not None:
        return
    number = dtype.kind in "biuf" and dtype.itemsize <= 8
    if not number or h5py.check_enum_dtype(dtype) is not None:
        raise FormatError(
            f"{where} has a type that NumPy knows as {dtype!r}. Expected "
            "integers, floating-point numbers, booleans or strings."
        )


def _check_stored(dataset: h5py.Dataset, where: str, file_bytes: int) -> None:
    """Raises if the file does not hold all that `dataset` declares."""
    if dataset.is_virtual or dataset.external:
        raise FormatError(
            f"{where} keeps its data in other files, which are not opened. "
            "Expected the data in the file itself."
        )
    declared = math.prod(dataset.shape) * dataset.id.get_type().get_size()
    stored = dataset.id.get_storage_size()
    packed = dataset.id.get_create_plist().get_nfilters() > 0
    complete = declared <= (most_unpacked(stored) if packed else stored)
    if complete and declared and dataset.chunks:
        pairs = zip(dataset.shape, dataset.chunks, strict=True)
        chunks = math.prod(-(-length // chunk) for length, chunk in pairs)
        complete = dataset.id.get_num_chunks() == chunks
    if stored > file_bytes or not complete:
        raise FormatError(
            f"{where} declares the shape {dataset.shape}, {declared:,} "
            f"bytes, but the file holds {stored:,} bytes for it. It is "
            "damaged, or was never written in full; make or fetch it again."
        )


def _features(
    file: h5py.File, client_id: str, file_bytes: int
) -> dict[str, h5py.Dataset]:
    """A client's data sets by name, checked but not read."""
    examples = _member(file, "examples", h5py.Group, "/examples")
    where = f"/examples/{client_id}"
    client = _member(examples, client_id, h5py.Group, where)
    features = {}
    for name in _names(client, where):
        inner = f"{where}/{name}"
        dataset = _member(client, name, h5py.Dataset, inner)
        if not dataset.shape:
            raise FormatError(
                f"{inner} has no axis of examples. Expected the shape "
                "(examples, ...)."
            )
        _check_dtype(dataset.dtype, inner)
        _check_stored(dataset, inner, file_bytes)
        features[name] = dataset
    if not features:
        raise FormatError(f"{where} is empty. Expected a data set a feature.")
    lengths = {name: dataset.shape[0] for name, dataset in features.items()}
    if len(set(lengths.values())) > 1:
        each = ", ".join(f"{n!r} has {k:,}" for n, k in lengths.items())
        raise FormatError(
            f"{where}: the features have different numbers of examples: {each}."
        )
    return features


def _too_much_text(where: str) -> FormatError:
    return FormatError(
        f"{where} has more text than fits in the file: many rows point at "
        "one string, or a length is wrong. It is damaged, or made to fill "
        "the memory."
    )


def _check_lengths(dataset: h5py.Dataset, where: str, file_bytes: int) -> None:
    """Raises if rows of text are longer than the file.

    HDF5 takes the memory for a string of any length that a row claims,
    before it looks for the string.
    """
    start = dataset.id.get_offset()
    if start is None:  # in chunks, or without any rows
        return
    # A row is a length, an address in the file and an index: 4 + 8 + 4 bytes.
    rows = np.fromfile(
        dataset.file.filename, "<u4", dataset.size * 4, offset=start
    )
    if rows[::4].sum(dtype=np.int64) > file_bytes:
        raise _too_much_text(where)


def _values(dataset: h5py.Dataset, where: str, file_bytes: int) -> np.ndarray:
    text = h5py.check_string_dtype(dataset.dtype)
    if text is None:
        array = dataset[()]
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if text.length is not None:
        return dataset[()].astype(object)
    _check_lengths(dataset, where, file_bytes)
    array = np.empty(dataset.shape, object)
    total = 0
    for start in range(0, len(array), _TEXT_ROWS):
        rows = slice(start, start + _TEXT_ROWS)
        array[rows] = dataset[rows]
        total += sum(map(len, array[rows].flat))
        if total > file_bytes:
            raise _too_much_text(where)
    return array


class _HDF5Clients(OneByOne):
    """The clients of one file."""

    @contextlib.contextmanager
    def _opened(
        self, client_id: str
    ) -> Iterator[tuple[dict[str, h5py.Dataset], int]]:
        file_bytes = os.path.getsize(self._path)
        with _opened(self._path) as file:
            try:
                yield _features(file, client_id, file_bytes), file_bytes
            except FormatError as error:
                raise FormatError(f"{self._path}: {error}") from error

    def num_examples(self, client_id: str) -> int:
        with self._opened(client_id) as (features, _):
            return int(next(iter(features.values())).shape[0])

    def _read(self, client_id: str) -> el.Element:
        with self._opened(client_id) as (features, file_bytes):
            return {
                name: _values(
                    dataset, f"/examples/{client_id}/{name}", file_bytes
                )
                for name, dataset in features.items()
            }


def _client_ids(path: Path) -> tuple[str, ...]:
    with _opened(path) as file:
        try:
            examples = _member(file, "examples", h5py.Group, "/examples")
            ids = _names(examples, "/examples")
        except FormatError as error:
            raise FormatError(f"{path}: {error}") from error
    return checked_ids(ids, path)


def read_tff_hdf5(path: str | os.PathLike[str]) -> OneByOne:
    """See `FederatedDataset.from_tff_hdf5`."""
    path = Path(path)
    return _HDF5Clients(path, _client_ids(path))
