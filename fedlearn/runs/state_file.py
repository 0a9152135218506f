"""A server's state as a file, written atomically and checked when read.

The file: a line that names the format, the SHA-256 of all that follows, then
a `fedlearn.messages.wire` message with the state's arrays and a JSON text of
facts. No pickle: opening a file from elsewhere runs no code.
"""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import secrets
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from fedlearn import backend
from fedlearn.messages import wire
from fedlearn.messages.server_state import ServerState

_MAGIC = b"fedlearn state 1\n"


def save(path: Any, state: ServerState, facts: Any = None) -> None:
    """Writes a state.

    The file is written under another name in the same folder and renamed when
    it is complete, so that a kill at any moment leaves the old file or the
    new one, whole.

    Args:
        path: Where to.
        state: What.
        facts: Anything that JSON can hold, to be given back by `load`.
    """
    tree = state._replace(client_states={})
    message = wire.to_bytes(
        {
            "state": tuple(backend.to_numpy(tree)),
            "clients": backend.to_numpy(dict(state.client_states)),
            "facts": np.frombuffer(json.dumps(facts).encode(), np.uint8),
        }
    )
    write_atomically(path, _MAGIC + hashlib.sha256(message).digest() + message)


def write_atomically(path: Any, data: bytes) -> None:
    """Writes a file that is either the old one or the new one, whole.

    Also after a loss of power: the file and its folder are flushed. Halves
    that an earlier kill left are removed.
    """
    path = os.path.abspath(os.fspath(path))
    folder = os.path.dirname(path)
    _make_folder(folder)
    remove_halves(path)
    temporary, handle = _open_half(path)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
        _flush_folder(folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def remove_halves(path: Any) -> None:
    """Removes what kills have left of a file that was being written.

    Who writes one holds a lock on it, which ends with its process: a half
    that another process is writing stays.
    """
    pattern = glob.escape(os.path.abspath(os.fspath(path))) + ".*.partial"
    for half in glob.glob(pattern):
        with contextlib.suppress(OSError):  # it has its name by now
            handle = os.open(half, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(half)
            finally:
                os.close(handle)


def _open_half(path: str) -> tuple[str, int]:
    """A new file beside `path`, locked, with the rights of any other file."""
    while True:
        temporary = f"{path}.{secrets.token_hex(4)}.partial"
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
        handle = os.open(temporary, flags, 0o666)
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        # Between the two, another process may have taken it for a kill's.
        if os.fstat(handle).st_nlink:
            return temporary, handle
        os.close(handle)


def _make_folder(folder: str) -> None:
    if os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    _make_folder(parent)
    os.makedirs(folder, exist_ok=True)
    _flush_folder(parent)


def _flush_folder(folder: str) -> None:
    """What a rename or a new file is written with: the folder's entries."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system can
            os.fsync(handle)
    finally:
        os.close(handle)


class Written(NamedTuple):
    """What is in a file that `save` wrote, not yet compared with a process.

    Attributes:
        path: Of the file.
        values: The fields of a `ServerState`, in order, without what clients
            keep.
        client_states: What clients keep, by client id.
        facts: What `save` was given.
    """

    path: str
    values: tuple
    client_states: dict[str, Any]
    facts: Any

    @property
    def seed(self) -> int:
        """The run's."""
        return int(self.values[ServerState._fields.index("seed")])

    @property
    def round_num(self) -> int:
        """How many rounds had been done."""
        return int(self.values[ServerState._fields.index("round_num")])

    def state(self, like: ServerState, client_state: Any = ()) -> ServerState:
        """The state, for the process that is to use it.

        Args:
            like: A state of that process; structure, shapes and dtypes are
                compared.
            client_state: What a client of it keeps that is seen first.

        Raises:
            ValueError: If it is the state of another model or another
                algorithm.
        """
        state = _fitted(self.path, self.values, like)
        if self.client_states and not keras.tree.flatten(client_state):
            raise ValueError(
                f"{self.path} is the state of another process: it holds what "
                f"{len(self.client_states)} clients keep, and clients of this "
                "process keep nothing. Build the process with the same "
                "aggregator (error feedback) as the one that wrote it."
            )
        spec = _spec(client_state)
        kept = {}
        for client_id, value in self.client_states.items():
            if _spec(value) != spec:
                raise ValueError(
                    f"{self.path} is the state of another process: what "
                    f"client {client_id!r} keeps is {_spec(value)}, and this "
                    f"process needs {spec}. Build the process with the same "
                    "model and aggregator as the one that wrote it."
                )
            kept[client_id] = keras.tree.pack_sequence_as(
                client_state, keras.tree.flatten(value)
            )
        return state._replace(client_states=kept)


def _spec(tree: Any) -> list[tuple]:
    return [(a.dtype.name, *a.shape) for a in keras.tree.flatten(tree)]


def load(
    path: Any, like: ServerState, client_state: Any = ()
) -> tuple[ServerState, Any]:
    """Reads what `save` wrote.

    Args:
        path: Where from.
        like: As for `Written.state`.
        client_state: As for `Written.state`.

    Returns:
        `(state, facts)`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, isn't a state, or is the state of
            another model or another algorithm.
    """
    written = read(path)
    return written.state(like, client_state), written.facts


def read(path: Any) -> Written:
    """Reads what `save` wrote, for a process that is still to be known.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or isn't a state.
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        data = file.read()
    start = len(_MAGIC) + 32
    if not data.startswith(_MAGIC):
        raise ValueError(
            f"{path} isn't a state that fedlearn wrote: it begins with "
            f"{data[:16]!r}. States are written by `process.save_state` and "
            "into `checkpoint_dir`; a Keras model is read with "
            "`keras.models.load_model`."
        )
    if hashlib.sha256(data[start:]).digest() != data[len(_MAGIC) : start]:
        raise ValueError(
            f"{path} is damaged or cut short: its {len(data)} bytes don't "
            "match the checksum in it. Copy it again, or go back to an older "
            "one."
        )
    try:
        return Written(path, *_parts(wire.from_bytes(data[start:])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} holds no state that this version can read: {error}."
        ) from error


def _parts(message: Any) -> tuple[tuple, dict[str, Any], Any]:
    # A checksum only says that these are the bytes that somebody wrote.
    if not isinstance(message, dict):
        raise TypeError(f"it is a {type(message).__name__}, not a dict")
    values, clients = message["state"], message["clients"]
    if len(values) != len(ServerState._fields):
        raise ValueError(f"its state has {len(values)} parts")
    if not isinstance(clients, dict):
        raise TypeError("what clients keep isn't told by their ids")
    for name in ("round_num", "seed"):
        value = values[ServerState._fields.index(name)]
        if getattr(value, "shape", None) != () or value.dtype.kind not in "iu":
            raise TypeError(f"its {name!r} isn't a whole number")
        if not 0 <= int(value) < 2**63:
            raise ValueError(f"its {name!r} is {int(value)}")
    return values, clients, json.loads(message["facts"].tobytes())


def _fitted(path: str, values: Any, like: ServerState) -> ServerState:
    fields: dict[str, Any] = {}
    for name, value, wanted in zip(
        ServerState._fields, values, like, strict=True
    ):
        if name == "client_states":
            fields[name] = {}
            continue
        got, want = keras.tree.flatten(value), keras.tree.flatten(wanted)
        got_shapes = [tuple(np.shape(a)) for a in got]
        want_shapes = [tuple(a.shape) for a in want]
        if got_shapes != want_shapes:
            raise ValueError(
                f"{path} is the state of another process: its {name!r} has "
                f"{len(got)} arrays of shapes {_short(got_shapes)}, and this "
                f"process needs {len(want)} of shapes {_short(want_shapes)}. "
                "Build the process with the same model, server optimizer and "
                "aggregator as the one that wrote it."
            )
        fields[name] = keras.tree.pack_sequence_as(
            wanted,
            [_as(a, w, path, name) for a, w in zip(got, want, strict=True)],
        )
    return ServerState(**fields)


def _as(array: np.ndarray, wanted: Any, path: str, name: str) -> Any:
    """An array in the dtype that a process has it in.

    A state of another backend may have other widths of integers.
    """
    dtype = keras.backend.standardize_dtype(wanted.dtype)
    fits = array.dtype.name == dtype
    if not fits and array.dtype.kind in "iu" and "int" in dtype:
        fits = bool(np.all(array.astype(dtype) == array))
    if not fits:
        raise ValueError(
            f"{path} is the state of another process: its {name!r} has an "
            f"array of {array.dtype.name}, and this process needs {dtype}. "
            "Build the process with a model of the same dtypes as the one "
            "that wrote it."
        )
    if isinstance(wanted, np.ndarray):
        return np.asarray(array, wanted.dtype)
    return ops.convert_to_tensor(array, dtype)


def _short(shapes: list[tuple]) -> str:
    text = ", ".join(map(str, shapes[:4]))
    return text + (", ..." if len(shapes) > 4 else "")
