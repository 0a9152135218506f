"""The HDF5 files that TensorFlow Federated used before SQLite.

Data set `/examples/<client id>/<feature>` holds a feature of all examples of
a client; its first axis counts them.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fedlearn.data import element as el
from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.formats.one_by_one import OneByOne, checked_ids


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The open file; what h5py cannot read in it is a `FormatError`."""
    if path.is_dir():
        raise FormatError(f"{path} is a folder. Expected an HDF5 file.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (FormatError, FileNotFoundError):
        raise
    # What h5py raises for bytes that make no sense to it is of all kinds.
    except Exception as error:
        raise FormatError(
            f"{path} cannot be read as HDF5 ({error}). It may be cut short or "
            "damaged: fetch it again; or an archive: unpack it first, for "
            "instance with `tar -xf`, and name one of the .h5 files that come "
            "out."
        ) from error


def _member(group: Any, name: str, kind: type) -> Any:
    """What lies under `name`, which has to be in this very file."""
    link = group.get(name, getlink=True)
    found = group[name] if isinstance(link, h5py.HardLink) else link
    if not isinstance(found, kind):
        raise FormatError(
            f"{group.file.filename}: {name!r} in {group.name} is of type "
            f"{type(found).__name__}. Expected a {kind.__name__}, as in TFF's "
            "layout, /examples/<client id>/<feature>."
        )
    return found


def _values(dataset: h5py.Dataset) -> np.ndarray:
    where = f"{dataset.file.filename}: {dataset.name}"
    text = h5py.check_string_dtype(dataset.dtype) is not None
    if not dataset.shape or not (text or dataset.dtype.kind in "biuf"):
        raise FormatError(
            f"{where} has the shape {dataset.shape} and the dtype "
            f"{dataset.dtype}. Expected (examples, ...), of integers, "
            "floating-point numbers, booleans or strings."
        )
    # HDF5 gives zeros for what isn't there, and looks into other files.
    packed = dataset.id.get_create_plist().get_nfilters() > 0
    stored = dataset.id.get_storage_size()
    if dataset.size and (
        not stored
        or dataset.is_virtual
        or dataset.external
        or (stored < dataset.nbytes and not (packed or text))
    ):
        raise FormatError(
            f"{where} declares the shape {dataset.shape}, but the file holds "
            f"only {stored:,} bytes for it. It was never written in full; make "
            "or fetch it again."
        )
    array = dataset[()]
    if text:
        return array.astype(object)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


class _HDF5Clients(OneByOne):
    """The clients of one file."""

    @contextlib.contextmanager
    def _client(self, client_id: str) -> Iterator[dict[str, h5py.Dataset]]:
        with _opened(self._path) as file:
            examples = _member(file, "examples", h5py.Group)
            group = _member(examples, client_id, h5py.Group)
            names = sorted(group)
            if not names:
                raise FormatError(
                    f"{self._path}: {group.name} is empty. Expected a data "
                    "set a feature."
                )
            yield {name: _member(group, name, h5py.Dataset) for name in names}

    def num_examples(self, client_id: str) -> int:
        with self._client(client_id) as features:
            return len(next(iter(features.values())))

    def _read(self, client_id: str) -> el.Element:
        with self._client(client_id) as features:
            element = {name: _values(d) for name, d in features.items()}
            return el.as_element(element, f"Client {client_id!r}")


def read_tff_hdf5(path: str | os.PathLike[str]) -> OneByOne:
    """See `FederatedDataset.from_tff_hdf5`."""
    path = Path(path)
    with _opened(path) as file:
        ids = list(_member(file, "examples", h5py.Group))
    return _HDF5Clients(path, checked_ids(ids, path))
