"""A folder with a file, or a folder, for each client."""

import fnmatch
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedlearn.data import element as el
from fedlearn.data.formats.format_error import FormatError
from fedlearn.data.formats.npz_file import read_npz
from fedlearn.data.formats.one_by_one import OneByOne, checked_ids

Reader = Callable[[Path], Any]


class _ClientFiles(OneByOne):
    """The clients of one folder.

    Args:
        folder: The folder.
        names: From client id to the name of its file or folder.
        read: From a path to a client's arrays.
    """

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
    if read is not None and not callable(read):
        raise TypeError(
            f"read is a {type(read).__name__}. Expected a function from a "
            "path to one client's arrays."
        )
    if pattern is None:
        pattern = "*.npz" if read is None else "*"
    folder = Path(folder)
    root = folder.resolve()
    paths: dict[str, str] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        # As a shell does: what begins with a dot is not data.
        if entry.name.startswith(".") or not fnmatch.fnmatchcase(
            entry.name, pattern
        ):
            continue
        if not os.path.isfile(entry) and not os.path.isdir(entry):
            # Reading from a pipe would wait for ever.
            raise FormatError(
                f"{entry.path} is neither a file nor a folder, or a link to "
                "nothing. Remove it, or choose others with pattern."
            )
        if entry.is_symlink() and not Path(entry).resolve().is_relative_to(
            root
        ):
            raise FormatError(
                f"{entry.path} is a symbolic link to outside of the folder. "
                "Expected every client's file in it; copy the files there."
            )
        client_id = entry.name if entry.is_dir() else Path(entry.name).stem
        if client_id in paths:
            raise FormatError(
                f"{folder}: {paths[client_id]!r} and {entry.name!r} are both "
                f"of client {client_id!r}. Expected one file a client; "
                "choose with pattern, as in pattern='*.npz'."
            )
        paths[client_id] = entry.name
    if not paths:
        raise FormatError(
            f"{folder} holds nothing that matches {pattern!r}. Expected a "
            "file (or a folder) for each client."
        )
    names = {i: paths[i] for i in checked_ids(paths, folder)}
    return _ClientFiles(folder, names, read or read_npz)
