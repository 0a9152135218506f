"""`fit`: rounds, callbacks, progress, checkpoints, resume."""

import math
import numbers
import warnings
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from fedlearn import backend
from fedlearn.callbacks.progress import Progress
from fedlearn.clients.cohort import client_arrays
from fedlearn.data.class_names import listed, name_classes
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.metrics.per_client import FEW
from fedlearn.runs import log_files, run_identity
from fedlearn.runs.checkpoint import (
    Checkpoint,
    callback_state,
    restore_callbacks,
)
from fedlearn.runs.client_states import folder_of
from fedlearn.runs.left_out import LeftOut
from fedlearn.runs.run_privacy import RunPrivacy, draws_by_poisson
from fedlearn.samplers import Poisson, Sampler, Uniform

if TYPE_CHECKING:
    from fedlearn.process import LearningProcess, ServerState


def fit(
    process: "LearningProcess",
    data: Any,
    rounds: int,
    clients_per_round: int | None,
    sampler: Sampler | None,
    validation_data: Any,
    validation_freq: int | Sequence[int],
    callbacks: Sequence[keras.callbacks.Callback] | None,
    verbose: str | int,
    seed: int | None,
    checkpoint_dir: str | None,
    initial_state: "ServerState | None",
) -> keras.callbacks.History:
    """What `LearningProcess.fit` does."""
    given, data = data, _as_dataset(data, process)
    rounds = _whole("rounds", rounds)
    validation = _validation(validation_data)
    _check_class_names(data, validation)
    if process.privacy.private_metrics:
        _check_private(given, validation)
    user_callbacks = list(callbacks or ())
    for callback in user_callbacks:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(
                "BackupAndRestore keeps the weights, but not the server's "
                "optimizer, the aggregator's state and the history. Use "
                "`checkpoint_dir=` instead: it keeps all of them, and a "
                "resumed run equals an unbroken one."
            )
    history = keras.callbacks.History()
    shown = [Progress(_verbosity(verbose))] if _verbosity(verbose) else []

    written = (
        None if checkpoint_dir is None else Checkpoint.read(checkpoint_dir)
    )
    # A folder's checkpoint wins: the run in it is the one to go on with.
    before = process.state if initial_state is None else initial_state
    state = _start(process, None if written else before, seed)
    if seed is None:
        seed = int((written or state).seed)
    sampler = _sampler(process, data, sampler, clients_per_round, seed)
    privacy = RunPrivacy(process, data, sampler)
    privacy.give_to(user_callbacks)
    checkpoint = None
    restored = None
    if checkpoint_dir is not None:
        checkpoint = Checkpoint(
            checkpoint_dir,
            run_identity.identity(process, data, sampler, seed),
            run_identity.versions(),
        )
    if checkpoint is not None and written is not None:
        restored = checkpoint.restored(written, state, process.client_state)
        state = restored.state
    elif before is not None:
        privacy.check_earlier_rounds(before, known=initial_state is None)
        if initial_state is None:
            state = _as_in_model(process, state)
    # A round's new states go where the checkpoint has them.
    files = None if checkpoint is None else folder_of(checkpoint.path)
    state = state._replace(client_states=state.client_states.kept_in(files))
    first = int(state.round_num)
    # With a folder, whoever starts a script again asks for the same rounds;
    # without, a second call trains on, as in Keras.
    last = first + rounds if checkpoint_dir is None else rounds
    if first > last:
        raise ValueError(
            f"The run is already at round {first}, past rounds={rounds}. With "
            "`checkpoint_dir`, `rounds` counts from the beginning of the run. "
            "To start afresh give `initial_state=process.initialize(seed)` "
            "and a new folder."
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
        log_files.go_on(user_callbacks, first)
    callback_list = keras.callbacks.CallbackList(
        everyone,
        model=proxy,
        epochs=last,
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
        privacy.tell_limits()
    _set_rate(process, state)
    callback_list.on_train_begin()
    if restored is not None:
        restore_callbacks(user_callbacks, restored.callbacks)
        history.history.update(restored.history)
        loop.per_client.update(restored.per_client)
        # The folder may have been new when the run had done some rounds.
        known = max(map(len, restored.history.values()), default=0)
        history.epoch.extend(range(first - known, first))
        # Without callbacks nothing stands in the way of going on.
        # A callback may have stopped it again already: a smaller budget.
        model.stop_training |= restored.stopped and bool(user_callbacks)
    logs: dict[str, float] = {}
    try:
        for round_num in range(first, last):
            if model.stop_training:
                break
            state, logs = loop.run_round(state, round_num)
            process.state = state
            if checkpoint is not None:
                checkpoint.save_if_due(
                    state,
                    history=history.history,
                    per_client=loop.per_client,
                    callbacks=callback_state(user_callbacks),
                    stopped=bool(model.stop_training),
                )
        callback_list.on_train_end(logs)
        if user_callbacks:  # EarlyStopping may have restored the best weights
            state = process.state = process.read_weights(state, model)
    finally:
        state = process.state
        process.write_weights(state, model)
        _IN_MODEL[model] = state
        privacy.remember(state)
        if checkpoint is not None:
            checkpoint.save_latest()
    loop.left_out.tell(stacklevel=4, more=True)
    for statement in privacy.state_in(history, int(process.state.round_num)):
        if _verbosity(verbose) and not _is_told(statement, user_callbacks):
            print(f"Privacy: {statement}.")
    history.per_client = loop.per_client
    model.history = history
    return history


# What the last `fit` left in a model, which processes may share.
_IN_MODEL: "weakref.WeakKeyDictionary[keras.Model, ServerState]" = (
    weakref.WeakKeyDictionary()
)


def _start(
    process: "LearningProcess", state: "ServerState | None", seed: int | None
) -> "ServerState":
    """A fresh state, or the one to go on from."""
    if state is None:
        return process.initialize(0 if seed is None else seed)
    if seed is not None and seed != int(state.seed):
        raise ValueError(
            f"seed={seed}, but the run that goes on, at round "
            f"{int(state.round_num)}, has the seed {int(state.seed)}. Leave "
            "`seed` out to go on; to start afresh give "
            f"`initial_state=process.initialize({seed})`."
        )
    return state


def _as_in_model(
    process: "LearningProcess", state: "ServerState"
) -> "ServerState":
    """`state` with weights that the user gave the model since the last `fit`.

    Keras would train on from them. Those that another process left in a model
    that both share are no one's wish.
    """
    if _IN_MODEL.get(process.model) is not state:
        return state
    now = process.read_weights(state, process.model)
    same = all(
        a.tobytes() == b.tobytes()
        for a, b in zip(
            backend.to_numpy([*state.trainable, *state.non_trainable]),
            backend.to_numpy([*now.trainable, *now.non_trainable]),
            strict=True,
        )
    )
    return state if same else now


# What an evaluation gives beside the model's metrics.
_BESIDE_METRICS = ("num_clients", "num_examples", "per_client", "statistics")


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
        self.left_out = LeftOut()
        # The metrics of each validation client, where they are few.
        self.per_client: dict[str, dict[str, list[float]]] = {}
        self._by_name = (
            validation is not None
            and 1 < len(validation) <= FEW
            and not process.privacy.private_metrics
        )

    def run_round(
        self, state: "ServerState", round_num: int
    ) -> tuple["ServerState", dict[str, float]]:
        process = self._process
        _set_rate(process, state)
        self._callbacks.on_epoch_begin(round_num)
        self._callbacks.on_train_batch_begin(0)
        state = _get_rate(process, state)
        state, logs = self._next(state, round_num)
        # As in evaluations, whose values stand beside these.
        logs = name_classes(
            logs, self._data.class_names, process._functional.metric_names
        )
        logs.update(self._privacy.epsilons(round_num + 1))
        # Until here only a whole round counts: after Ctrl-C in the middle of
        # it the state is that of the round before.
        process.state = state
        # TerminateOnNaN looks at the end of batches: a round has one.
        # A loss of nobody is no sign of numbers that overflow.
        loss = logs.get("loss", 0.0) if logs.get("num_clients", 1) else 0.0
        self._callbacks.on_train_batch_end(0, {"loss": loss})
        if self._validation is not None and _is_due(
            self._validation_freq, round_num + 1
        ):
            metrics = process.evaluate(
                state, self._validation, per_client=self._by_name
            )
            logs.update(
                (f"val_{name}", value)
                for name, value in metrics.items()
                if name not in _BESIDE_METRICS
            )
            for client_id, values in metrics.get("per_client", {}).items():
                kept = self.per_client.setdefault(client_id, {})
                for name, value in values.items():
                    kept.setdefault(name, []).append(value)
        if self._sync:
            process.write_weights(state, self._model.wrapped)
        _set_rate(process, state)
        self._callbacks.on_epoch_end(round_num, logs)
        if self._sync:
            state = process.read_weights(state, self._model.wrapped)
        return _get_rate(process, state), logs

    def _of_nobody(self, logs: dict[str, float]) -> dict[str, float]:
        """The logs of a round in which nobody took part.

        Nobody's loss is no number, but it has its place in the history: one
        entry a round. A plot has a gap there, and a callback that looks for
        the best value passes it over.
        """
        counts = ("num_", "bytes_")
        return {
            name: math.nan
            if name in self._process.client_metrics
            and not name.startswith(counts)
            else value
            for name, value in logs.items()
        }

    def _next(self, state, round_num):
        if self._sampler is None:
            cohort = self._data
        else:
            ids = self._sampler.sample(round_num)
            if not ids:
                # Poisson sampling drew nobody: a round all the same, with its
                # noise, for the server's optimizer and for schedules.
                broadcast = self._process.broadcast(state)
                nobody = self._process.empty_update(broadcast)
                state, logs = self._process.server_update(
                    state, broadcast, nobody
                )
                return state, self._of_nobody(logs)
            cohort = self._data.select(ids)
        state, logs = self._process.next(state, cohort)
        rejected = int(logs.get("num_rejected") or 0)
        if not rejected:
            return state, logs
        nothing = (
            f"In round {round_num + 1} no client's update was finite, so "
            "nothing was learned. "
        )
        before = "" if logs["num_clients"] else nothing
        if self.left_out.look(cohort, rejected):
            self.left_out.tell(stacklevel=6, before=before)
        elif before and not self._warned:
            self._warned = True
            warnings.warn(
                f"{before}The usual cause is a learning rate that is too high.",
                stacklevel=6,
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


def _as_dataset(data: Any, process: "LearningProcess") -> FederatedDataset:
    if isinstance(data, FederatedDataset):
        return data
    if isinstance(data, list) and data:
        data = {str(i): item for i, item in enumerate(data)}
    if isinstance(data, Mapping):
        return FederatedDataset.from_clients(
            {
                key: client_arrays(item, str(key), process._functional)
                for key, item in data.items()
            }
        )
    raise TypeError(
        "`data` must be a FederatedDataset, a dict from client ids to "
        "`(x, y)`, or a list of `(x, y)`, one for each client. Received: "
        f"{type(data).__name__}. Pooled arrays with a column of client ids "
        "become one with `FederatedDataset.from_arrays(x, y, client_ids)`."
    )


def _sampler(
    process: "LearningProcess",
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
        if draws_by_poisson(process, len(data), clients_per_round):
            return Poisson(data, clients_per_round, seed=seed)
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


def _check_class_names(data: FederatedDataset, validation: Any) -> None:
    ours, theirs = data.class_names, getattr(validation, "class_names", None)
    if ours is not None and theirs is not None and ours != theirs:
        raise ValueError(
            "The labels of `data` and `validation_data` number their classes "
            f"differently: {listed(ours)} and {listed(theirs)}. Make both of "
            "one data set (`split` or `split_examples`), or give both the "
            "same `class_names=[...]` when they are made."
        )


def _check_private(data: Any, validation: Any) -> None:
    """Raises ValueError if metrics of the clients themselves would be logged.

    They are told by their ids, and by their very arrays. Copies can't be told
    to be theirs: whoever gives them has to know.
    """
    if validation is None:
        return
    ours, theirs = _named(data), _named(validation)
    known = []
    if isinstance(data, Mapping) and isinstance(validation, Mapping):
        known = sorted(ours.keys() & theirs.keys())
    if not known:
        arrays = set().union(*ours.values())
        known = [name for name, own in theirs.items() if own & arrays]
    if known:
        raise ValueError(
            f"`validation_data` has clients that are trained on, such as "
            f"{known[0]!r} ({len(known):,} of {len(theirs):,}), and its "
            "metrics are exact, which private_metrics=True is to rule out. "
            "Validate on other clients (`train, held_out = data.split(0.9)`), "
            "or on public examples, as one pooled `(x, y)` tuple."
        )


def _named(clients: Any) -> dict[str, set[int]]:
    """Of each client, which objects it is made of, where they are at hand."""
    if isinstance(clients, FederatedDataset):
        return {client_id: set() for client_id in clients}
    pairs = (
        clients.items() if isinstance(clients, Mapping) else enumerate(clients)
    )
    return {
        str(name): {
            id(part)
            for part in keras.tree.flatten(item)
            if hasattr(part, "shape") or hasattr(part, "element_spec")
        }
        for name, item in pairs
    }


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
