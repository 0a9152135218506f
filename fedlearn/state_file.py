"""A server's state as a file, written atomically and checked when read.

The file: a line that names the format, the SHA-256 of all that follows, then
a `fedlearn.wire` message with the state's arrays and a JSON text of facts. No
pickle: opening a file from elsewhere runs no code.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend, wire
from fedlearn.server_state import ServerState

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
    """Writes a file that is either the old one or the new one, whole."""
    path = os.path.abspath(os.fspath(path))
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(
        prefix=os.path.basename(path) + ".", suffix=".partial", dir=folder
    )
    try:
        with os.fdopen(handle, "wb") as file:
            # mkstemp's files are for their owner alone; this one is to have
            # the rights of any other file.
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(handle, 0o666 & ~umask)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def load(path: Any, like: ServerState) -> tuple[ServerState, Any]:
    """Reads what `save` wrote.

    Args:
        path: Where from.
        like: A state of the process that is to use it; shapes and dtypes are
            compared.

    Returns:
        `(state, facts)`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, isn't a state, or is the state of
            another model or another algorithm.
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
        values, clients, facts = _parts(wire.from_bytes(data[start:]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no state that this version can read: {error}."
        ) from error
    state = _fitted(path, values, like._replace(client_states={}))
    return state._replace(client_states=clients), facts


def _parts(message: Any) -> tuple[tuple, dict[str, Any], Any]:
    if not isinstance(message, dict):
        raise TypeError(f"it is a {type(message).__name__}, not a dict")
    values, clients = message["state"], message["clients"]
    if len(values) != len(ServerState._fields):
        raise ValueError(f"its state has {len(values)} parts")
    return values, dict(clients), json.loads(message["facts"].tobytes())


def _fitted(path: str, values: Any, like: ServerState) -> ServerState:
    for name, value, wanted in zip(
        ServerState._fields, values, like, strict=False
    ):
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
    leaves = [
        # A state of another backend has other integer widths.
        np.asarray(a, w.dtype)
        if isinstance(w, np.ndarray)
        else ops.convert_to_tensor(a, keras.backend.standardize_dtype(w.dtype))
        for a, w in zip(
            keras.tree.flatten(values), keras.tree.flatten(like), strict=True
        )
    ]
    return keras.tree.pack_sequence_as(like, leaves)


def _short(shapes: list[tuple]) -> str:
    text = ", ".join(map(str, shapes[:4]))
    return text + (", ..." if len(shapes) > 4 else "")
