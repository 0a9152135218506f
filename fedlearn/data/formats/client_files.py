"""A folder with a file, or a folder, for each client."""

import fnmatch
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedlearn.data import element as el
from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.formats.one_by_one import OneByOne, checked_ids

Reader = Callable[[Path], Any]


def read_npz(path: Path) -> tuple[np.ndarray, ...] | dict[str, np.ndarray]:
    """The arrays of a file that `numpy.savez` or `savez_compressed` wrote.

    Python objects are refused: they are stored as code that might do anything.
    """
    try:
        # Opened here: NumPy leaves a file that it can't read open.
        with open(path, "rb") as stream:
            file = np.load(stream, allow_pickle=False)
            arrays = {name: file[name] for name in file.files}
            # Damage can hide an entry; 74 bytes are the most around one.
            listed = sum(
                entry.compress_size + len(entry.filename) + 74
                for entry in file.zip.infolist()
            )
            if file.zip.start_dir > listed:
                raise ValueError("its directory doesn't list all that it has")
    except FileNotFoundError:
        raise
    # Of NumPy's headers and of zipfile, all kinds come.
    except Exception as error:
        raise FormatError(
            f"{path} cannot be read as .npz: {error}. Expected a whole file "
            "as numpy.savez writes it, of numbers and texts (dtype 'U' or "
            "'S')."
        ) from error
    if not arrays:
        raise FormatError(f"{path} holds no arrays.")
    for count in (2, 3):
        if arrays.keys() == set(el.PARTS[:count]):
            return tuple(arrays[part] for part in el.PARTS[:count])
    return arrays


class _ClientFiles(OneByOne):
    """The clients of one folder, by the name of their file or folder."""

    knows_sizes = False

    def __init__(
        self, folder: Path, names: dict[str, str], read: Reader
    ) -> None:
        super().__init__(folder, tuple(names))
        self._names = names
        self._read_path = read
        self._counts: dict[str, int] = {}

    def num_examples(self, client_id: str) -> int:
        if client_id not in self._counts:
            self._read(client_id)
        return self._counts[client_id]

    def _read(self, client_id: str) -> el.Element:
        path = self._path / self._names[client_id]
        who = f"Client {client_id!r} ({path})"
        try:
            stored = self._read_path(path)
        except Exception as error:
            error.add_note(f"{who}: raised while its file was read.")
            raise
        element = el.as_element(stored, who)
        self._counts[client_id] = el.num_examples(element)
        return element


def read_client_files(
    folder: str | os.PathLike[str],
    read: Reader | None = None,
    pattern: str | None = None,
) -> OneByOne:
    """See `FederatedDataset.from_files`."""
    if pattern is None:
        pattern = "*.npz" if read is None else "*"
    names: dict[str, str] = {}
    for entry in sorted(Path(folder).iterdir()):
        # As a shell does: what begins with a dot is not data.
        if entry.name.startswith(".") or not fnmatch.fnmatchcase(
            entry.name, pattern
        ):
            continue
        client_id = entry.name if entry.is_dir() else entry.stem
        if client_id in names:
            raise FormatError(
                f"{folder}: {names[client_id]!r} and {entry.name!r} are both "
                f"of client {client_id!r}. Expected one file a client; "
                "choose with pattern, as in pattern='*.npz'."
            )
        names[client_id] = entry.name
    if not names:
        raise FormatError(
            f"{folder} holds nothing that matches {pattern!r}. Expected a "
            "file (or a folder) for each client."
        )
    ids = checked_ids(names, Path(folder))
    ordered = {i: names[i] for i in ids}
    return _ClientFiles(Path(folder), ordered, read or read_npz)
