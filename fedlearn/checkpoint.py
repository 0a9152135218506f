"""The checkpoint of a run, from which it goes on exactly."""

import inspect
import os
import time
from typing import Any, NamedTuple

import keras
import numpy as np

from fedlearn import state_file
from fedlearn.server_state import ServerState

_WRITING_SHARE = 0.1  # of the run's time, at most

# CSVLogger's, from whether there is a file already.
_OF_THIS_START = ("append_header",)


class Restored(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        state: The server's state.
        history: Lists of metrics, by name.
        callbacks: What callbacks remember, from `callback_state`.
        stopped: Whether a callback had ended the run.
    """

    state: ServerState
    history: dict[str, list]
    callbacks: list[Any]
    stopped: bool


class Checkpoint:
    """One file in a folder, replaced atomically.

    Args:
        folder: Where; made if it isn't there.
        identity: What must be equal for a run to go on from the checkpoint,
            as plain JSON.
    """

    FILE = "checkpoint.fedlearn"

    def __init__(self, folder: Any, identity: dict[str, Any]):
        self.path = os.path.join(os.fspath(folder), self.FILE)
        self._identity = identity
        self._pending: tuple[ServerState, Any] | None = None
        self._written = float("-inf")
        self._cost = 0.0

    def load(self, like: ServerState) -> Restored | None:
        """The checkpoint in the folder; None if there is none.

        Raises:
            ValueError: If it is damaged, or of another run.
        """
        if not os.path.exists(self.path):
            return None
        state, facts = state_file.load(self.path, like)
        theirs = (facts or {}).get("identity", {})
        if theirs != self._identity:
            names = sorted(
                name
                for name in {*theirs, *self._identity}
                if theirs.get(name) != self._identity.get(name)
            )
            details = "; ".join(
                f"{name} was {theirs.get(name)} and is now "
                f"{self._identity.get(name)}"
                for name in names
            )
            raise ValueError(
                f"{self.path} is the checkpoint of another run: {details}. "
                "Go on with the same arguments, or give another "
                "`checkpoint_dir` (or delete this one) to start afresh."
            )
        return Restored(
            state, facts["history"], facts["callbacks"], facts["stopped"]
        )

    def save_if_due(
        self,
        state: ServerState,
        history: dict[str, list],
        callbacks: list[Any],
        stopped: bool = False,
    ) -> None:
        """Writes a round's checkpoint, unless writing takes too much time."""
        facts = {
            "identity": self._identity,
            # Copied: the file may be written later, in the middle of a round.
            "history": {name: list(v) for name, v in history.items()},
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

    EarlyStopping's patience, ReduceLROnPlateau's cooldown and
    ModelCheckpoint's best value go on where they were.
    """
    states = []
    for callback in callbacks:
        attributes = {}
        for name, value in vars(callback).items():
            encoded = _encode(value)
            if encoded is not None and name not in ("_model", "params"):
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
        arguments = inspect.signature(type(callback).__init__).parameters
        for name, encoded in state["attributes"].items():
            if name not in arguments and name not in _OF_THIS_START:
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
