import copy
import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from fedlearn import (
    backend,
    checks,
    executors,
    optimizers,
    seeds,
    serialization,
    training,
)
from fedlearn.advice import keras_words
from fedlearn.aggregators.aggregator import Aggregator
from fedlearn.clients import layer_statistics
from fedlearn.clients.algorithm import Algorithm, Shared
from fedlearn.clients.cohort import Cohort
from fedlearn.clients.local_training import LocalTraining
from fedlearn.clients.personal_variables import (
    IsPersonal,
    PersonalVariables,
    placed,
)
from fedlearn.clients.program import ClientProgram, ClientState, seed_words
from fedlearn.data.class_names import listed
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.encoders.chain import Encoders, links
from fedlearn.encoders.encoder import Encoder
from fedlearn.evaluation import evaluate_values
from fedlearn.executors.executor import Run, counted, naming
from fedlearn.executors.sequential import client_rounds
from fedlearn.keras_model import model_copy, variable_roles
from fedlearn.keras_model.functional_model import (
    Arrays,
    FunctionalModel,
    to_backend,
)
from fedlearn.messages import wire
from fedlearn.messages.broadcast import Broadcast, Received
from fedlearn.messages.download import Download
from fedlearn.messages.message import Message
from fedlearn.messages.server_state import ServerState
from fedlearn.messages.update import StackedUpdate, Update
from fedlearn.names import AGGREGATORS, CLIENTS, usages
from fedlearn.optimizers.functional import FunctionalOptimizer
from fedlearn.privacy.privacy import Privacy
from fedlearn.runs.client_states import ClientStates
from fedlearn.runs.schedule import Rounds, Schedule
from fedlearn.samplers.sampler import Sampler
from fedlearn.serialization import Configurable


class LearningProcess(Configurable):
    """A federated algorithm: `initialize`, `next`, `evaluate`, and `fit`.

    `next` is the composition of its halves, which are public so that they can
    run in different places::

        broadcast = process.broadcast(state)
        message_k, kept_k = process.client_message(broadcast, data_k, seed_k)
        update_k = process.accept(broadcast, message_k)
        total = update_1 + update_2 + ...
        state, metrics = process.server_update(state, broadcast, total)

    All of them are pure: the same arguments give the same result, and nothing
    that is passed in is changed.

    Args:
        model: A compiled `keras.Model` with weights.
        client: This and the next ones as for `FederatedAveraging`.
        server_optimizer: It gets minus the aggregate of the clients' updates
            as gradient.
        aggregator: How updates become one.
        executor: How clients are run.
        broadcast_encoders: What happens to the trainable weights on their way
            to the clients, who start from what is decoded; the server's own
            stay as they are.
        privacy: Delta, where noise comes from, and which metrics are told.
        algorithm: What is done besides Federated Averaging, a
            `fedlearn.algorithms.Algorithm`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If something that the model does can't be honoured.
    """

    @keras_words.answers(keras_words.PROCESS)
    def __init__(
        self,
        model: keras.Model,
        client: LocalTraining | None = None,
        server_optimizer: str | keras.optimizers.Optimizer | None = None,
        aggregator: Aggregator | None = None,
        executor: Any = "auto",
        broadcast_encoders: Encoders = (),
        privacy: Privacy | None = None,
        algorithm: Algorithm | None = None,
    ):
        if client is None or isinstance(client, str):
            client = serialization.get(
                client or "fedavg", CLIENTS, LocalTraining, "client"
            )
        self.client = client
        if isinstance(client, type) or not hasattr(self.client, "build"):
            raise TypeError(
                "`client` must be a fedlearn.LocalTraining (or another object "
                f"with its methods), or a string: {usages(CLIENTS)}. "
                f"Received: {client!r}."
            )
        if isinstance(aggregator, Encoder):
            raise TypeError(
                "Encoders go into an aggregator: "
                f"aggregator=Mean([{aggregator!r}])."
            )
        self.aggregator: Aggregator = serialization.get(
            "mean" if aggregator is None else aggregator,
            AGGREGATORS,
            Aggregator,
            "aggregator",
        )
        self.privacy = Privacy() if privacy is None else privacy
        checks.instance("privacy", self.privacy, Privacy)
        self.privacy.check(self.aggregator, self.client)
        choice = getattr(self.client, "statistics", "average")
        self._functional = FunctionalModel(
            model, frozen_statistics=choice == "frozen"
        )
        self.algorithm = copy.copy(algorithm or Algorithm())
        personal = PersonalVariables(
            self._functional, self._is_personal(choice == "local")
        )
        self.aggregator = self.aggregator.build(
            [*personal.spec, *self.algorithm.extra_spec(personal.spec)]
        )
        self._personal = personal
        if personal.statistics:
            layer_statistics.check(
                self.aggregator,
                variable_roles.layers_with(model, personal.statistics),
            )
        if server_optimizer is None:
            server_optimizer = keras.optimizers.SGD(1.0)
        self.server_optimizer = optimizers.get(
            server_optimizer, "server_optimizer"
        )
        self._server_optimizer = FunctionalOptimizer(
            self.server_optimizer,
            [model.trainable_variables[i] for i in personal.shared],
        )
        self._trainer = self.client.build(
            self._functional, self.algorithm, personal
        )
        self._program = ClientProgram(self._trainer, self.aggregator)
        self.algorithm.check(self)
        self._initial_values = self._functional.values()
        self.executor = executors.get(executor)
        self._runner: Run | None = None
        self._client_rounds: Any = None
        self._server_step = backend.jit(self._server_step_fn)
        self._aggregator_params = backend.jit(self.aggregator.params)
        self._accept = backend.jit(
            lambda params, message: counted(
                self._program, self._program.accept(params, message)
            )
        )
        self.broadcast_encoders = links(broadcast_encoders)
        self._download = Download(self.broadcast_encoders, personal.spec)
        self._bytes_down: int | None = None
        self.state: ServerState | None = None
        # Of the classes that clients' labels numbered so far.
        self._class_names: tuple[str, ...] | None = None
        # A state, and how private its rounds were; see `RunPrivacy`.
        self._private_rounds: tuple[ServerState | None, dict[str, str]]
        self._private_rounds = (None, {})
        # A state, and what the schedule that led to it remembers.
        self._scheduled: tuple[ServerState | None, Any] = (None, ())

    def __repr__(self) -> str:
        parts = {
            "client": self.client,
            "server_optimizer": self.server_optimizer,
            "aggregator": self.aggregator,
            "executor": self.executor,
        }
        if self.broadcast_encoders:
            parts["broadcast_encoders"] = list(self.broadcast_encoders)
        if self.privacy != Privacy():
            parts["privacy"] = self.privacy
        arguments = ", ".join(
            f"{name}={serialization.shown(part)}"
            for name, part in parts.items()
        )
        done = "" if self.state is None else f", {self.state.round_num} rounds"
        return (
            f"<{type(self).__name__} of {serialization.shown(self.model)}: "
            f"{arguments}{done}>"
        )

    # The process without data, and elsewhere.

    def build(self, spec: Any) -> None:
        """Creates what depends on the examples' shapes, without any example.

        The first client that is read does it too. Without it, where no client
        is ever read, the metrics of clients' training aren't known.

        Args:
            spec: What has a `shape`, without the axis of examples, and a
                `dtype`, for each array of `(x,)`, `(x, y)` or
                `(x, y, sample_weight)`: as `FederatedDataset.element_spec`.

        Raises:
            ValueError: If the model can't be run on such examples.

        Example:

        >>> import keras
        >>> import fedlearn as fl
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> process = fl.FederatedAveraging(model)
        >>> process.build((keras.KerasTensor((2,)), keras.KerasTensor((1,))))
        >>> [s.shape for s in process.spec]
        [(2,), (1,)]
        """
        self._functional.build(spec)

    @property
    def spec(self) -> Any:
        """A `keras.KerasTensor` for each array of `(x, y)` or so.

        Without the axis of examples; None before `build` and before a client
        was read.
        """
        examples = self._functional.no_examples
        if examples is None:
            return None

        def spec_of(array: np.ndarray) -> keras.KerasTensor:
            kind = "string" if array.dtype.kind in "SUO" else array.dtype.name
            return keras.KerasTensor(array.shape[1:], kind)

        return keras.tree.map_structure(spec_of, examples)

    def get_config(self) -> dict[str, Any]:
        """All that makes an equal process, but the model's weights.

        Returns:
            A dict that JSON can hold, with the model in Keras's form; the
            arguments by name, `spec`, and `process`, the class.

        Example:

        >>> import json, keras
        >>> import fedlearn as fl
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> process = fl.FederatedAveraging(model, aggregator="median")
        >>> text = json.dumps(process.get_config())
        >>> copy = fl.LearningProcess.from_config(json.loads(text))
        >>> type(copy).__name__, copy.aggregator
        ('FederatedAveraging', Median())
        >>> copy.model.set_weights(model.get_weights())
        """
        config = super().get_config()
        return {
            "process": keras.saving.get_registered_name(type(self)),
            **{n: serialization.serialized(v) for n, v in config.items()},
            "spec": serialization.serialized(self.spec),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The process that `get_config` described, of its class.

        The weights that its model begins with are fresh ones; rounds take
        those of a state, which `load_state` reads.

        Args:
            config: From `get_config`.

        Raises:
            ValueError: If there is no algorithm of that name: the module of
                one of your own must be imported first.
            TypeError: If Keras can't make the model again: layers, losses and
                metrics of your own have to be registered with
                `keras.saving.register_keras_serializable`.
        """
        importlib.import_module("fedlearn.algorithms")
        arguments = dict(config)
        name, spec = arguments.pop("process", None), arguments.pop("spec", None)
        kind: Any = cls
        if name is not None:
            kind = keras.saving.get_registered_object(name)
        if kind is None or not issubclass(kind, LearningProcess):
            raise ValueError(
                f"There is no algorithm {name!r}. Import the module that "
                "defines it first."
            )
        process: Any = super(LearningProcess, kind).from_config(arguments)
        if spec is not None:
            process.build(serialization.revived(spec))
        return process

    # The process.

    def initialize(self, seed: int = 0) -> ServerState:
        """The state before the first round.

        The weights are those that the model had when the process was built.

        Args:
            seed: Of all that is random in the run: 0 <= seed < 2**63.
        """
        if not 0 <= int(seed) < 2**63:
            raise ValueError(f"`seed` must be in [0, 2**63). Received: {seed}.")
        trainable, non_trainable = map(to_backend, self._initial_values)
        return ServerState(
            trainable=trainable,
            non_trainable=non_trainable,
            optimizer=self._server_optimizer.initial_values(
                self._shared_of(trainable)
            ),
            aggregator=self.aggregator.init(),
            client_states=ClientStates(),
            round_num=np.asarray(0, np.int64),
            seed=np.asarray(seed, np.int64),
            algorithm=self.algorithm.init(self._personal.spec),
        )

    def next(
        self, state: ServerState, clients: Any
    ) -> tuple[ServerState, dict[str, float]]:
        """One round, in which all of `clients` take part.

        Args:
            state: Of the round before; not changed.
            clients: A `FederatedDataset`, or a list of client data sets:
                `(x, y)` or `(x, y, sample_weight)` arrays, or
                `tf.data.Dataset`s of examples or of batches.

        Returns:
            `(state, metrics)`: metrics of the clients' training by Keras's
            names, with `num_clients`, `num_examples`, `num_rejected`,
            `bytes_up`, `bytes_down`, and what the aggregator adds.

        Raises:
            ValueError: If there is no client, or if the model can't take a
                client's examples.
        """
        broadcast = self.broadcast(state)
        total = self.cohort_update(state, broadcast, clients)
        return self.server_update(state, broadcast, total)

    @keras_words.answers(keras_words.EVALUATE)
    def evaluate(
        self,
        state: Any = None,
        clients: Any = None,
        per_client: bool = False,
        batch_size: int = 256,
    ) -> dict[str, Any]:
        """Federated evaluation: `evaluate(clients)`, of what `fit` trained.

        Where weights or statistics are personal, a client that has taken part
        in a round is evaluated with its own, by its id.

        Args:
            state: Whose weights to evaluate. Without it, as in
                `evaluate(clients)` or `evaluate(clients=clients)`, those of
                `self.state`.
            clients: As in `next`.
            per_client: Whether to give each client's own metrics too.
            batch_size: Examples at a time; see `fedlearn.evaluate`.

        Returns:
            Metrics merged over all examples, as if they were pooled, with
            `num_clients` and `num_examples`. With `per_client=True` also
            those of `fedlearn.metrics.per_client.statistics`.

        Raises:
            ValueError: If there is no state yet, if the model can't take a
                client's examples, or if labels that have class names number
                the classes differently from those trained on.
            TypeError: If `state` isn't one, or there are no clients.
        """
        if clients is None and not isinstance(state, ServerState):
            state, clients = None, state
        if clients is None:
            raise TypeError(
                "evaluate() got no clients. Expected evaluate(clients), or "
                "evaluate(state, clients)."
            )
        state = self._given_or_last(state)
        cohort = self.cohort(clients)
        self._check_class_names(cohort)
        return evaluate_values(
            self._functional,
            state.trainable,
            state.non_trainable,
            cohort,
            per_client=per_client,
            batch_size=batch_size,
            weights_of=self._weights_of(state),
        )

    def _check_class_names(self, cohort: Cohort) -> None:
        """Raises if labels don't number classes as those trained on do."""
        ours, theirs = self._class_names, cohort.class_names
        if ours is not None and theirs is not None and ours != theirs:
            raise ValueError(
                "The labels of these clients number their classes "
                f"differently from those that were trained on: "
                f"{listed(theirs)}, and not {listed(ours)}. Make both of one "
                "data set (`split` or `split_examples`), or give both the "
                "same `class_names=[...]` when they are made."
            )

    def _given_or_last(self, state: Any) -> ServerState:
        if isinstance(state, ServerState):
            return state
        if state is not None:
            raise TypeError(
                "`state` must be a ServerState, from `initialize`, `next`, "
                f"`load_state` or `state`. Received: {type(state).__name__}. "
                "Further arguments are given by name: "
                "evaluate(clients, per_client=True)."
            )
        if self.state is None:
            raise ValueError(
                "There is no state yet: `fit` has not run. Train first, or "
                "give a state, such as evaluate(process.initialize(), clients)."
            )
        return self.state

    # The halves.

    def broadcast(self, state: ServerState) -> Broadcast:
        """What the server sends to every client of the round."""
        rate = self._trainer.optimizer.scheduled_rate(int(state.round_num))
        run, round_num = int(state.seed), int(state.round_num)
        words = seed_words(seeds.fold(run, "aggregator", round_num))
        return Broadcast(
            trainable=self._download.send(
                self._shared_of(state.trainable),
                seed_words(seeds.fold(run, "broadcast", round_num)),
            ),
            statistics=[
                state.non_trainable[i] for i in self._personal.statistics
            ],
            learning_rate=() if rate is None else np.asarray(rate, np.float32),
            params=self._aggregator_params(state.aggregator, words),
            algorithm=self.algorithm.broadcast(state.algorithm),
            resident=(state.trainable, state.non_trainable),
        )

    def receive(self, broadcast: Broadcast) -> Received:
        """A broadcast as a client has it, decoded and put together.

        Args:
            broadcast: From `broadcast`, or unpacked from its bytes.
        """
        trainable, non_trainable = broadcast.resident or map(
            to_backend, self._initial_values
        )
        return Received(
            placed(
                trainable,
                self._personal.shared,
                self._download.receive(broadcast.trainable),
            ),
            placed(
                non_trainable,
                self._personal.statistics,
                broadcast.statistics,
            ),
            broadcast.learning_rate,
            broadcast.params,
            broadcast.algorithm,
        )

    def client_message(
        self,
        broadcast: Broadcast,
        data: Any,
        seed: int,
        client_state: Any = None,
    ) -> tuple[Message, Any]:
        """What one client sends, and what it keeps for its next round.

        Args:
            broadcast: From `broadcast`.
            data: `(x, y)` or `(x, y, sample_weight)` arrays, or a
                `tf.data.Dataset`.
            seed: The client's own in this round, from `client_seed`.
            client_state: What the client kept from its last round; None for
                one that is seen first.

        Returns:
            `(message, client_state)`, of NumPy arrays. The message's bytes
            are those of `fedlearn.messages.wire.pack`.
        """
        received = self.receive(broadcast)
        own = client_state or self._program.fresh(received)

        def state_of(client_id):
            return own

        client = Cohort([data], self._functional, state_of).read(0)
        if self._client_rounds is None:
            self._client_rounds = client_rounds(
                self._program, self._program.send
            )
        with naming([client.id]):
            message, kept = self._client_rounds(received, client, seed)
        return self._program.to_wire(message), backend.to_numpy(kept)

    def accept(
        self,
        broadcast: Broadcast,
        message: Message,
        client_id: str | None = None,
        client_state: Any = None,
    ) -> Update:
        """What the server makes of a client's message.

        Args:
            broadcast: What the client was sent.
            message: From `client_message`, or from its bytes by
                `fedlearn.messages.wire.unpack` with `message_spec`.
            client_id: Whose it is; needed with `client_state`.
            client_state: What the client keeps, if the server keeps it for
                the client.

        Raises:
            ValueError: If it isn't of `message_spec`.
        """
        read = self._program.from_wire(message)
        num_bytes = len(wire.pack(message))
        sums = self._accept(broadcast.params, read)
        states = {}
        if client_id is not None and keras.tree.flatten(client_state or ()):
            states[client_id] = client_state
        kind = StackedUpdate if self._program.stacked else Update
        return kind.of(sums, num_bytes, states)

    @property
    def broadcast_spec(self) -> Broadcast:
        """Shapes and dtypes of what clients are sent: `broadcast(...).sent`."""
        return keras.tree.map_structure(
            lambda a: keras.KerasTensor(a.shape, a.dtype.name),
            backend.to_numpy(self.broadcast(self.initialize()).sent),
        )

    @property
    def message_spec(self) -> Message:
        """Shapes and dtypes of what `client_message` gives, None if unknown.

        Metrics are in it once the process has seen examples, or their spec.
        """
        return self._program.message_spec()

    def client_update(
        self,
        broadcast: Broadcast,
        data: Any,
        seed: int,
        client_state: Any = None,
        client_id: str | None = None,
    ) -> Any:
        """What one client adds to the round's total.

        `accept` of what `client_message` gives.

        Args:
            broadcast: From `broadcast`.
            data: As for `client_message`.
            seed: As for `client_message`.
            client_state: What the client kept from its last round; `()` for
                one that is seen first.
            client_id: Who it is. What it keeps is then in the update too, and
                `server_update` puts it into the state.

        Returns:
            The `Update`; with `client_state`, `(update, client_state)`.
        """
        message, kept = self.client_message(
            broadcast, data, seed, client_state or None
        )
        update = self.accept(
            broadcast, message, client_id, None if client_id is None else kept
        )
        return update if client_state is None else (update, kept)

    def cohort_update(
        self, state: ServerState, broadcast: Broadcast, clients: Any
    ) -> Update:
        """The sum of what clients add to the round's total.

        The executor runs them; `client_update` of each, added up, gives the
        same up to rounding.

        Args:
            state: Of the round before; what clients kept is read from it.
            broadcast: From `broadcast`.
            clients: As for `next`.
        """
        received = self.receive(broadcast)
        state_of = self._state_of(state, received)
        cohort = Cohort(clients, self._functional, state_of)
        self._check_class_names(cohort)
        self._class_names = cohort.class_names or self._class_names
        client_seeds = [self.client_seed(state, i) for i in cohort.ids]
        if self._runner is None:
            self._runner = self.executor.bind(self._program)
        return self._runner(received, cohort, client_seeds)

    def server_update(
        self, state: ServerState, broadcast: Broadcast, total: Update
    ) -> tuple[ServerState, dict[str, float]]:
        """The state after a round, and the round's metrics.

        Args:
            state: Before the round.
            broadcast: What its clients were sent.
            total: The sum of their updates.
        """
        took_part = int(total.num_clients) + int(total.num_rejected)
        if took_part:
            self.aggregator.check_cohort(took_part)
        noise = self.aggregator.draw(state.aggregator, self._noise_rng(state))
        positions = self._personal.statistics
        shared, statistics, optimizer, aggregator, algorithm, results = (
            self._server_step(
                self._shared_of(state.trainable),
                [state.non_trainable[i] for i in positions],
                state.optimizer,
                state.aggregator,
                state.algorithm,
                broadcast.params,
                total.sums,
                noise,
            )
        )
        results = backend.to_numpy(results)
        metrics = {name: float(value) for name, value in results.items()}
        metrics["bytes_up"] = float(total.bytes_up)
        metrics["bytes_down"] = float(took_part * self.bytes_down(broadcast))
        if self.privacy.private_metrics:
            covered = self.aggregator.covered_metrics
            metrics = {n: v for n, v in metrics.items() if n in covered}
        # All others are the very arrays that they were.
        return state._replace(
            trainable=placed(state.trainable, self._personal.shared, shared),
            non_trainable=placed(state.non_trainable, positions, statistics),
            optimizer=list(optimizer),
            aggregator=aggregator,
            client_states=state.client_states.updated(total.client_states),
            round_num=np.asarray(state.round_num + 1, np.int64),
            algorithm=algorithm,
        ), metrics

    def bytes_down(self, broadcast: Broadcast) -> int:
        """How many bytes one client is sent, those of `wire.pack`.

        What is the same in all rounds (frozen weights, an adapted layer's
        mean) comes with the model, once, and isn't counted.

        Args:
            broadcast: From `broadcast`.
        """
        if self._bytes_down is None:
            self._bytes_down = len(wire.pack(backend.to_numpy(broadcast.sent)))
        return self._bytes_down

    @property
    def client_metrics(self) -> tuple[str, ...]:
        """What `server_update` tells of clients' data as it is.

        No noise of an aggregator covers it; `privacy` may say to leave it
        out.
        """
        zeros = [
            ops.zeros(v.shape, v.dtype)
            for v in self._functional.metrics_variables
        ]
        names = self._functional.metrics_result(zeros)
        counts = ("num_clients", "num_examples", "num_rejected")
        # Bytes count clients.
        return (*names, *counts, "bytes_up", "bytes_down")

    def client_seed(self, state: ServerState, client_id: str) -> int:
        """The seed of a client in the round that follows `state`.

        It depends on the run's seed, the round and the client's id, and not
        on who else takes part or in which order; on nothing but the operating
        system's entropy with `Privacy(secure_noise=True)`.

        Args:
            state: Of the round before.
            client_id: The client's id in the data.
        """
        if self.privacy.secure_noise:
            return int.from_bytes(os.urandom(8), "little")
        return seeds.fold(
            int(state.seed), "client", int(state.round_num), client_id
        )

    # What executors and tools need.

    @property
    def program(self) -> ClientProgram:
        """A client's round as pure functions."""
        return self._program

    @property
    def functional_model(self) -> FunctionalModel:
        """The model's pure functions."""
        return self._functional

    @property
    def update_spec(self) -> list[keras.KerasTensor]:
        """Shapes and dtypes of a client's update.

        Of the trained weights that clients share, and what an algorithm sends
        with them.
        """
        return self.aggregator.spec

    def cohort(self, clients: Any) -> Cohort:
        """The `clients` of a round, as in `next`, checked as they are read."""
        return Cohort(clients, self._functional)

    def _is_personal(self, keeps_statistics: bool) -> IsPersonal:
        model, roles = self._functional.model, self._functional.roles
        kept: set[int] = set()
        if keeps_statistics:
            kept = {id(model.non_trainable_variables[i]) for i in roles.state}
        of_algorithm = self.algorithm.personal_variables(model)

        def is_personal(variable):
            return id(variable) in kept or (
                of_algorithm is not None and of_algorithm(variable)
            )

        return is_personal

    def _shared_of(self, trainable: Arrays) -> Arrays:
        return [trainable[i] for i in self._personal.shared]

    def _state_of(
        self, state: ServerState, sent: ServerState | Received
    ) -> Callable[[str], Any]:
        """From client ids to what is kept; of what is `sent` by new ones."""
        fresh = backend.to_numpy(self._program.fresh(sent))
        return lambda client_id: state.client_states.get(client_id, fresh)

    def _weights_of(
        self, state: ServerState
    ) -> Callable[[str], tuple[Arrays, Arrays]] | None:
        """Clients' own weights by id; None where all use the server's."""
        overridden = type(self.algorithm).own_model
        personal = self._personal
        if (
            not (personal.trainable or personal.state)
            and overridden is Algorithm.own_model
        ):
            return None
        state_of = self._state_of(state, state)
        shared = Shared(
            self._shared_of(state.trainable),
            [state.non_trainable[i] for i in personal.statistics],
        )

        def weights_of(client_id):
            kept = state_of(client_id)
            own, mine = keras.tree.map_structure(
                ops.convert_to_tensor,
                (
                    self.algorithm.own_model(shared, kept.algorithm),
                    list(kept.personal),
                ),
            )
            return personal.put(
                placed(state.trainable, personal.shared, own.weights),
                placed(
                    state.non_trainable, personal.statistics, own.statistics
                ),
                mine,
            )

        return weights_of

    @property
    def client_state(self) -> ClientState:
        """What a client keeps that is seen first."""
        trainable, non_trainable = self._initial_values
        initial = Received(trainable, non_trainable, (), ())
        return backend.to_numpy(self._program.fresh(initial))

    def _server_step_fn(
        self,
        shared,
        statistics,
        optimizer,
        aggregator,
        algorithm,
        params,
        sums,
        noise,
    ):
        summand, metrics, num_clients, num_examples, num_rejected = sums
        aggregate, aggregator, added = self.aggregator.finish(
            aggregator, summand["update"], params, noise
        )
        update, algorithm, told = self.algorithm.server(
            algorithm,
            aggregate[: len(shared)],
            aggregate[len(shared) :],
            self.aggregator.num_counted(
                summand["update"], ops.cast(num_clients, "float32")
            ),
        )
        # The server descends along minus the mean update (Reddi et al. 2021,
        # algorithm 1): with SGD at learning rate 1 that adds the mean.
        shared, optimizer = self._server_optimizer.apply(
            optimizer, [-m for m in update], shared
        )
        statistics = layer_statistics.average(
            summand["statistics"],
            statistics,
            stacked=self._program.stacked,
            num_required=self.aggregator.num_required,
        )
        results = {
            **self._functional.metrics_result(metrics),
            "num_clients": num_clients,
            "num_examples": num_examples,
            "num_rejected": num_rejected,
            **added,
            **told,
        }
        return shared, statistics, optimizer, aggregator, algorithm, results

    def _noise_rng(self, state: ServerState) -> np.random.Generator:
        if self.privacy.secure_noise:
            key = int.from_bytes(os.urandom(16), "little")
        else:
            words = (int(state.seed), "noise", int(state.round_num))
            key = seeds.fold(*words) << 64 | seeds.fold(*words, "high")
        return np.random.Generator(np.random.Philox(key=key))

    def empty_update(self, broadcast: Broadcast) -> Update:
        """The sum of no clients' updates, who would have got `broadcast`.

        For a round in which nobody takes part, and whose noise has to be
        added all the same: that there was nobody must not show. A rule that
        looks at updates side by side gets as many as it needs, none of which
        counts.
        """
        nobody = self._program.nothing()
        summand, metrics, *counts = self._accept(broadcast.params, nobody)
        rows = self.aggregator.num_required
        if self._program.stacked:
            summand = keras.tree.map_structure(
                lambda a: ops.zeros((rows, *a.shape[1:]), a.dtype), summand
            )
        else:
            summand = keras.tree.map_structure(ops.zeros_like, summand)
        zeros = [ops.zeros_like(count) for count in counts]
        kind = StackedUpdate if self._program.stacked else Update
        return kind(
            summand, keras.tree.map_structure(ops.zeros_like, metrics), *zeros
        )

    # Models.

    @property
    def model(self) -> keras.Model:
        """The very model that the process was made of.

        After `fit` it holds the trained weights, those of `state`: an
        ordinary compiled Keras model, to be saved, evaluated or trained on.
        Rounds run with `next` don't touch it; see `get_model`.
        """
        return self._functional.model

    def get_model(
        self, state: ServerState | None = None, client: str | None = None
    ) -> keras.Model:
        """A compiled copy of the model with the weights of a state.

        Args:
            state: Whose; None for `self.state`.
            client: The id of a client whose own weights and statistics the
                model gets, where some are personal; those of the server if it
                hasn't taken part in a round.

        Raises:
            ValueError: If the model can't be copied: a subclassed model needs
                `get_config`; or if there is no state yet.
        """
        state = self._given_or_last(state)
        model = model_copy.copy(self._functional.model)
        weights_of = self._weights_of(state)
        if client is not None and weights_of is not None:
            trainable, non_trainable = weights_of(client)
            state = state._replace(
                trainable=trainable, non_trainable=non_trainable
            )
        self.write_weights(state, model)
        return model

    def write_weights(self, state: ServerState, model: keras.Model) -> None:
        """Assigns the weights of `state` to a model of the same structure."""
        pairs = [
            *zip(model.trainable_variables, state.trainable, strict=True),
            *zip(
                model.non_trainable_variables, state.non_trainable, strict=True
            ),
        ]
        for variable, value in pairs:
            # A copy: on JAX Keras's own `fit` and `evaluate` give away the
            # buffers of the model's variables, and with them the state's.
            variable.assign(ops.copy(value))
        model_copy.refresh(model)

    def read_weights(
        self, state: ServerState, model: keras.Model
    ) -> ServerState:
        """`state` with the weights that a model holds now."""

        def read(variables):
            return [ops.copy(v.value) for v in variables]

        return state._replace(
            trainable=read(model.trainable_variables),
            non_trainable=read(model.non_trainable_variables),
        )

    # The loop and its files, in files of their own.

    fit = training.fit

    def schedule(
        self, data: FederatedDataset, sampler: Sampler | None
    ) -> Schedule:
        """Who takes part in the rounds of `fit`, and when.

        Args:
            data: All clients.
            sampler: That `fit` was given, or made; None for everyone in every
                round.
        """
        return Rounds(sampler)

    def summary(
        self,
        data: Any = None,
        rounds: int | None = None,
        clients_per_round: int | None = None,
        sampler: Any = None,
        print_fn: Callable[[str], Any] = print,
    ) -> None:
        """Prints what the process is and what its rounds take.

        Model and parameters, what clients compute, how updates are put
        together, and the bytes that a client sends and gets in a round,
        measured on messages of its own; with `data`, also who takes part and
        epsilon. Nothing is trained.

        Args:
            data: As for `fit`; one client is read.
            rounds: After how many rounds epsilon is told; None for one.
            clients_per_round: As for `fit`.
            sampler: As for `fit`.
            print_fn: What each line is given to.

        Example:

        >>> import keras, numpy as np
        >>> import fedlearn as fl
        >>> model = keras.Sequential(
        ...     [keras.Input((2,)), keras.layers.Dense(1)], name="line")
        >>> model.compile(keras.optimizers.SGD(0.1), "mse")
        >>> client = (np.ones((4, 2), "float32"), np.ones((4, 1), "float32"))
        >>> fl.FederatedAveraging(
        ...     model, fl.LocalTraining(epochs=5), aggregator="median"
        ... ).summary([client, client], print_fn=lambda line: print(line[:60]))
        FederatedAveraging
          model            Sequential 'line', 3 parameters, 3 of the
          client           LocalTraining(epochs=5)
          its optimizer    SGD(learning_rate=0.1)
          aggregator       Median()
          server optimizer SGD(learning_rate=1.0)
          clients are run  Vectorized(max_lanes=None) with 4 clients
          a client sends   136 B a round
          a client gets    92 B a round
          take part        all 2 clients in every round
        """
        from fedlearn.runs import process_summary

        for line in process_summary.lines(
            self, data, rounds, clients_per_round, sampler
        ):
            print_fn(line)

    def save_state(self, state: ServerState, path: Any) -> None:
        """Writes a state to a file.

        A kill at any moment leaves the old state or the new one, whole. The
        file holds no code. What clients keep, if they do, is in a folder
        beside it, with `.clients` at the end of its name.

        Args:
            state: What.
            path: Where to; folders that aren't there are made.
        """
        from fedlearn.runs import state_file

        state_file.save(path, state)

    def load_state(self, path: Any) -> ServerState:
        """Reads a state that `save_state` wrote, or `fit` as a checkpoint.

        Args:
            path: Of the file; with `checkpoint_dir`, that folder's
                `checkpoint.fedlearn`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged, isn't a state, or is the state
                of another model or another algorithm.
        """
        from fedlearn.runs import state_file

        state, _ = state_file.load(path, self.initialize(), self.client_state)
        return state


__all__ = [
    "Broadcast",
    "LearningProcess",
    "ServerState",
    "StackedUpdate",
    "Update",
]
