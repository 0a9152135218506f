"""`fit`: rounds, callbacks, progress, checkpoints, resume."""

import hashlib
import numbers
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from fedlearn.callbacks.progress import Progress
from fedlearn.checkpoint import Checkpoint, callback_state, restore_callbacks
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.run_privacy import RunPrivacy
from fedlearn.samplers import Sampler, Uniform

if TYPE_CHECKING:
    from fedlearn.process import LearningProcess, ServerState


def fit(
    process: "LearningProcess",
    data: Any,
    rounds: int,
    clients_per_round: int | None = None,
    sampler: Sampler | None = None,
    validation_data: Any = None,
    validation_freq: int | Sequence[int] = 1,
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    verbose: str | int = "auto",
    seed: int = 0,
    checkpoint_dir: str | None = None,
    initial_state: "ServerState | None" = None,
) -> keras.callbacks.History:
    """Trains for some rounds, as `keras.Model.fit` does for epochs.

    A fresh run starts from `process.initialize(seed)`. To go on with an
    earlier one give its state as `initial_state`, or use `checkpoint_dir`.
    Afterwards `process.state` is the last state and `process.model` holds its
    weights, also after Ctrl-C or an error.

    Args:
        process: What to train.
        data: A `FederatedDataset`, a mapping from client ids to data, or a
            list of client data sets.
        rounds: The number of the last round, counted from the beginning of
            the run: a run resumed after round 40 with `rounds=100` does 60.
        clients_per_round: How many clients take part in each round, drawn
            uniformly without replacement; None for all of them.
        sampler: Who takes part, instead of `clients_per_round`.
        validation_data: Evaluated after rounds, its metrics logged as
            `val_*`: clients as `data`, or one pooled `(x, y)` tuple.
        validation_freq: Evaluate after every so many rounds; or a list of
            the rounds, counted from 1, after which to.
        callbacks: Keras callbacks; a round is an epoch. In them `self.model`
            is the model with the weights of the round, and
            `self.model.optimizer` the server's optimizer.
        verbose: 0 for silence, 1 (or "auto") for a progress bar, 2 for a line
            a round.
        seed: Of all that is random in the run.
        checkpoint_dir: A folder for the run's checkpoint. If there is one in
            it, the run goes on from there, exactly as if it had never
            stopped. Written after each round, or, where that would take over
            a tenth of the time, as often as a tenth allows, and always at
            the end. What a kill loses is computed again, to the same bits.
        initial_state: A state to start from, instead of a fresh one. A
            private run counts its rounds as if they had been like its own.

    Returns:
        A `keras.callbacks.History`: a list of values for each metric. Where
        an aggregator adds noise its `privacy` is a
        `fedlearn.privacy.Statement`; where clients do, with
        `LocalTraining(dp=...)`, its `privacy_example` is an
        `ExampleStatement`.

    Raises:
        ValueError: If an argument is out of range or contradicts another, or
            if the checkpoint in `checkpoint_dir` is of another run.
    """
    data = _as_dataset(data)
    sampler = _sampler(data, sampler, clients_per_round, seed)
    privacy = RunPrivacy(process, data, sampler)
    rounds = _whole("rounds", rounds)
    validation = _validation(validation_data)
    user_callbacks = list(callbacks or ())
    for callback in user_callbacks:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(
                "BackupAndRestore keeps the weights, but not the server's "
                "optimizer, the aggregator's state and the history. Use "
                "`checkpoint_dir=` instead: it keeps all of them, and a "
                "resumed run equals an unbroken one."
            )
    privacy.give_to(user_callbacks)
    history = keras.callbacks.History()
    shown = [Progress(_verbosity(verbose))] if _verbosity(verbose) else []

    state = process.initialize(seed) if initial_state is None else initial_state
    checkpoint = None
    restored = None
    if checkpoint_dir is not None:
        identity = _identity(process, data, sampler, seed)
        checkpoint = Checkpoint(checkpoint_dir, identity)
        restored = checkpoint.load(like=state)
        if restored is not None:
            state = restored.state
    first = int(state.round_num)
    if first > rounds:
        raise ValueError(
            f"The run is already at round {first}, past rounds={rounds}. "
            "`rounds` counts from the beginning of the run."
        )

    process.state = state
    model = process.model
    if model.optimizer is not None and not model.optimizer.built:
        # As Keras's `fit` does; an optimizer without variables is saved
        # without a state, and loading the file then warns.
        model.optimizer.build(model.trainable_variables)
    proxy = _CallbackModel(model, process)
    process.write_weights(state, model)
    model.stop_training = False
    everyone = [*user_callbacks, *shown, history]
    if restored is not None:
        _append_to_logs(user_callbacks)
    callback_list = keras.callbacks.CallbackList(
        everyone,
        model=proxy,
        epochs=rounds,
        initial_epoch=first,
        steps=1,
        verbose=_verbosity(verbose),
    )
    loop = _Loop(
        process,
        data,
        sampler,
        validation,
        validation_freq,
        bool(user_callbacks),
        callback_list,
        proxy,
        privacy,
    )
    if _verbosity(verbose):
        privacy.tell_limits(first if restored is None else 0)
    _set_rate(process, state)
    callback_list.on_train_begin()
    if restored is not None:
        restore_callbacks(user_callbacks, restored.callbacks)
        history.history.update(restored.history)
        history.epoch.extend(range(first))
        # Without callbacks nothing stands in the way of going on.
        # A callback may have stopped it again already: a smaller budget.
        model.stop_training |= restored.stopped and bool(user_callbacks)
    logs: dict[str, float] = {}
    try:
        for round_num in range(first, rounds):
            if model.stop_training:
                break
            state, logs = loop.run_round(state, round_num)
            process.state = state
            if checkpoint is not None:
                checkpoint.save_if_due(
                    state,
                    history=history.history,
                    callbacks=callback_state(user_callbacks),
                    stopped=bool(model.stop_training),
                )
        callback_list.on_train_end(logs)
        if user_callbacks:  # EarlyStopping may have restored the best weights
            state = process.state = process.read_weights(state, model)
    finally:
        state = process.state
        process.write_weights(state, model)
        if checkpoint is not None:
            checkpoint.save_latest()
    for statement in privacy.state_in(history, int(process.state.round_num)):
        if _verbosity(verbose) and not _is_told(statement, user_callbacks):
            print(f"Privacy: {statement}.")
    model.history = history
    return history


class _Loop:
    """One round after another; all that changes is the state."""

    def __init__(
        self,
        process: "LearningProcess",
        data: FederatedDataset,
        sampler: Sampler | None,
        validation: Any,
        validation_freq: int | Sequence[int],
        sync: bool,
        callback_list: keras.callbacks.CallbackList,
        proxy: "_CallbackModel",
        privacy: RunPrivacy,
    ):
        self._privacy = privacy
        self._process = process
        self._data = data
        self._sampler = sampler
        self._validation = validation
        self._validation_freq = validation_freq
        self._sync = sync
        self._callbacks = callback_list
        self._model = proxy
        self._warned = False

    def run_round(
        self, state: "ServerState", round_num: int
    ) -> tuple["ServerState", dict[str, float]]:
        process = self._process
        _set_rate(process, state)
        self._callbacks.on_epoch_begin(round_num)
        self._callbacks.on_train_batch_begin(0)
        state = _get_rate(process, state)
        state, logs = self._next(state, round_num)
        logs.update(self._privacy.epsilons(round_num + 1))
        # Until here only a whole round counts: after Ctrl-C in the middle of
        # it the state is that of the round before.
        process.state = state
        # TerminateOnNaN looks at the end of batches: a round has one.
        self._callbacks.on_train_batch_end(0, {"loss": logs.get("loss", 0.0)})
        if self._validation is not None and _is_due(
            self._validation_freq, round_num + 1
        ):
            metrics = process.evaluate(state, self._validation)
            logs.update(
                (f"val_{name}", value)
                for name, value in metrics.items()
                if name not in ("num_clients", "num_examples")
            )
        if self._sync:
            process.write_weights(state, self._model.wrapped)
        _set_rate(process, state)
        self._callbacks.on_epoch_end(round_num, logs)
        if self._sync:
            state = process.read_weights(state, self._model.wrapped)
        return _get_rate(process, state), logs

    def _next(self, state, round_num):
        if self._sampler is None:
            cohort = self._data
        else:
            ids = self._sampler.sample(round_num)
            if not ids and self._process.aggregator.adds_noise:
                broadcast = self._process.broadcast(state)
                nobody = self._process.empty_update(broadcast)
                return self._process.server_update(state, broadcast, nobody)
            if not ids:  # Poisson sampling drew nobody
                passed = state._replace(
                    round_num=np.asarray(round_num + 1, np.int64)
                )
                zeros = ("num_clients", "num_examples", "num_rejected")
                return passed, {
                    **dict.fromkeys(zeros, 0.0),
                    "bytes_up": 0.0,
                    "bytes_down": 0.0,
                }
            cohort = self._data.select(ids)
        state, logs = self._process.next(state, cohort)
        if (
            logs.get("num_rejected")
            and not logs["num_clients"]
            and not self._warned
        ):
            self._warned = True
            warnings.warn(
                f"In round {round_num + 1} no client's update was finite, so "
                "nothing was learned. The usual cause is a learning rate that "
                "is too high, or NaN in the data.",
                stacklevel=4,
            )
        return state, logs


class _CallbackModel:
    """The model as callbacks see it: with the server's optimizer.

    ReduceLROnPlateau, LearningRateScheduler and TensorBoard look at
    `model.optimizer`, and in federated training that is the server's. The
    model itself keeps the optimizer that it was compiled with, so that what
    ModelCheckpoint saves loads as the user compiled it.
    """

    def __init__(self, model: keras.Model, process: "LearningProcess"):
        object.__setattr__(self, "wrapped", model)
        object.__setattr__(self, "_process", process)

    @property
    def optimizer(self) -> keras.optimizers.Optimizer:
        return self._process._server_optimizer.optimizer

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.wrapped)

    def __getattr__(self, name: str) -> Any:
        if name == "jax_state_sync":  # the weights are in the model already
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.wrapped, name, value)


def _set_rate(process: "LearningProcess", state: "ServerState") -> None:
    server = process._server_optimizer
    for variable, value in zip(server.variables, state.optimizer, strict=True):
        if len(variable.shape) == 0:  # learning rate and step count
            variable.assign(value)


def _get_rate(
    process: "LearningProcess", state: "ServerState"
) -> "ServerState":
    server = process._server_optimizer
    rate = server.learning_rate(state.optimizer)
    if rate is None:
        return state
    now = float(ops.convert_to_numpy(server.optimizer.learning_rate))
    if now == rate:
        return state
    return state._replace(
        optimizer=server.with_learning_rate(state.optimizer, now)
    )


def _as_dataset(data: Any) -> FederatedDataset:
    if isinstance(data, FederatedDataset):
        return data
    if isinstance(data, Mapping):
        return FederatedDataset.from_clients(data)
    if isinstance(data, list) and data:
        if all(hasattr(item, "element_spec") for item in data):
            return FederatedDataset.from_tf_datasets(
                {str(i): item for i, item in enumerate(data)}
            )
        return FederatedDataset.from_clients(
            {str(i): item for i, item in enumerate(data)}
        )
    raise TypeError(
        "`data` must be a FederatedDataset, a dict from client ids to "
        "`(x, y)`, or a list of `(x, y)`, one for each client. Received: "
        f"{type(data).__name__}. Pooled arrays with a column of client ids "
        "become one with `FederatedDataset.from_arrays(x, y, client_ids)`."
    )


def _sampler(
    data: FederatedDataset,
    sampler: Sampler | None,
    clients_per_round: int | None,
    seed: int,
) -> Sampler | None:
    if not len(data):
        raise ValueError("`data` has no clients, so there is nobody to train.")
    if sampler is None:
        if clients_per_round is None:
            return None
        return Uniform(data, clients_per_round, seed=seed)
    if clients_per_round is not None:
        raise ValueError(
            "Give either `clients_per_round` or `sampler`, not both: the "
            "sampler says how many clients take part."
        )
    unknown = set(sampler.client_ids) - set(data.client_ids)
    if unknown:
        raise ValueError(
            f"The sampler draws clients that aren't in `data`, such as "
            f"{sorted(unknown)[0]!r} ({len(unknown)} of "
            f"{len(sampler.client_ids)}). Make the sampler of the same data "
            "set: `Uniform(data, ...)`."
        )
    return sampler


def _is_told(statement: Any, callbacks: Sequence[Any]) -> bool:
    """Whether a callback, such as PrivacyBudget, tells it itself."""
    return any(
        hasattr(callback, "set_guarantee")
        and isinstance(
            getattr(callback, "statement", statement), type(statement)
        )
        for callback in callbacks
    )


def _validation(data: Any) -> Any:
    if data is None or isinstance(data, Mapping | list):
        return data
    if isinstance(data, tuple):
        return {"validation_data": data}
    if hasattr(data, "element_spec"):
        return [data]
    raise TypeError(
        "`validation_data` must be a FederatedDataset, a list of client data "
        f"sets, or one pooled `(x, y)` tuple. Received: {type(data).__name__}."
    )


def _is_due(frequency: int | Sequence[int], round_num: int) -> bool:
    if isinstance(frequency, int):
        if frequency < 1:
            raise ValueError(
                f"`validation_freq` must be at least 1. Received: {frequency}."
            )
        return round_num % frequency == 0
    return round_num in frequency


def _whole(name: str, value: Any) -> int:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or value < 1 or value % 1:
        raise ValueError(
            f"`{name}` must be a whole number of at least 1. "
            f"Received: {value!r}."
        )
    return int(value)


def _verbosity(verbose: str | int) -> int:
    if verbose == "auto":
        return 1
    if verbose in (0, 1, 2):
        return int(verbose)
    raise ValueError(
        f"`verbose` must be 'auto', 0, 1 or 2. Received: {verbose!r}."
    )


def _append_to_logs(callbacks: list[keras.callbacks.Callback]) -> None:
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.CSVLogger):
            callback.append = True  # or it would begin the file anew


def _identity(
    process: "LearningProcess",
    data: FederatedDataset,
    sampler: Sampler | None,
    seed: int,
) -> dict[str, Any]:
    """What must be the same for a resumed run to equal an unbroken one."""
    drawn = data.client_ids if sampler is None else sampler.client_ids
    return {
        "algorithm": type(process).__name__,
        "client": _config(process.client),
        "server_optimizer": _config(process.server_optimizer),
        "aggregator": _config(process.aggregator),
        "broadcast_encoders": _plain(process.broadcast_encoders),
        "sampler": None if sampler is None else _config(sampler),
        "seed": int(seed),
        "clients": _digest(data.client_ids),
        "drawn_clients": _digest(drawn),
    }


def _digest(ids: Sequence[str]) -> str:
    text = "\n".join(ids).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:16]


def _config(thing: Any) -> dict[str, Any]:
    return {"class": type(thing).__name__, **_plain(thing.get_config())}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if k != "name"}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "get_config"):
        return _config(value)
    return type(value).__name__
