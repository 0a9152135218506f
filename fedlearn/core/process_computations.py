"""A `LearningProcess` as computations of clients and server."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from fedlearn import backend, seeds
from fedlearn.aggregators.secure_sum import SecureSum
from fedlearn.clients.algorithm import Algorithm
from fedlearn.clients.local_trainer import LocalTrainer
from fedlearn.clients.program import seed_words
from fedlearn.core.client_plan import SEED, ClientPlan, flat_type
from fedlearn.core.federated_computation import federated_computation
from fedlearn.core.operators import (
    federated_apply,
    federated_broadcast,
    federated_map,
    federated_sum,
    federated_value,
)
from fedlearn.core.types import (
    CLIENTS,
    SERVER,
    FederatedType,
    StructType,
    TensorType,
)
from fedlearn.messages.broadcast import Broadcast
from fedlearn.messages.server_state import ServerState
from fedlearn.process import LearningProcess
from fedlearn.runs.client_states import ClientStates

# What a `ServerState` has as arrays of the backend.
_ARRAYS = ("trainable", "non_trainable", "optimizer", "aggregator", "algorithm")
_RUN_SEED = TensorType("uint32", (2,))


class ProcessComputations:
    """A `LearningProcess` as computations: see `from_process`.

    Attributes:
        initialize: `(seed=uint32[2]@SERVER -> state@SERVER)`; the seed's low
            word comes first.
        next: `(<state@SERVER, drawn@SERVER, {client}@CLIENTS> ->
            <state@SERVER, metrics@SERVER>)`; where clients keep something,
            with `{kept}@CLIENTS` as a third result.
        plan: What a client does by itself, a `ClientPlan`.
    """

    def __init__(self, process: LearningProcess):
        _check(process)
        self._process = process
        self._like = process.initialize()
        self._like_drawn = self._drawn(self._like)
        self.plan = ClientPlan(
            process,
            backend.to_numpy(self._sent(self._like, self._like_drawn)),
        )
        initial = self.state(self._like)
        arrays = {n: initial[n] for n in _ARRAYS}
        fields: dict[str, Any] = {n: flat_type(a) for n, a in arrays.items()}
        fields.update(round_num="int32", seed=_RUN_SEED)
        client = {
            "examples": self.plan.examples,
            "order": TensorType("int32", ("order",)),
            "seed": SEED,
            "kept": self.plan.kept,
        }

        @federated_computation(FederatedType(_RUN_SEED, SERVER))
        def initialize(seed):
            def start(arrays, seed):
                return {**arrays, "round_num": np.int32(0), "seed": seed}

            values = federated_value(arrays, SERVER)
            return federated_apply(start, (values, seed))

        def broadcast(state, drawn):
            sent = self._sent(self._packed(state), self._packed_drawn(drawn))
            return keras.tree.flatten(sent)

        def train(sent, client):
            return self.plan.whole(sent, *client.values())

        def update(state, drawn, sent, total):
            return self._update(state, drawn, sent, total)

        @federated_computation(
            FederatedType(StructType(fields), SERVER),
            FederatedType(flat_type(self._like_drawn), SERVER),
            FederatedType(StructType(client), CLIENTS),
        )
        def next(state, drawn, clients):
            sent = federated_apply(broadcast, (state, drawn))
            trained = federated_map(train, (federated_broadcast(sent), clients))
            total = federated_sum(trained.added)
            after = federated_apply(update, (state, drawn, sent, total))
            kept = [trained.kept] if self.plan.kept.elements else []
            return after.state, after.metrics, *kept

        self.initialize, self.next = initialize, next

    # On the host.

    def state(self, state: ServerState) -> dict[str, Any]:
        """A state of the process, as `next` takes it."""
        seed = int(state.seed)
        return {
            **{
                n: keras.tree.flatten(backend.to_numpy(getattr(state, n)))
                for n in _ARRAYS
            },
            "round_num": np.int32(state.round_num),
            "seed": np.array([seed % 2**32, seed >> 32], np.uint32),
        }

    def server_state(self, state: Mapping[str, Any]) -> ServerState:
        """What `next` gives, as a state of the process."""
        low, high = map(int, state["seed"])
        return self._packed(state)._replace(
            client_states=ClientStates(),
            round_num=np.asarray(state["round_num"], np.int64),
            seed=np.asarray(high << 32 | low, np.int64),
        )

    def draw(
        self,
        state: Mapping[str, Any],
        clients: Any,
        kept: Mapping[str, Any] | None = None,
    ) -> tuple[list[Any], list[Any]]:
        """What `next` takes besides a state: what a round draws at random.

        On the host, as the process does: noise, the order of examples, and
        the seeds of clients and encoders.

        Args:
            state: Before the round.
            clients: As for `LearningProcess.next`; each has examples.
            kept: What clients kept, lists of arrays by their ids; those that
                aren't there are seen first.

        Returns:
            `(drawn, clients)`.

        Raises:
            ValueError: If a client has no examples, or the aggregator can't
                add up so many clients.
        """
        process, before = self._process, self.server_state(state)
        cohort = process.cohort(clients)
        process.aggregator.check_cohort(len(cohort))
        drawn = self._drawn(before)
        fresh = process.program.fresh(
            self.plan.received(keras.tree.flatten(self._sent(before, drawn)))
        )
        values = []
        for client in cohort:
            if not client.num_examples:
                raise ValueError(
                    f"Client {client.id!r} has no examples, and a computation "
                    "takes clients with at least one. Leave it out: there is "
                    "nothing that it would add."
                )
            seed = process.client_seed(before, client.id)
            batches = process.program.batches(client.num_examples, seed)
            values.append(
                {
                    "examples": keras.tree.flatten(client.data),
                    "order": np.concatenate(batches),
                    "seed": seed_words(seed),
                    "kept": keras.tree.flatten(
                        backend.to_numpy((kept or {}).get(client.id, fresh))
                    ),
                }
            )
        return keras.tree.flatten(drawn), values

    def _drawn(self, state: ServerState) -> tuple[Any, ...]:
        process, run = self._process, int(state.seed)
        round_num = int(state.round_num)
        rate = process.program.trainer.optimizer.scheduled_rate(round_num)
        return (
            () if rate is None else np.asarray(rate, np.float32),
            seed_words(seeds.fold(run, "aggregator", round_num)),
            seed_words(seeds.fold(run, "broadcast", round_num)),
            process.aggregator.draw(
                state.aggregator, process._noise_rng(state)
            ),
        )

    # At the server, of tensors.

    def _packed(self, state: Mapping[str, Any]) -> ServerState:
        fields: dict[str, Any] = dict.fromkeys(ServerState._fields, ())
        for name in _ARRAYS:
            like = getattr(self._like, name)
            fields[name] = keras.tree.pack_sequence_as(like, list(state[name]))
        return ServerState(**fields)

    def _packed_drawn(self, drawn: Any) -> Any:
        return keras.tree.pack_sequence_as(self._like_drawn, list(drawn))

    def _sent(self, state: ServerState, drawn: Any) -> Broadcast:
        """`LearningProcess.broadcast`, before it is packed."""
        process = self._process
        rate, aggregator_seed, broadcast_seed, _ = drawn
        shared, statistics = process._personal.shared_of(state)
        return Broadcast(
            process._download.encode(shared, broadcast_seed),
            statistics,
            rate,
            process.aggregator.params(state.aggregator, aggregator_seed),
            process.algorithm.broadcast(state.algorithm),
        )

    def _update(self, state, drawn, sent, total):
        """`LearningProcess.server_update`, but for what is counted in bytes."""
        process, before = self._process, self._packed(state)
        sums = keras.tree.pack_sequence_as(self.plan.like_sums, list(total))
        after, metrics = process._server_step_fn(
            before,
            self.plan.received(sent).params,
            sums,
            self._packed_drawn(drawn)[3],
        )
        metrics["num_examples"] = sums[3]
        if process.privacy.private_metrics:
            covered = process.aggregator.covered_metrics
            metrics = {n: v for n, v in metrics.items() if n in covered}
        shared, statistics, *others = after
        values = process._personal.put_shared(
            before.trainable, before.non_trainable, shared, statistics
        )
        pairs = zip(_ARRAYS, (*values, *others), strict=True)
        return {
            "state": {
                **{n: keras.tree.flatten(value) for n, value in pairs},
                "round_num": state["round_num"] + 1,
                "seed": state["seed"],
            },
            "metrics": metrics,
        }


def from_process(process: LearningProcess) -> ProcessComputations:
    """A `LearningProcess` as computations of clients and server.

    They do what `process.next` does, up to the rounding of sums, and print,
    are saved and run as other computations do. What a round draws at random,
    noise above all, the process draws on the host, as ever: it is an argument
    of `next`, which `draw` makes.

    Args:
        process: What clients have must be known, from `process.build(spec)`
            or a client that was read.

    Raises:
        ValueError: If a part of the process can't be told in the language:
            a rule that looks at updates side by side, clients that don't
            train for whole epochs, `dp`, noise of clients (a round that lacks
            a share of it is an error, and a computation raises none),
            algorithms whose sum must not be clipped with SecureSum, or a
            subclass with a `next` of its own.

    >>> import keras
    >>> import fedlearn as fl
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> process = fl.FederatedAveraging(model)
    >>> process.build((keras.KerasTensor((2,)), keras.KerasTensor((1,))))
    >>> computations = from_process(process)
    >>> state = computations.initialize([0, 0])
    >>> clients = [(np.ones((3, 2)), np.ones((3, 1)))]
    >>> drawn, values = computations.draw(state, clients)
    >>> state, metrics = computations.next(state, drawn, values)
    >>> int(state["round_num"]), int(metrics["num_examples"])
    (1, 3)
    >>> model = process.get_model(computations.server_state(state))
    """
    return ProcessComputations(process)


def _check(process: LearningProcess) -> None:
    program, kind = process.program, type(process)
    halves = ("broadcast", "receive", "client_message", "accept")
    sums = ("cohort_update", "server_update", "empty_update")
    own = [
        name
        for name in ("initialize", "next", *halves, *sums)
        if getattr(kind, name) is not getattr(LearningProcess, name)
    ]
    algorithm = type(process.algorithm)
    whole_epochs = (
        type(program.trainer) is LocalTrainer
        and algorithm.batches is Algorithm.batches
    )
    several_losses = any(
        m.name.endswith("_loss") for m in process.model.metrics
    )
    secure = isinstance(process.aggregator, SecureSum)
    why = ""
    if process.spec is None:
        raise ValueError(
            "What the clients' examples are isn't known yet. Call "
            "process.build(data.element_spec) first."
        )
    if own:
        why = f"{kind.__name__} has a `{own[0]}` of its own"
    elif program.stacked:
        why = "its aggregator looks at updates side by side"
    elif process.aggregator.noise == "clients":
        why = (
            "clients add shares of noise, and a round in which one is "
            "missing has to be refused"
        )
    elif not whole_epochs:
        why = "clients don't take whole epochs of batches, or have `dp`"
    elif backend.name == "tensorflow" and several_losses:
        why = (
            "Keras's means of several losses count a batch of unknown length "
            "as one example on TensorFlow (not on JAX)"
        )
    elif secure and algorithm.server is not Algorithm.server:
        why = (
            "a round in which its secure sum clips what the algorithm sends "
            "has to be refused"
        )
    if why:
        raise ValueError(
            f"{kind.__name__} here is no computation of `fl.core`: {why}. "
            "Expected one whose rounds are those of `LearningProcess`."
        )
