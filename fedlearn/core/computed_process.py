"""A pair of computations as a process that `fit` trains."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

from fedlearn import evaluation, seeds, training
from fedlearn.clients.cohort import Cohort
from fedlearn.core.federated_computation import FederatedComputation
from fedlearn.core.federated_type_error import FederatedTypeError
from fedlearn.core.structure import flatten, pack
from fedlearn.core.types import (
    CLIENTS,
    SERVER,
    FederatedType,
    StructType,
    TensorType,
    Type,
    tensors,
    to_type,
    zipped,
)
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.keras_model import model_copy
from fedlearn.keras_model.functional_model import FunctionalModel
from fedlearn.messages.server_state import ServerState
from fedlearn.optimizers.functional import FunctionalOptimizer
from fedlearn.privacy.privacy import Privacy
from fedlearn.process import LearningProcess
from fedlearn.runs.client_states import ClientStates
from fedlearn.runs.schedule import Rounds, Schedule, Turn
from fedlearn.samplers.sampler import Sampler

_SEED = FederatedType(TensorType("uint32", (2,)), SERVER)


class ComputedProcess:
    """A pair of computations as a process: see `as_process`.

    Its states are `ServerState`s, whose `trainable` are the model's weights
    and whose `algorithm` is all else.

    Attributes:
        state: Of the last round of `fit`; None before.
        model: The model that was given, or a stand-in for callbacks.
    """

    client_state = ()
    privacy = Privacy()

    def __init__(
        self,
        initialize: FederatedComputation,
        next: FederatedComputation,
        model: keras.Model | None = None,
    ):
        self._initialize, self._next = initialize, next
        self._type = _state_type(initialize, next)
        self.state: ServerState | None = None
        self.model: Any = model
        self.functional_model: Any
        if model is None:
            self.model = keras.Model()
            self.model.optimizer = None
            self.functional_model = SimpleNamespace(model=None, metric_names=())
            self._place = slice(0, 0)
            self._others: Any = []
        else:
            self.functional_model = FunctionalModel(model)
            self._place = _place_of(self._type, model)
            _, self._others = self.functional_model.values()
        # `fit` shows callbacks the learning rate of one, and keeps it.
        self._server_optimizer = FunctionalOptimizer(
            keras.optimizers.SGD(1.0), []
        )
        self._server_optimizer.is_plain_for = f"`{next.__name__}`"

    # A process, as `fit` takes it.

    def initialize(self, seed: int = 0) -> ServerState:
        """The state before the first round."""
        words = np.array([seed % 2**32, seed >> 32], np.uint32)
        takes_seed = self._initialize.type.parameter is not None
        value = self._initialize(*[words] * takes_seed)
        none: Any = ()
        start = ServerState(
            trainable=none,
            non_trainable=self._others,
            optimizer=self._server_optimizer.initial_values([]),
            aggregator=(),
            client_states=ClientStates(),
            round_num=np.asarray(0, np.int64),
            seed=np.asarray(seed, np.int64),
        )
        return self._with(start, value)

    def next(
        self, state: ServerState, clients: Any
    ) -> tuple[ServerState, dict[str, float]]:
        """One round, in which all of `clients` take part.

        Args:
            state: Of the round before; not changed.
            clients: What `next` takes: a `FederatedDataset`, or a dict or
                list with the value of each client.
        """
        if isinstance(clients, Mapping) and not isinstance(
            clients, FederatedDataset
        ):
            clients = list(clients.values())
        run, round_num = int(state.seed), int(state.round_num)
        given: list[Any] = [self.value(state)]
        for t in list(self._next.program.parameters.values())[1:]:
            drawn = seeds.fold(run, "computation", round_num)
            words = np.array([drawn % 2**32, drawn >> 32], np.uint32)
            given.append(clients if t.placement == CLIENTS else words)
        value, metrics = self._next(*given)
        after = state._replace(round_num=np.asarray(round_num + 1, np.int64))
        return self._with(after, value), {
            name: float(number) for name, number in metrics.items()
        }

    def value(self, state: ServerState) -> Any:
        """A state as the computations have it."""
        leaves = list(state.algorithm)
        leaves[self._place.start : self._place.start] = state.trainable
        return pack(map(np.asarray, leaves), self._type)

    def _with(self, state: ServerState, value: Any) -> ServerState:
        leaves = list(flatten(value, self._type, "state"))
        trainable = leaves[self._place]
        del leaves[self._place]
        return state._replace(trainable=trainable, algorithm=leaves)

    def evaluate(
        self,
        state: ServerState,
        clients: Any,
        per_client: bool = False,
        batch_size: int = 256,
    ) -> dict[str, Any]:
        """Metrics of the model with a state's weights, as `fl.evaluate`."""
        if self.functional_model.model is None:
            raise ValueError(
                "There is no model to evaluate. Give the one whose weights "
                "are in the state: as_process(initialize, next, model)."
            )
        return evaluation.evaluate_values(
            self.functional_model,
            (state.trainable, state.non_trainable),
            Cohort(clients, self.functional_model),
            per_client,
            batch_size,
        )

    _validate = evaluate

    def fit(
        self, data: Any, rounds: int, **arguments: Any
    ) -> keras.callbacks.History:
        """`LearningProcess.fit`, without `conditions`.

        Args:
            data: As there; examples as `next` takes them.
            rounds: As there.
            **arguments: As there.
        """
        if arguments.get("conditions") is not None:
            raise ValueError(
                "`conditions` are of a LearningProcess, whose clients' work "
                "and messages they time. A computation has rounds alone."
            )
        process: Any = self
        return training.fit(process, data, rounds, **arguments)

    save_state = LearningProcess.save_state
    load_state = LearningProcess.load_state

    def schedule(
        self,
        data: FederatedDataset,
        sampler: Sampler | None,
        conditions: None = None,
    ) -> Schedule:
        return _Rounds(sampler)

    # It promises no privacy.

    def draws_by_poisson(self, population: int, mean: float) -> bool:
        return False

    def guarantees(self, data: Any, sampler: Any) -> list[Any]:
        return []

    def identity_parts(self) -> dict[str, Any]:
        parts = {"initialize": self._initialize, "next": self._next}
        return {name: str(part) for name, part in parts.items()}

    def write_weights(self, state: ServerState, model: keras.Model) -> None:
        if self.functional_model.model is not None:
            model_copy.assign(model, state.trainable, state.non_trainable)

    def read_weights(
        self, state: ServerState, model: keras.Model
    ) -> ServerState:
        process: Any = self
        return LearningProcess.read_weights(process, state, model)


class _Rounds(Rounds):
    def next(self, process, state, data):
        if self.sampler and not self.sampler.sample(int(state.round_num)):
            # Nobody takes part: nothing is learned, and nothing told.
            done = np.asarray(state.round_num + 1, np.int64)
            return Turn(state._replace(round_num=done), {}, {})
        return super().next(process, state, data)


def as_process(
    initialize: FederatedComputation,
    next: FederatedComputation,
    model: keras.Model | None = None,
) -> ComputedProcess:
    """A pair of computations as a process: with `fit`, samplers, callbacks.

    Args:
        initialize: `( -> S@SERVER)`, or of a seed `uint32[2]@SERVER`, whose
            low word comes first.
        next: `(<S@SERVER, {D}@CLIENTS> -> <S@SERVER, M@SERVER>)`, where `M`
            has names and numbers: what is logged. A parameter more,
            `uint32[2]@SERVER`, gets a seed of the run's and the round's.
        model: A compiled model, whose trainable weights are the element
            `model` of `S`. Callbacks and validation see it with the weights
            of the round.

    Raises:
        FederatedTypeError: If the types don't fit, with the element in which
            they differ.

    Runs are resumed if the operators and types of both are as they were;
    what the functions in them compute isn't compared.

    Example: each round goes half of the way to the clients' mean.

    >>> from fedlearn import core
    >>> @core.federated_computation()
    ... def initialize():
    ...     return core.federated_value(0.0, core.SERVER)
    >>> @core.federated_computation("float32@SERVER", "{float32}@CLIENTS")
    ... def next(state, values):
    ...     mean = core.federated_mean(values)
    ...     half = core.federated_apply(
    ...         lambda s, m: (s + m) / 2, (state, mean)
    ...     )
    ...     return half, {"mean": mean}
    >>> process = as_process(initialize, next)
    >>> state, metrics = process.next(process.initialize(), [4.0, 8.0])
    >>> float(process.value(state)), metrics
    (3.0, {'mean': 6.0})
    """
    return ComputedProcess(initialize, next, model)


def _state_type(
    initialize: FederatedComputation, next: FederatedComputation
) -> Type:
    """The type of the state, once all types are found to fit."""
    takes = list(next.program.parameters.values())
    others = sorted(str(t) for t in takes[1:] if t != _SEED)
    results = getattr(next.type.result, "elements", ())
    wanted = (
        "(<S@SERVER, {D}@CLIENTS> -> <S@SERVER, M@SERVER>), perhaps with a "
        f"parameter {_SEED} more"
    )
    fits = len(results) == 2 and all(map(zipped, results))
    clients = [t for t in takes[1:] if t.placement == CLIENTS]
    if not (
        fits and takes and len(clients) == 1 and others == [str(clients[0])]
    ):
        raise FederatedTypeError(
            f"`next` must be {wanted}. Received: {next.type}."
        )
    state, metrics = (zipped(t) or t for t in results)
    if initialize.type.parameter not in (None, _SEED):
        raise FederatedTypeError(
            f"`initialize` must be ( -> S@SERVER), or of {_SEED}. Received: "
            f"{initialize.type}."
        )
    first = zipped(initialize.type.result) or initialize.type.result
    for name, given in (("initialize", first), ("next", state)):
        if difference := takes[0].difference(given):
            raise FederatedTypeError(
                f"`{name}` must give the state that `next` takes, and "
                f"differs{difference}"
            )
    member = getattr(metrics, "member", None)
    real = (
        isinstance(t, TensorType) and not t.shape and t.dtype.kind != "c"
        for t in getattr(member, "elements", ())
    )
    if not getattr(member, "names", None) or not all(real):
        raise FederatedTypeError(
            "The metrics of `next` must be real numbers with names, such as "
            f'{{"loss": loss}}. Received: {metrics}.'
        )
    return takes[0].member


def _place_of(state: Type, model: keras.Model) -> slice:
    """Where a model's weights are among the arrays of a state."""
    wanted = to_type(model.trainable_variables)
    start = 0
    for name, element in getattr(state, "items", dict)():
        if name == "model":
            found = StructType(tensors(element))
            if difference := wanted.difference(found):
                raise FederatedTypeError(
                    "The state's element `model` must be the model's "
                    f"trainable weights, and differs{difference}"
                )
            return slice(start, start + len(found.elements))
        start += len(tensors(element))
    raise FederatedTypeError(
        "A state with the weights of `model` must have an element `model`: "
        f"{wanted}. Received: {state}."
    )
