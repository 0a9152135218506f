"""`fit`: rounds, callbacks, progress, checkpoints, resume."""

import dataclasses
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from fedlearn import backend, checks
from fedlearn.advice import keras_words
from fedlearn.callbacks.progress import Progress
from fedlearn.clients.cohort import client_arrays
from fedlearn.conditions import get as as_conditions
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.metrics.name_classes import name_classes
from fedlearn.runs import log_files, run_identity
from fedlearn.runs.callback_model import CallbackModel, set_rate, with_rate
from fedlearn.runs.checkpoint import (
    Checkpoint,
    callback_state,
    restore_callbacks,
)
from fedlearn.runs.client_states import folder_of
from fedlearn.runs.left_out import LeftOut
from fedlearn.runs.run_privacy import RunPrivacy
from fedlearn.runs.schedule import Schedule
from fedlearn.runs.validation import Validation
from fedlearn.samplers import Poisson, Sampler, Uniform

if TYPE_CHECKING:
    from fedlearn.conditions.conditions import Conditions
    from fedlearn.messages.server_state import ServerState
    from fedlearn.process import LearningProcess


@keras_words.answers(keras_words.FIT)
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
    seed: int | None = None,
    checkpoint_dir: Any = None,
    initial_state: "ServerState | None" = None,
    conditions: "str | Conditions | None" = None,
) -> keras.callbacks.History:
    """Trains for some rounds, as `keras.Model.fit` does for epochs.

    The first call starts from `initialize(seed)`. As in Keras, another call
    goes on: `fit(data, 3)` and `fit(data, 2)` make what `fit(data, 5)` makes,
    bit for bit. Weights that you changed in `model` in between
    (`load_weights`, Keras's own `fit`) are trained on from. To start afresh
    give `initial_state=process.initialize(seed)`.

    Afterwards, also after Ctrl-C or an error, `state` is that of the last
    round that was done, and `model` holds its weights.

    Args:
        data: A `FederatedDataset`, a mapping from client ids to data, or
            a list of client data sets.
        rounds: How many rounds to train. With `checkpoint_dir`, the
            number of the last round, counted from the beginning of the
            run: started again after round 40, `rounds=100` does 60.
        clients_per_round: How many clients take part in each round, drawn
            uniformly without replacement; None for all of them. Where the
            aggregator adds noise each takes part by its own coin, so many
            on average (`samplers.Poisson`): what noise is planned for.
            For a fixed number give a `sampler`; noise that clients share
            has it in any case.
        sampler: Who takes part, instead of `clients_per_round`.
        validation_data: Evaluated after rounds, its metrics logged as
            `val_*`: clients as `data`, or one pooled `(x, y)` tuple.
        validation_freq: Evaluate after every so many rounds; or a list of
            the rounds, counted from 1, after which to.
        callbacks: Keras callbacks; a round is an epoch, whose number is
            that of the round since the beginning of the run. In them
            `self.model` is the model with the weights of the round, and
            `self.model.optimizer` the server's optimizer.
        verbose: 0 for silence, 1 (or "auto") for a progress bar, 2 for a
            line a round.
        seed: Of all that is random in the run; None for that of the run
            that goes on, and 0 for a fresh one.
        checkpoint_dir: A folder for the run's checkpoint. If there is one
            in it, the run goes on from there, exactly as if it had never
            stopped, whatever `state` and `initial_state` are. Written
            after each round, or as often as a tenth of the time allows,
            and always at the end; what a kill loses is computed again, to
            the same bits.
        initial_state: A state to start from. A private run counts its
            rounds as if they had been like its own.
        conditions: Which clients are there, how long they take and who drops
            out, on a clock that is simulated: a
            `fedlearn.conditions.Conditions`, such as `Phones()`, or
            `"phones"`. Logged with each round are `sim_hours` since the
            beginning, how many clients were asked (`num_asked`) and weren't
            counted (`num_dropped`, `num_late`), how often the round was
            abandoned (`num_abandoned`), and `wasted_hours` of clients.
            `clients_per_round` is how many reports a round waits for; where
            noise is added, epsilon gains nothing from sampling.

    Returns:
        A `keras.callbacks.History`: a list of values for each metric, of
        this call's rounds; with `checkpoint_dir`, of all the run's. Its
        `per_client` has those of 2 to 20 validation clients by id, unless
        metrics are private. Where an aggregator adds noise its `privacy` is
        a `fedlearn.privacy.Statement`; where clients do, with
        `LocalTraining(dp=...)`, its `privacy_example` is an
        `ExampleStatement`. Both count all rounds of the run. Under
        `conditions` its `attendance` says who took part how often, a
        `fedlearn.conditions.Attendance`, unless metrics are private.

    Raises:
        ValueError: If an argument is out of range or contradicts another;
            if the checkpoint in `checkpoint_dir` is of another run, with
            all that differs of what decides numbers: the model (but not
            the weights it began with), its loss, optimizers, the
            executor's plan, the backend, the data (see
            `fedlearn.data.fingerprint`). Callbacks and validation data are
            yours to change.
    """
    given, data = data, as_dataset(data, process)
    rounds = checks.whole("rounds", rounds)
    checks.one_of("verbose", verbose, ("auto", 0, 1, 2))
    verbose = 1 if verbose == "auto" else int(verbose)
    validation = Validation(
        validation_data, validation_freq, process, given, data.class_names
    )
    callbacks = list(callbacks or ())
    if any(isinstance(c, keras.callbacks.BackupAndRestore) for c in callbacks):
        raise ValueError(
            "BackupAndRestore keeps the weights, but not the server's "
            "optimizer, the aggregator's state and the history. Use "
            "`checkpoint_dir=` instead: it keeps all of them, and a resumed "
            "run equals an unbroken one."
        )
    written = (
        None if checkpoint_dir is None else Checkpoint.read(checkpoint_dir)
    )
    # A folder's checkpoint wins: the run in it is the one to go on with.
    before = process.state if initial_state is None else initial_state
    state = _start(process, None if written else before, seed)
    if seed is None:
        seed = int((written or state).seed)
    if conditions is not None:
        conditions = as_conditions(conditions)
        if sampler is None and clients_per_round is not None:
            sampler = Uniform(data, clients_per_round, seed=seed)
            clients_per_round = None
    sampler = chosen_sampler(process, data, sampler, clients_per_round, seed)
    schedule = process.schedule(data, sampler, conditions)
    privacy = RunPrivacy(process, data, schedule.sampler)
    privacy.give_to(callbacks)
    checkpoint = restored = None
    if checkpoint_dir is not None:
        checkpoint = Checkpoint(
            checkpoint_dir,
            run_identity.identity(process, data, sampler, seed, conditions),
            run_identity.versions(),
        )
    if checkpoint is not None and written is not None:
        restored = checkpoint.restored(written, state, process.client_state)
        state = restored.state
    elif before is not None:
        privacy.check_earlier_rounds(before, known=initial_state is None)
        if initial_state is None:
            state = _as_in_model(process, state)
    state = state._replace(
        schedule=_gone_on_with(state.schedule, schedule.initialize())
    )
    # A round's new states go where the checkpoint has them.
    files = None if checkpoint is None else folder_of(checkpoint.path)
    state = state._replace(client_states=state.client_states.kept_in(files))
    first = int(state.round_num)
    # With a folder, whoever starts a script again asks for the same rounds;
    # without, a second call trains on, as in Keras.
    last = first + rounds if checkpoint is None else rounds
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
    process.write_weights(state, model)
    model.stop_training = False
    if restored is not None:
        log_files.go_on(callbacks, first)
    history = keras.callbacks.History()
    shown = [Progress(verbose)] if verbose else []
    callback_list = keras.callbacks.CallbackList(
        [*callbacks, *shown, history],
        model=CallbackModel(model, process),
        epochs=last,
        initial_epoch=first,
        steps=1,
        verbose=verbose,
    )
    if verbose:
        privacy.tell_limits()
    set_rate(process, state)
    callback_list.on_train_begin()
    if restored is not None:
        restore_callbacks(callbacks, restored.callbacks)
        history.history.update(restored.history)
        validation.per_client.update(restored.per_client)
        # The folder may have been new when the run had done some rounds.
        known = max(map(len, restored.history.values()), default=0)
        history.epoch.extend(range(first - known, first))
        # Without callbacks nothing stands in the way of going on.
        # A callback may have stopped it again already: a smaller budget.
        model.stop_training |= restored.stopped and bool(callbacks)
    run = _Run(
        process, data, schedule, validation, privacy, callback_list, callbacks
    )
    logs: dict[str, float] = {}
    try:
        for round_num in range(first, last):
            if model.stop_training:
                break
            state, logs = run.turn(state, round_num)
            if checkpoint is not None:
                checkpoint.save_if_due(
                    state,
                    history=history.history,
                    per_client=validation.per_client,
                    callbacks=callback_state(callbacks),
                    stopped=bool(model.stop_training),
                )
        callback_list.on_train_end(logs)
        if callbacks:  # EarlyStopping may have restored the best weights
            state = process.state = process.read_weights(state, model)
    finally:
        state = process.state
        process.write_weights(state, model)
        _IN_MODEL[model] = state
        privacy.remember(state)
        if checkpoint is not None:
            checkpoint.save_latest()
    run.left_out.tell(stacklevel=4)
    for statement in privacy.state_in(history, int(state.round_num)):
        if verbose and not _is_told(statement, callbacks):
            print(f"Privacy: {statement}.")
    history.per_client = validation.per_client
    if not process.privacy.private_metrics:
        for name, fact in schedule.facts(state).items():
            setattr(history, name, fact)
    model.history = history
    return history


@dataclasses.dataclass
class _Run:
    """What stays the same from turn to turn."""

    process: "LearningProcess"
    data: FederatedDataset
    schedule: Schedule
    validation: Validation
    privacy: RunPrivacy
    callbacks: keras.callbacks.CallbackList
    of_user: Sequence[keras.callbacks.Callback]
    left_out: LeftOut = dataclasses.field(default_factory=LeftOut)

    def turn(
        self, state: "ServerState", round_num: int
    ) -> tuple["ServerState", dict[str, float]]:
        process, callbacks = self.process, self.callbacks
        set_rate(process, state)
        callbacks.on_epoch_begin(round_num)
        callbacks.on_train_batch_begin(0)
        state = with_rate(process, state)
        state, metrics, clients = self.schedule.next(process, state, self.data)
        self._look(metrics, clients, round_num)
        # As in evaluations, whose values stand beside these.
        names = process.functional_model.metric_names
        logs = name_classes(metrics, self.data.class_names, names)
        logs.update(self.privacy.epsilons(round_num + 1))
        # Until here only a whole round counts: after Ctrl-C in the middle of
        # it the state is that of the round before.
        process.state = state
        # TerminateOnNaN looks at the end of batches: a round has one. A loss
        # of nobody is no sign of numbers that overflow.
        loss = logs.get("loss", 0.0) if logs.get("num_clients", 1) else 0.0
        callbacks.on_train_batch_end(0, {"loss": loss})
        logs.update(self.validation.logs(process, state))
        if self.of_user:
            process.write_weights(state, process.model)
        set_rate(process, state)
        callbacks.on_epoch_end(round_num, logs)
        if self.of_user:
            state = process.read_weights(state, process.model)
        state = with_rate(process, state)
        process.state = state
        return state, logs

    def _look(
        self, metrics: dict[str, float], clients: Any, round_num: int
    ) -> None:
        """Warns where updates were left out because they weren't finite."""
        rejected = int(metrics.get("num_rejected") or 0)
        if not rejected:
            return
        nobody = ""
        finite = int(metrics["num_clients"])
        if not metrics.get("num_aggregated", finite):
            aggregator = self.process.aggregator
            which = "no client's update was finite"
            if finite:
                which = (
                    f"updates of only {finite} clients were finite, and "
                    f"{type(aggregator).__name__} needs "
                    f"{aggregator.num_required}"
                )
            nobody = (
                f"In round {round_num + 1} {which}, so nothing was learned, "
                "and the server is as before. "
            )
        self.left_out.look(clients, rejected, nobody, stacklevel=6)


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

    Keras would train on from them; those that another process left in a model
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


def as_dataset(data: Any, process: "LearningProcess") -> FederatedDataset:
    """Clients, as `fit` takes them, as a data set."""
    if isinstance(data, FederatedDataset):
        return data
    if isinstance(data, list) and data:
        data = {str(i): item for i, item in enumerate(data)}
    if isinstance(data, Mapping):
        return FederatedDataset.from_clients(
            {
                key: client_arrays(item, str(key), process.functional_model)
                for key, item in data.items()
            }
        )
    raise TypeError(
        "`data` must be a FederatedDataset, a dict from client ids to "
        "`(x, y)`, or a list of `(x, y)`, one for each client. Received: "
        f"{type(data).__name__}. Pooled arrays with a column of client ids "
        "become one with `FederatedDataset.from_arrays(x, y, client_ids)`."
    )


def chosen_sampler(
    process: "LearningProcess",
    data: FederatedDataset,
    sampler: Sampler | None,
    clients_per_round: int | None,
    seed: int,
) -> Sampler | None:
    """Who takes part in the rounds of `fit`; None for everyone."""
    if not len(data):
        raise ValueError("`data` has no clients, so there is nobody to train.")
    if sampler is None:
        if clients_per_round is None:
            return None
        if process.draws_by_poisson(len(data), clients_per_round):
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


def _gone_on_with(remembered: Any, fresh: Any) -> Any:
    """What a schedule goes on with: afresh if that was of another schedule."""
    if type(remembered) is not type(fresh):
        return fresh
    if not isinstance(fresh, dict):
        return remembered
    # A version before may have remembered less.
    is_own = remembered.keys() <= fresh.keys()
    return {**fresh, **remembered} if is_own else fresh
