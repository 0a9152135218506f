"""The checkpoint of a run, from which it goes on exactly."""

import copy
import inspect
import json
import os
import time
import warnings
from typing import Any, NamedTuple

import keras
import numpy as np

from fedlearn.messages.server_state import ServerState
from fedlearn.runs import run_identity, state_file
from fedlearn.runs.state_file import Written

_WRITING_SHARE = 0.1  # of the run's time, at most

# CSVLogger's, from whether there is a file already.
_OF_THIS_START = ("append_header",)
_OF_THE_RUN = ("_model", "params")


class Restored(NamedTuple):
    """What a checkpoint holds.

    `per_client` has a `history` for each validation client, `callbacks` what
    `callback_state` gave; `stopped`: a callback had ended the run.
    """

    state: ServerState
    history: dict[str, list]
    per_client: dict[str, dict[str, list]]
    callbacks: list[Any]
    stopped: bool


class Checkpoint:
    """One file in a folder, replaced atomically.

    Args:
        folder: Made if it isn't there.
        identity: What must be equal for a run to go on, as plain JSON; see
            `fedlearn.runs.run_identity`.
        versions: What is told by a warning where it differs.
    """

    FILE = "checkpoint.fedlearn"

    def __init__(
        self,
        folder: Any,
        identity: dict[str, Any],
        versions: dict[str, str] | None = None,
    ):
        self.path = os.path.join(os.fspath(folder), self.FILE)
        self._identity = json.loads(json.dumps(identity))
        self._versions = versions or {}
        self._pending: tuple[ServerState, Any] | None = None
        self._written = float("-inf")
        self._cost = 0.0

    @classmethod
    def read(cls, folder: Any) -> Written | None:
        """What is in the folder, of whatever run; None if there is nothing."""
        path = os.path.join(os.fspath(folder), cls.FILE)
        return state_file.read(path) if os.path.exists(path) else None

    def restored(
        self, written: Written, like: ServerState, client_state: Any = ()
    ) -> Restored:
        """What `read` found; a ValueError if it is of another run."""
        facts = written.facts if isinstance(written.facts, dict) else {}
        theirs = facts.get("identity")
        if not isinstance(theirs, dict):
            raise ValueError(
                f"{self.path} doesn't say of which run it is, so it may be of "
                "another run: `fit` didn't write it. Go on from a state with "
                "`initial_state=process.load_state(path)`."
            )
        differ = run_identity.differences(theirs, self._identity)
        if differ:
            raise ValueError(
                f"{self.path} is the checkpoint of another run: "
                f"{'; '.join(differ)}. Go on with the same arguments, or give "
                "another `checkpoint_dir` (or delete this one) to start "
                "afresh; from its state with "
                "`initial_state=process.load_state(path)`."
            )
        versions = facts.get("versions", {})
        changed = run_identity.differences(versions, self._versions)
        if changed:
            warnings.warn(
                f"{self.path} was written with other versions: "
                f"{'; '.join(changed)}. The run goes on; that it equals an "
                "unbroken one, bit for bit, holds for the same versions.",
                stacklevel=5,
            )
        return Restored(
            written.state(like, client_state),
            facts["history"],
            facts["per_client"],
            facts["callbacks"],
            facts["stopped"],
        )

    def save_if_due(
        self,
        state: ServerState,
        history: dict[str, list],
        callbacks: list[Any],
        stopped: bool = False,
        per_client: dict[str, dict[str, list]] | None = None,
    ) -> None:
        """Writes a round's checkpoint, unless writing takes too much time."""
        facts = {
            "identity": self._identity,
            "versions": self._versions,
            # Copied: the file may be written later, in the middle of a round.
            "history": {name: list(v) for name, v in history.items()},
            "per_client": copy.deepcopy(per_client or {}),
            "callbacks": callbacks,
            "stopped": stopped,
        }
        self._pending = (state, facts)
        waited = time.perf_counter() - self._written
        if waited * _WRITING_SHARE >= self._cost:
            self.save_latest()

    def save_latest(self) -> None:
        """Writes the last round's checkpoint, if it isn't written yet."""
        if self._pending is None:
            return
        started = time.perf_counter()
        state_file.save(self.path, *self._pending)
        self._pending = None
        self._written = time.perf_counter()
        self._cost = self._written - started


def callback_state(
    callbacks: list[keras.callbacks.Callback],
) -> list[dict[str, Any]]:
    """What callbacks count and compare: their numbers, and lists of arrays.

    So EarlyStopping's patience and ModelCheckpoint's best value go on.
    """
    states = []
    for callback in callbacks:
        attributes = {}
        for name, value in vars(callback).items():
            encoded = _encode(value)
            if encoded is not None and name not in _OF_THE_RUN:
                attributes[name] = encoded
        states.append(
            {"class": type(callback).__name__, "attributes": attributes}
        )
    return states


def restore_callbacks(
    callbacks: list[keras.callbacks.Callback], states: list[dict[str, Any]]
) -> None:
    """Gives callbacks back what `callback_state` found in them.

    They must be of the same classes in the same order; others keep what they
    begin with. What a callback was constructed with is the user's to change.
    """
    for callback, state in zip(callbacks, states, strict=False):
        if type(callback).__name__ != state["class"]:
            continue
        cls = type(callback)
        arguments = inspect.signature(cls.__init__).parameters
        for name, encoded in state["attributes"].items():
            # A file must not put a number where a method is.
            taken = getattr(cls, name, None)
            if callable(taken) or isinstance(taken, property):
                continue
            if name not in (*arguments, *_OF_THIS_START, *_OF_THE_RUN):
                setattr(callback, name, _decode(encoded))


def _encode(value: Any) -> Any:
    if isinstance(value, (bool, int, float)):
        return {"number": value}
    if isinstance(value, np.generic):
        return {"number": value.item()}
    if (
        isinstance(value, list)
        and value
        and all(isinstance(a, np.ndarray) for a in value)
    ):
        return {
            "arrays": [
                {
                    "dtype": a.dtype.name,
                    "shape": a.shape,
                    "hex": np.ascontiguousarray(a).tobytes().hex(),
                }
                for a in value
            ]
        }
    return None


def _decode(encoded: Any) -> Any:
    if "number" in encoded:
        return encoded["number"]
    return [
        np.frombuffer(bytes.fromhex(a["hex"]), a["dtype"])
        .reshape(a["shape"])
        .copy()
        for a in encoded["arrays"]
    ]
