import contextlib
import copy
import functools
import hashlib
import os
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import keras
import optree

from fedlearn import backend
from fedlearn.messages import wire
from fedlearn.runs import atomic_file

MEMORY = 128 * 2**20  # bytes

_ENDING = ".clients"
_AWAY = object()  # in place of a state that is in a file
_NAME = re.compile("[0-9a-f]{64}")
_LOCK = threading.RLock()  # threads share folders and states


class ClientStates(Mapping[str, Any]):
    """An immutable mapping from client ids to pytrees of arrays.

    States beyond `memory` bytes (128 MiB) are files in `folder` (a temporary
    one that goes away with the states), those first that were updated longest
    ago; each is written once, and read when it is asked for. Where they are
    changes nothing in a run.

    >>> import numpy as np
    >>> none = ClientStates()
    >>> one = none.updated({"anna": [np.zeros(3)]})
    >>> two = one.updated({"ben": [np.ones(3)]})
    >>> len(none), len(one), len(two)
    (0, 1, 2)
    >>> two["ben"]
    [array([1., 1., 1.])]
    """

    def __init__(
        self,
        states: Mapping[str, Any] | None = None,
        folder: Any = None,
        memory: int | None = None,
    ):
        self._folder = _Folder.at(folder)
        self._memory = MEMORY if memory is None else memory
        self._entries = {i: _Entry(s) for i, s in (states or {}).items()}
        self._make_room()

    def updated(self, states: Mapping[str, Any]) -> "ClientStates":
        """These states with others for some clients; these stay as they are."""
        entries, entry = self._entries.copy(), None
        for client_id, state in states.items():
            entries.pop(client_id, None)  # the order is that of updates
            # What clients of one round keep is of one size.
            entry = entries[client_id] = _Entry(state, entry)
        return self._with(entries, self._folder)

    def kept_in(self, folder: Any) -> "ClientStates":
        """The same states; from now on new files go to `folder`."""
        return self._with(self._entries, _Folder.at(folder))

    def _with(
        self, entries: dict[str, "_Entry"], folder: "_Folder"
    ) -> "ClientStates":
        other = ClientStates(memory=self._memory)
        other._entries, other._folder = entries, folder
        other._make_room()
        return other

    def _make_room(self) -> None:
        """Moves states into files until `memory` isn't exceeded."""
        here = [e for e in self._entries.values() if e.state is not _AWAY]
        excess = sum(entry.num_bytes for entry in here) - self._memory
        if excess <= 0:
            return
        for entry in here:
            if excess <= 0:
                break
            entry.leave(self._folder)
            excess -= entry.num_bytes
        if self._folder.is_temporary:
            self._folder.sweep()

    def __getitem__(self, client_id: str) -> Any:
        entry = self._entries[client_id]
        try:
            return entry.read()
        except (OSError, ValueError) as error:
            raise ValueError(
                f"What client {client_id!r} keeps can't be read: {error}. Go "
                "on from another checkpoint or saved state, copied with the "
                f"folder beside it ({_ENDING!r}), or start afresh."
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, client_id: object) -> bool:
        return client_id in self._entries

    def __repr__(self) -> str:
        return f"<ClientStates of {len(self)} clients>"

    # Files of states and of checkpoints.

    def index(self, folder: Any) -> dict[str, Any]:
        """Writes what isn't in a folder yet; says in JSON what is where."""
        place = _Folder.at(folder)
        layouts: list[Any] = []
        clients, files = {}, []
        for client_id, entry in self._entries.items():
            if entry.layout not in layouts:
                layouts.append(entry.layout)
            file = entry.written(place)
            if place is self._folder:
                entry.file = file
            files.append(file)
            clients[client_id] = [file.name, layouts.index(entry.layout)]
        place.flush(files)
        return {"clients": clients, "layouts": layouts}

    @classmethod
    def read(cls, index: Any, folder: Any) -> "ClientStates":
        """The states of an `index`, or anybody's; none is read yet.

        Raises LookupError, TypeError, ValueError or AttributeError if it is no
        index.
        """
        states = cls(folder=folder)
        for client_id, (name, number) in index["clients"].items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} isn't the name of a client's state")
            entry = states._entries[client_id] = _Entry(_AWAY)
            entry.layout = index["layouts"][number]
            entry.file = states._folder.file(name)
        return states

    def shaped(self, like: Any) -> "ClientStates":
        """The states with the structure of `like`.

        Raises ValueError if one has other arrays, or its file is damaged or
        not there. Those that don't fit into memory are read, and their
        checksums compared, when they are needed.
        """
        states = ClientStates(memory=self._memory)
        states._folder, room = self._folder, self._memory
        new = _Entry(like).measured()
        for client_id, raw in self._entries.items():
            entry = states._entries[client_id] = copy.copy(new)
            if raw.layout != entry.layout:
                raise ValueError(
                    "It is the state of another process: what client "
                    f"{client_id!r} keeps is {raw.layout}, and this process "
                    f"needs {entry.layout}. Build the process with the same "
                    "model and aggregator as the one that wrote it."
                )
            entry.state, entry.file = raw.state, raw.file
            room -= entry.num_bytes
            if raw.state is not _AWAY:
                arrays = keras.tree.flatten(raw.state)
                entry.state = keras.tree.pack_sequence_as(like, arrays)
            elif room >= 0 or not entry.is_there:
                entry.state = states[client_id]
        states._make_room()
        return states


def folder_of(path: Any) -> str:
    """Where the states of clients are that belong to a file of a state."""
    return os.path.abspath(os.fspath(path)) + _ENDING


def sweep(path: Any, index: Any) -> None:
    """Removes files that no state needs any more, once `index` is written."""
    folder = folder_of(path)
    if os.path.isdir(folder):
        kept = {name for name, _ in index["clients"].values()}
        _Folder.at(folder).sweep(kept)


class _Entry:
    """A client's state: here, in a file, or both."""

    def __init__(self, state: Any, like: "_Entry | None" = None):
        self.state = state
        self.file: _File | None = None
        if like is not None:
            self.num_bytes = like.num_bytes

    @functools.cached_property
    def num_bytes(self) -> int:
        arrays = keras.tree.flatten(self.state)
        return sum(a.nbytes for a in backend.to_numpy(arrays))

    @functools.cached_property
    def layout(self) -> list[list[Any]]:
        arrays = keras.tree.flatten(self.state)
        return [[a.dtype.name, *a.shape] for a in backend.to_numpy(arrays)]

    @functools.cached_property
    def structure(self) -> Any:
        return keras.tree.map_structure(lambda _: 0, self.state)

    def measured(self) -> Self:
        """Itself, which knows all of them when the state is away."""
        _ = self.num_bytes, self.layout, self.structure
        return self

    def leave(self, folder: "_Folder") -> None:
        """Moves the state into a file."""
        self.file = self.file or self.written(folder)
        self.measured().state = _AWAY

    def written(self, folder: "_Folder") -> "_File":
        """The file there that the state is in."""
        file = self.file
        if file and file.folder is folder and self.is_there:
            return file
        if self.state is _AWAY:
            assert file is not None
            return folder.put(file.read())
        arrays = keras.tree.flatten(self.state)
        return folder.put(wire.pack(backend.to_numpy(arrays)))

    @property
    def is_there(self) -> bool:
        """Whether its file is."""
        return self.file is not None and os.path.exists(self.file.path)

    def read(self) -> Any:
        state = self.state  # another thread may move it into a file
        if state is not _AWAY:
            return state
        assert self.file is not None
        arrays = wire.unpack(self.file.read())
        return keras.tree.pack_sequence_as(self.structure, arrays)


class _File:
    """A file that is named by the SHA-256 of what is in it."""

    def __init__(self, folder: "_Folder", name: str):
        self.folder = folder  # which stays as long as its files
        self.name = name
        self.is_whole = False  # it may be what a loss of power left
        self.is_durable = False

    @property
    def path(self) -> str:
        return os.path.join(self.folder.path, self.name)

    def read(self) -> bytes:
        with open(self.path, "rb") as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != self.name:
            raise ValueError(f"{self.path} is damaged or cut short")
        self.is_whole = True
        return data


class _Folder:
    """Files of states. All that use one folder share one object."""

    known: ClassVar[weakref.WeakValueDictionary] = weakref.WeakValueDictionary()

    def __init__(self, path: str | None):
        self.is_temporary = path is None
        self._path = path
        # Files that a state of this process is in.
        self._files: weakref.WeakValueDictionary[str, _File] = (
            weakref.WeakValueDictionary()
        )

    @classmethod
    def at(cls, path: Any) -> "_Folder":
        if path is None:
            return cls(None)
        path = os.path.realpath(os.fspath(path))
        with _LOCK:
            folder = cls.known.get(path)
            if folder is None:
                folder = cls.known[path] = cls(path)
            return folder

    @property
    def path(self) -> str:
        with _LOCK:
            if self._path is None:
                self._path = tempfile.mkdtemp(prefix="fedlearn-")
                weakref.finalize(self, shutil.rmtree, self._path, True)
            return self._path

    def file(self, name: str) -> _File:
        """A file of this name, which may not be there."""
        with _LOCK:
            file = self._files.get(name)
            if file is None:
                file = self._files[name] = _File(self, name)
            return file

    def put(self, data: bytes) -> _File:
        file = self.file(hashlib.sha256(data).hexdigest())
        with _LOCK:
            if not (file.is_whole and os.path.exists(file.path)):
                atomic_file.write(file.path, data, durable=False)
                file.is_whole, file.is_durable = True, False
        return file

    def flush(self, files: list[_File]) -> None:
        """Makes files survive a loss of power."""
        new = [file for file in files if not file.is_durable]
        for file in new:
            atomic_file.flush(file.path)
            file.is_durable = True
        if new:
            atomic_file.flush(self.path)

    def sweep(self, kept: set[str] | None = None) -> None:
        """Removes files that no state of this process is in, nor `kept`."""
        with _LOCK:
            for entry in os.listdir(self.path):
                name = entry.removesuffix(".partial")
                if _NAME.fullmatch(name) and (
                    entry != name or name not in {*self._files, *(kept or ())}
                ):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(os.path.join(self.path, entry))


def _flatten(states: Any) -> tuple[list, Any, list[str]]:
    ids = sorted(states)
    return [states[i] for i in ids], ids, ids


def _unflatten(ids: Any, values: Any) -> ClientStates:
    states = ClientStates()
    # Leaves may be anything for now, so none goes into a file.
    for client_id, state in zip(ids, values, strict=True):
        states._entries[client_id] = _Entry(state)
    return states


# To Keras the state of a server is one pytree, whatever clients keep.
optree.register_pytree_node(
    ClientStates, _flatten, _unflatten, namespace="keras"
)
