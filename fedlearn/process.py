import copy
import functools
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
    evaluation,
    executors,
    optimizers,
    seeds,
    serialization,
    training,
)
from fedlearn.advice import keras_words
from fedlearn.aggregators.aggregator import Aggregator
from fedlearn.clients import layer_statistics
from fedlearn.clients.algorithm import Algorithm
from fedlearn.clients.cohort import Cohort
from fedlearn.clients.fine_tuning import FineTuning
from fedlearn.clients.local_training import LocalTraining
from fedlearn.clients.personal_variables import PersonalVariables
from fedlearn.clients.program import ClientProgram, ClientState, seed_words
from fedlearn.conditions.conditions import Conditions
from fedlearn.conditions.simulated_rounds import SimulatedRounds
from fedlearn.data.class_names import listed
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.encoders.chain import Encoders, links
from fedlearn.encoders.encoder import Encoder
from fedlearn.executors.executor import counted, naming
from fedlearn.executors.sequential import client_rounds
from fedlearn.keras_model import adapted_layers, model_copy
from fedlearn.keras_model.functional_model import (
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
from fedlearn.runs import (
    process_summary,
    run_identity,
    run_privacy,
    state_file,
)
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

    Attributes:
        state: Of the last round of `fit`; None before.
        program: A client's round as pure functions, for executors.
        functional_model: The model's pure functions.
        update_spec: A `keras.KerasTensor` for each array of an update: trained
            weights that clients share, and what an algorithm sends with them.

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
        self.functional_model = FunctionalModel(
            model, frozen_statistics=choice == "frozen"
        )
        self.algorithm = copy.copy(algorithm or Algorithm())
        self._personal = PersonalVariables(
            self.functional_model,
            self.algorithm.personal_variables(model),
            keeps_statistics=choice == "local",
            is_temporary=self.algorithm.temporary_variables(model),
        )
        spec = self._personal.spec
        self.aggregator = self.aggregator.build(
            [*spec, *self.algorithm.extra_spec(spec)]
        )
        self.update_spec = self.aggregator.spec
        layer_statistics.check(
            self.aggregator, model, self._personal.statistics
        )
        if server_optimizer is None:
            server_optimizer = keras.optimizers.SGD(1.0)
        self.server_optimizer = optimizers.get(
            server_optimizer, "server_optimizer"
        )
        self._server_optimizer = FunctionalOptimizer(
            self.server_optimizer,
            [model.trainable_variables[i] for i in self._personal.shared],
        )
        trainer = self.client.build(
            self.functional_model, self.algorithm, self._personal
        )
        self.program = ClientProgram(trainer, self.aggregator)
        self.algorithm.check(self)
        self.executor = executors.get(executor)
        self.broadcast_encoders = links(broadcast_encoders)
        self._download = Download(self.broadcast_encoders, spec)
        self._run_cohort = self.executor.bind(self.program)
        self._run_client = client_rounds(self.program, self.program.send)
        self._aggregator_params = backend.jit(self.aggregator.params)
        self._accept = backend.jit(
            lambda params, message: counted(
                self.program, self.program.accept(params, message)
            )
        )
        self._server_step = backend.jit(self._server_step_fn)
        self._initial_values = self.functional_model.values()
        self._bytes_down: int | None = None
        # How clients trained for evaluations so far, compiled.
        self._tunings: dict[str, FineTuning] = {}
        self.state: ServerState | None = None
        # Of the classes that clients' labels numbered so far.
        self._class_names: tuple[str, ...] | None = None

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
        self.functional_model.build(spec)

    @property
    def spec(self) -> Any:
        """A `keras.KerasTensor` for each array of `(x, y)` or so.

        Without the axis of examples; None before `build` and before a client
        was read.
        """
        examples = self.functional_model.no_examples
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
            arguments by name, `spec`, `process`, the class, and what layers
            were `adapted` to.

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
        adapted = adapted_layers.adapted(self.model)
        return {
            "process": keras.saving.get_registered_name(type(self)),
            **{n: serialization.serialized(v) for n, v in config.items()},
            "spec": serialization.serialized(self.spec),
            **({"adapted": adapted} if adapted else {}),
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
        if adapted := arguments.pop("adapted", None):
            arguments["model"] = serialization.revived(arguments["model"])
            adapted_layers.adapt(arguments["model"], adapted)
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
                [trainable[i] for i in self._personal.shared]
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

    evaluate = keras_words.answers(keras_words.EVALUATE)(
        evaluation.evaluate_clients
    )

    _validate = evaluation.validate

    def cohort(
        self, clients: Any, state_of: Callable[[str], Any] | None = None
    ) -> Cohort:
        """The `clients` of a round, as in `next`, checked as they are read.

        `state_of` gives what a client kept by its id.
        """
        cohort = Cohort(clients, self.functional_model, state_of)
        ours, theirs = self._class_names, cohort.class_names
        if ours is not None and theirs is not None and ours != theirs:
            raise ValueError(
                "The labels of these clients number their classes "
                f"differently from those that were trained on: "
                f"{listed(theirs)}, and not {listed(ours)}. Make both of one "
                "data set (`split` or `split_examples`), or give both the "
                "same `class_names=[...]` when they are made."
            )
        return cohort

    # The halves.

    def broadcast(self, state: ServerState) -> Broadcast:
        """What the server sends to every client of the round."""
        run, round_num = int(state.seed), int(state.round_num)
        rate = self.program.trainer.optimizer.scheduled_rate(round_num)
        shared, statistics = self._personal.shared_of(state)
        return Broadcast(
            trainable=self._download.send(
                shared, seed_words(seeds.fold(run, "broadcast", round_num))
            ),
            statistics=statistics,
            learning_rate=() if rate is None else np.asarray(rate, np.float32),
            params=self._aggregator_params(
                state.aggregator,
                seed_words(seeds.fold(run, "aggregator", round_num)),
            ),
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
            *self._personal.put_shared(
                trainable,
                non_trainable,
                self._download.receive(broadcast.trainable),
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
        own = client_state or self.program.fresh(received)
        client = Cohort([data], self.functional_model, lambda _: own).read(0)
        with naming([client.id]):
            message, kept = self._run_client(received, client, seed)
        return self.program.to_wire(message), backend.to_numpy(kept)

    def accept(
        self,
        broadcast: Broadcast,
        message: Message,
        client_id: str | None = None,
        client_state: Any = None,
    ) -> Update:
        """What the server makes of a client's message.

        A client is left out, and counts as rejected, if its update or (without
        `dp`) its metrics aren't finite, or if it claims over 2**24 examples.

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
        sums = self._accept(broadcast.params, self.program.from_wire(message))
        states = {}
        if client_id is not None and keras.tree.flatten(client_state or ()):
            states[client_id] = client_state
        kind = StackedUpdate if self.program.stacked else Update
        update = kind.of(sums, wire.length(message), states)
        # There is no bound on how many clients a server may add up.
        return update._replace(num_examples=np.int64(update.num_examples))

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
        return self.program.message_spec()

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
        cohort = self.cohort(clients, self._state_of(state, received))
        self._class_names = cohort.class_names or self._class_names
        client_seeds = [self.client_seed(state, i) for i in cohort.ids]
        return self._run_cohort(received, cohort, client_seeds)

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
        if self.aggregator.noise == "clients" and int(total.num_rejected):
            raise ValueError(
                f"The updates of {int(total.num_rejected):,} of {took_part:,} "
                "clients weren't finite and can't be added, and with them goes "
                "their share of the noise: the round would tell more than "
                "epsilon says. Give them finite examples, or lower the "
                "learning rate."
            )
        names = ("client_states", "round_num", "seed", "schedule")
        arrays: Any = dict.fromkeys(names, ())
        after, results = self._server_step(
            state._replace(**arrays),
            broadcast.params,
            total._replace(num_examples=np.int32(0)).sums,
            self.aggregator.draw(state.aggregator, self._noise_rng(state)),
        )
        results = backend.to_numpy(results)
        self._check_range(results)
        metrics = {name: float(value) for name, value in results.items()}
        metrics["num_examples"] = float(int(total.num_examples))
        metrics["bytes_up"] = float(total.bytes_up)
        down = self.bytes_down(broadcast)
        metrics["bytes_down"] = float(took_part * down)
        for level, tier in enumerate(total.tiers, 1):
            metrics[f"tier_{level}_bytes_up"] = float(tier.bytes_up)
            metrics[f"tier_{level}_bytes_down"] = float(tier.num_tiers * down)
        if self.privacy.private_metrics:
            covered = self.aggregator.covered_metrics
            metrics = {n: v for n, v in metrics.items() if n in covered}
        shared, statistics, optimizer, aggregator, algorithm = after
        # All others are the very arrays that they were.
        trainable, non_trainable = self._personal.put_shared(
            state.trainable, state.non_trainable, shared, statistics
        )
        return state._replace(
            trainable=trainable,
            non_trainable=non_trainable,
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
            self._bytes_down = wire.length(broadcast.sent)
        return self._bytes_down

    @property
    def client_metrics(self) -> tuple[str, ...]:
        """What `server_update` tells of clients' data as it is.

        No noise of an aggregator covers it; `privacy` may say to leave it
        out.
        """
        zeros = [
            ops.zeros(v.shape, v.dtype)
            for v in self.functional_model.metrics_variables
        ]
        names = self.functional_model.metrics_result(zeros)
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

    @property
    def client_state(self) -> ClientState:
        """What a client keeps that is seen first."""
        initial = Received(*self._initial_values, (), ())
        return backend.to_numpy(self.program.fresh(initial))

    @functools.cached_property
    def _tuning(self) -> FineTuning | None:
        """How clients train for evaluations, where the algorithm wants it."""
        algorithm = self.algorithm.tuning()
        if algorithm is None:
            return None
        return FineTuning(self.model, self.client, algorithm)

    def _state_of(
        self, state: ServerState, sent: ServerState | Received
    ) -> Callable[[str], Any]:
        """From client ids to what is kept; of what is `sent` by new ones."""
        fresh = self.program.fresh(sent)
        return lambda client_id: state.client_states.get(client_id, fresh)

    def _server_step_fn(self, state, params, sums, noise):
        summand, metrics, num_clients, _, num_rejected = sums
        shared, statistics = self._personal.shared_of(state)
        aggregate, aggregator, added = self.aggregator.finish(
            state.aggregator, summand["update"], params, noise
        )
        counted = self.aggregator.num_counted(
            summand["update"], ops.cast(num_clients, "float32")
        )
        mean, extra = aggregate[: len(shared)], aggregate[len(shared) :]
        update, algorithm, told = self.algorithm.server(
            state.algorithm, mean, extra, counted
        )
        if len(keras.tree.flatten(algorithm)) != len(
            keras.tree.flatten(state.algorithm)
        ):
            raise ValueError(
                f"{type(self.algorithm).__name__}.server gave a state that "
                "has other arrays than that of its `init`: let `init` give all "
                "that the server remembers, with zeros for what isn't known."
            )

        def step():
            # Down along minus the mean update (Reddi et al. 2021, algorithm
            # 1): with SGD at learning rate 1 that adds the mean.
            weights, optimizer = self._server_optimizer.apply(
                state.optimizer, [-m for m in update], shared
            )
            return weights, optimizer, aggregator, algorithm

        # From nobody nothing is learned, and momentum isn't new. Behind noise
        # that must not show: then `counted` is what is always divided by.
        before = (shared, state.optimizer, state.aggregator, state.algorithm)
        shared, optimizer, aggregator, algorithm = keras.tree.pack_sequence_as(
            before,
            ops.cond(
                counted > 0,
                lambda: keras.tree.flatten(step()),
                lambda: keras.tree.flatten(before),
            ),
        )
        statistics = layer_statistics.average(
            summand["statistics"],
            statistics,
            stacked=self.program.stacked,
            num_required=self.aggregator.num_required,
        )
        results = {
            **self.functional_model.metrics_result(metrics),
            "num_clients": num_clients,
            "num_rejected": num_rejected,
            **added,
            **told,
        }
        return (shared, statistics, optimizer, aggregator, algorithm), results

    def _check_range(self, results: Mapping[str, Any]) -> None:
        """Raises ValueError where more than updates was clipped to a range."""
        clipped = float(results.get("share_clipped", 0.0))
        adds = type(self.algorithm).server is Algorithm.server
        if clipped and not adds and self.aggregator.noise is None:
            raise ValueError(
                f"{clipped:.2g} of what clients sent was beyond the range of "
                f"the sum and was clipped. {type(self).__name__} needs all of "
                "it as it is (steps, losses, gradients, ... as well as "
                "updates). Give a larger `value_range`, and more `bits` to "
                "keep steps small."
            )

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
        # One that is left out is all zeros.
        nobody = self.program.nothing()._replace(num_examples=np.int32(-1))
        sums = self._accept(broadcast.params, nobody)
        update = Update(*sums)
        if self.program.stacked:
            stacked: Any = [StackedUpdate(*sums)] * self.aggregator.num_required
            update = sum(stacked)
        return update._replace(num_rejected=np.int32(0))

    # Models.

    @property
    def model(self) -> keras.Model:
        """The very model that the process was made of.

        After `fit` it holds the trained weights, those of `state`: an
        ordinary compiled Keras model, to be saved, evaluated or trained on.
        Rounds run with `next` don't touch it; see `get_model`.
        """
        return self.functional_model.model

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
        state = evaluation.given_or_last(self, state)
        model = model_copy.copy(self.model)
        weights_of = evaluation.client_weights(self, state)
        if client is not None and weights_of is not None:
            model_copy.assign(model, *weights_of(client))
        else:
            self.write_weights(state, model)
        return model

    def write_weights(self, state: ServerState, model: keras.Model) -> None:
        """Assigns the weights of `state` to a model of the same structure."""
        model_copy.assign(model, state.trainable, state.non_trainable)

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
    draws_by_poisson = run_privacy.draws_by_poisson
    guarantees = run_privacy.guarantees
    identity_parts = run_identity.of_process

    def schedule(
        self,
        data: FederatedDataset,
        sampler: Sampler | None,
        conditions: Conditions | None = None,
    ) -> Schedule:
        """Who takes part in the rounds of `fit`, and when.

        Args:
            data: All clients.
            sampler: That `fit` was given, or made; None for everyone in every
                round.
            conditions: That `fit` was given.
        """
        if conditions is None:
            return Rounds(sampler)
        return SimulatedRounds(conditions, sampler, self, data)

    summary = process_summary.summary

    def save_state(self, state: ServerState, path: Any) -> None:
        """Writes a state to a file.

        A kill at any moment leaves the old state or the new one, whole. The
        file holds no code. What clients keep, if they do, is in a folder
        beside it, with `.clients` at the end of its name.

        Args:
            state: What.
            path: Where to; folders that aren't there are made.
        """
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
        like = self.initialize(), self.client_state
        return state_file.read(path).state(*like)
