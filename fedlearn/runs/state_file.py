"""A server's state as a file, written atomically and checked when read.

The file: a line that names the format, the SHA-256 of all that follows, then
a `fedlearn.messages.wire` message with the state's arrays, and a JSON text of
facts. What clients keep is in a folder beside it, of the file's name with
`.clients`. No pickle: opening a file from elsewhere runs no code.
"""

import hashlib
import itertools
import json
import os
import re
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from fedlearn.messages import wire
from fedlearn.messages.server_state import ServerState
from fedlearn.runs import atomic_file, client_states
from fedlearn.runs.client_states import ClientStates

_MAGIC = b"fedlearn state 2\n"
# In which what clients keep was in the file itself.
_MAGIC_1 = b"fedlearn state 1\n"
_START = len(_MAGIC) + 32  # of the message, after its checksum
# Asynchronous rounds keep the updates that are on their way.
_MOST_HEADER = 2**26
# Those whose arrays are known beforehand, in the order of the file.
_FIELDS = tuple(name for name in ServerState._fields if name != "schedule")


def save(path: Any, state: ServerState, facts: Any = None) -> None:
    """Writes a state, with facts in JSON.

    A kill at any moment leaves the old state or the new one, whole: what
    clients keep is there before the file that says what of it is whose. Of
    them only what isn't there yet is written.
    """
    index = state.client_states.index(client_states.folder_of(path))
    values = {**state._asdict(), "client_states": {}}
    message = {
        "state": tuple(values[name] for name in _FIELDS),
        "clients": _json(index),
        "facts": _json(facts),
        "schedule": state.schedule,
    }
    checksum = hashlib.sha256()
    for chunk in wire.chunks(message):
        checksum.update(chunk)
    atomic_file.write(
        path,
        itertools.chain([_MAGIC, checksum.digest()], wire.chunks(message)),
    )
    client_states.sweep(path, index)


def _json(value: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


class Written(NamedTuple):
    """What is in a file that `save` wrote, not yet compared with a process.

    Attributes:
        values: The fields of a `ServerState` but `schedule`, in order, without
            what clients keep.
        clients: What clients keep, not yet `shaped`.
    """

    path: str
    values: tuple
    clients: ClientStates
    facts: Any
    schedule: Any = ()

    @property
    def seed(self) -> int:
        """The run's."""
        return int(self.values[_FIELDS.index("seed")])

    @property
    def round_num(self) -> int:
        """How many rounds had been done."""
        return int(self.values[_FIELDS.index("round_num")])

    def state(self, like: ServerState, client_state: Any = ()) -> ServerState:
        """The state, for a process with states `like` this.

        `client_state` is what a client keeps that is seen first. Raises
        ValueError for a state of another model or algorithm.
        """
        state = _fitted(self.path, self.values, like)
        if self.clients and not keras.tree.flatten(client_state):
            raise ValueError(
                f"{self.path} is the state of another process: it holds what "
                f"{len(self.clients)} clients keep, and clients of this "
                "process keep nothing. Build the process with the same "
                "aggregator (error feedback) as the one that wrote it."
            )
        try:
            states = self.clients.shaped(client_state)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error
        return state._replace(client_states=states, schedule=self.schedule)


def load(
    path: Any, like: ServerState, client_state: Any = ()
) -> tuple[ServerState, Any]:
    """The state and facts that `save` wrote: `read`, then `Written.state`."""
    written = read(path)
    return written.state(like, client_state), written.facts


def read(path: Any) -> Written:
    """Reads what `save` wrote, for a process that is still to be known.

    Raises FileNotFoundError; ValueError if it is damaged, or isn't a state.
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        magic, checksum = file.read(len(_MAGIC)), file.read(32)
        if magic not in (_MAGIC, _MAGIC_1):
            raise ValueError(_other_format(path, magic))
        if hashlib.file_digest(file, "sha256").digest() != checksum:
            raise ValueError(
                f"{path} is damaged or cut short: its {file.tell()} bytes "
                "don't match the checksum in it. Copy it again, or go back to "
                "an older one."
            )
        file.seek(_START)
        try:
            parts = _parts(
                path,
                wire.read(file, most_header=_MOST_HEADER),
                magic == _MAGIC_1,
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path} holds no state that this version can read: {error}."
            ) from error
    return Written(path, *parts)


def _other_format(path: str, magic: bytes) -> str:
    if newer := re.fullmatch(rb"fedlearn state (\d)\n", magic):
        return (
            f"{path} is a state of format {newer[1].decode()}, and this "
            "version of fedlearn reads formats 1 and 2. Update fedlearn, "
            "or go on with the version that wrote it."
        )
    return (
        f"{path} isn't a state that fedlearn wrote: it begins with {magic!r}. "
        "States are written by `process.save_state` and into "
        "`checkpoint_dir`; a Keras model is read with "
        "`keras.models.load_model`."
    )


def _parts(path: str, message: Any, old: bool) -> tuple:
    # A checksum only says that these are the bytes that somebody wrote.
    if not isinstance(message, dict):
        raise TypeError(f"it is a {type(message).__name__}, not a dict")
    values = message["state"]
    if old and len(values) == len(_FIELDS) - 1:
        values = (*values, ())  # written before there was `algorithm`
    if old:  # shapes were told by arrays without elements
        at = _FIELDS.index("aggregator")
        told = [a for a in keras.tree.flatten(values[at]) if a.size]
        values = (*values[:at], told, *values[at + 1 :])
    if len(values) != len(_FIELDS):
        raise ValueError(f"its state has {len(values)} parts")
    for name in ("round_num", "seed"):
        value = values[_FIELDS.index(name)]
        if getattr(value, "shape", None) != () or value.dtype.kind not in "iu":
            raise TypeError(f"its {name!r} isn't a whole number")
        if not 0 <= int(value) < 2**63:
            raise ValueError(f"its {name!r} is {int(value)}")
    facts = json.loads(message["facts"].tobytes())
    if old:
        return values, ClientStates(message["clients"]), facts
    index = json.loads(message["clients"].tobytes())
    clients = ClientStates.read(index, client_states.folder_of(path))
    return values, clients, facts, message.get("schedule", ())


def _fitted(path: str, values: Any, like: ServerState) -> ServerState:
    fields: dict[str, Any] = {}
    for name, value in zip(_FIELDS, values, strict=True):
        wanted = getattr(like, name)
        if name == "client_states":
            fields[name] = {}
            continue
        got, want = keras.tree.flatten(value), keras.tree.flatten(wanted)
        if len(got) > len(want):
            # Once, encoders' states told shapes by arrays without rows.
            got = [a for a in got if np.shape(a)[:1] != (0,)]
        got_shapes = [tuple(np.shape(a)) for a in got]
        want_shapes = [tuple(a.shape) for a in want]
        if got_shapes != want_shapes:
            raise ValueError(
                f"{path} is the state of another process: its {name!r} has "
                f"{len(got)} arrays of shapes {_short(got_shapes)}, and this "
                f"process needs {len(want)} of shapes {_short(want_shapes)}. "
                "Build the process with the same model, server optimizer and "
                "aggregator as the one that wrote it, or go on with the "
                "version of fedlearn that did."
            )
        fields[name] = keras.tree.pack_sequence_as(
            wanted,
            [_as(a, w, path, name) for a, w in zip(got, want, strict=True)],
        )
    return ServerState(**fields)


def _as(array: np.ndarray, wanted: Any, path: str, name: str) -> Any:
    """In the dtype a process has: backends' integers differ in width."""
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
