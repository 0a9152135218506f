import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend, checks, serialization
from fedlearn.clients import get as training_of
from fedlearn.clients.algorithm import Algorithm, Shared
from fedlearn.clients.cohort import Client, Cohort
from fedlearn.clients.fine_tuning import FineTuning, Weights
from fedlearn.clients.local_training import LocalTraining
from fedlearn.executors.executor import naming
from fedlearn.keras_model.example_wise import is_example_wise, labels_match
from fedlearn.keras_model.functional_model import (
    FunctionalModel,
    to_backend,
)
from fedlearn.messages.server_state import ServerState
from fedlearn.metrics import per_client as per_client_metrics
from fedlearn.metrics.name_classes import name_classes
from fedlearn.runs.client_states import ClientStates

if TYPE_CHECKING:
    from fedlearn.process import LearningProcess

Tuning = Callable[[Client, Weights], tuple[Weights, tuple]]


def evaluate(
    model: keras.Model,
    clients: Any,
    per_client: bool = False,
    batch_size: int = 256,
    fine_tune: str | LocalTraining | None = None,
    fine_tune_data: Any = None,
) -> dict[str, Any]:
    """Metrics of a compiled Keras model, trained anywhere, over clients.

    Args:
        model: A compiled `keras.Model` with weights; it isn't changed.
        clients: A `FederatedDataset`, or a list with `(x, y)` or
            `(x, y, sample_weight)` arrays or a `tf.data.Dataset` for each
            client.
        per_client: Whether to give each client's own metrics too.
        batch_size: Examples at a time. It changes no metric but, for some
            models, `loss`: Keras weighs the loss of each batch by its number
            of examples, which is exact where it is a mean over them. Of
            masks, `ignore_class`, a sum, and losses that join a batch (Dice)
            it isn't, and then the loss depends on which examples share a
            batch, as in `model.evaluate`; also on `per_client`, without
            which clients share batches. So does what a model's own `Mean`
            is given one number for each batch.
        fine_tune: Training that each client does first, from the weights as
            they are, and for this evaluation only. A random half of its
            examples, always the same, is for that (of an odd number the
            smaller one), and the metrics are of the other half. A client with
            a single example doesn't train.
        fine_tune_data: Examples of clients by their ids, to train on in place
            of that half; all of `clients` is then evaluated on. One that has
            none there doesn't train.

    Returns:
        A dict of floats: each metric of the model by Keras's name, merged
        over all examples as if they were pooled, `num_clients` and
        `num_examples`. A metric with a value for each class has one name for
        each: `recall_0`, ..., or `recall_cat` where the data set has
        `class_names`. With `per_client=True` also `"per_client"`, a dict of
        such metrics for each client id, and `"statistics"`, as
        `fedlearn.metrics.per_client.statistics` makes them. Where these are
        of models that were fine-tuned, `"global"` has all that for the model
        as it was, on the same examples.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(loss="mse")
    >>> client = (np.zeros((4, 2)), np.ones((4, 1)))
    >>> evaluate(model, [client, client])["loss"]
    1.0
    """
    functional = FunctionalModel(model)
    trainable, non_trainable = map(to_backend, functional.values())
    cohort = Cohort(clients, functional)
    return evaluate_values(
        functional,
        (trainable, non_trainable),
        cohort,
        per_client,
        batch_size,
        tuning=_tuning(model, fine_tune, fine_tune_data),
    )


def evaluate_clients(
    process: "LearningProcess",
    state: Any = None,
    clients: Any = None,
    per_client: bool = False,
    batch_size: int = 256,
    fine_tune: str | LocalTraining | None = None,
    fine_tune_data: Any = None,
) -> dict[str, Any]:
    """Federated evaluation: `evaluate(clients)`, of what `fit` trained.

    Where weights or statistics are personal, a client that has taken part
    in a round is evaluated with its own, by its id.

    Args:
        state: Whose weights to evaluate. Without it, as in
            `evaluate(clients)` or `evaluate(clients=clients)`, those of
            `self.state`.
        clients: As in `next`. A list names clients by their places. It is
            taken for the one that was trained on if each client that took part
            has its place in it; else, as pooled data in a list of one, it is
            of clients that haven't. A dict or a data set says who they are.
        per_client: As for `fedlearn.evaluate`.
        batch_size: As for `fedlearn.evaluate`.
        fine_tune: As for `fedlearn.evaluate`; from a client's own model.
        fine_tune_data: As for `fedlearn.evaluate`.

    Returns:
        As of `fedlearn.evaluate`. With `per_client=True`, where clients have
        models of their own, `"global"` has the same metrics for the server's
        model, and `"without_personal"` the ids of clients that haven't taken
        part yet, for which it stands in.

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
    return _evaluated(
        process,
        given_or_last(process, state),
        clients,
        per_client,
        batch_size,
        _tuning(process.model, fine_tune, fine_tune_data, process),
    )


evaluate_clients.__name__ = "evaluate"  # which it is, of a process


def validate(
    process: "LearningProcess",
    state: ServerState,
    clients: Any,
    per_client: bool,
) -> dict[str, Any]:
    """`evaluate` of a process, without the server's model beside personal ones.

    Which would be another evaluation of all clients.
    """
    tuning = _tuning(process.model, None, None, process)
    return _evaluated(
        process, state, clients, per_client, 256, tuning, beside=False
    )


def _evaluated(
    process: "LearningProcess",
    state: ServerState,
    clients: Any,
    per_client: bool,
    batch_size: int,
    tuning: "Tuning | None",
    beside: bool = True,
) -> dict[str, Any]:
    cohort, known = process.cohort(clients), state.client_states
    if not isinstance(clients, Mapping) and not known.keys() <= {*cohort.ids}:
        known = ClientStates()
    own = client_weights(process, state._replace(client_states=known))
    metrics = evaluate_values(
        process.functional_model,
        (state.trainable, state.non_trainable),
        cohort,
        per_client,
        batch_size,
        own,
        tuning,
        beside,
    )
    if beside and per_client and own is not None:
        metrics["without_personal"] = [i for i in cohort.ids if i not in known]
    return metrics


def given_or_last(process: "LearningProcess", state: Any) -> ServerState:
    """A state that was given, or that of a process."""
    if isinstance(state, ServerState):
        return state
    if state is not None:
        raise TypeError(
            "`state` must be a ServerState, from `initialize`, `next`, "
            f"`load_state` or `state`. Received: {type(state).__name__}. "
            "Further arguments are given by name: "
            "evaluate(clients, per_client=True)."
        )
    if process.state is None:
        raise ValueError(
            "There is no state yet: `fit` has not run. Train first, or "
            "give a state, such as evaluate(process.initialize(), clients)."
        )
    return process.state


def client_weights(
    process: "LearningProcess", state: ServerState
) -> Callable[[str], Weights] | None:
    """Clients' own weights by their ids; None where all have the server's."""
    algorithm, personal = process.algorithm, process.program.trainer.personal
    if (
        not (personal.trainable or personal.state)
        and type(algorithm).own_model is Algorithm.own_model
    ):
        return None
    state_of = process._state_of(state, state)
    shared = Shared(*personal.shared_of(state))

    def weights_of(client_id):
        kept = state_of(client_id)
        own, mine = keras.tree.map_structure(
            ops.convert_to_tensor,
            (
                algorithm.own_model(shared, state.algorithm, kept.algorithm),
                list(kept.personal),
            ),
        )
        return personal.put(
            *personal.put_shared(state.trainable, state.non_trainable, *own),
            mine,
        )

    return weights_of


def evaluate_values(
    model: FunctionalModel,
    weights: Weights,
    cohort: Cohort,
    per_client: bool,
    batch_size: int,
    weights_of: Callable[[str], Weights] | None = None,
    tuning: Tuning | None = None,
    beside: bool = True,
) -> dict[str, Any]:
    """`evaluate` for weights that are not in the model's variables.

    `weights_of` gives a client's own by its id, if clients have them; `beside`
    tells whether the others are evaluated too, for each client.
    """
    batch_size = checks.whole("batch_size", batch_size)
    personal = weights_of is not None or tuning is not None
    alone = per_client or personal
    beside = beside and per_client and personal
    of_clients = _Merged(model, cohort, per_client)
    of_server = _Merged(model, cohort, per_client)
    for clients in _groups(cohort, 0 if alone else 4 * batch_size):
        data = keras.tree.map_structure(
            lambda *arrays: np.concatenate(arrays), *(c.data for c in clients)
        )
        own = weights
        with naming([client.id for client in clients]):
            if weights_of is not None:
                own = weights_of(clients[0].id)
            if tuning is not None:
                own, data = tuning(clients[0], own)
            of_clients.add(clients, own, data, batch_size)
            if beside:
                of_server.add(clients, weights, data, batch_size)
    metrics = of_clients.result()
    if beside:
        metrics["global"] = of_server.result()
    return metrics


class _Merged:
    """The metrics of clients one by one, and of all examples together."""

    def __init__(
        self, model: FunctionalModel, cohort: Cohort, per_client: bool
    ):
        self._model = model
        self._cohort = cohort
        self._per_client: dict[str, Any] | None = {} if per_client else None
        self._num_examples = 0
        # Merged on the host in float64: sums over millions of examples would
        # lose their last digits in float32.
        self._total: list[np.ndarray] = []

    def add(
        self,
        clients: Sequence[Client],
        weights: Weights,
        data: tuple,
        batch_size: int,
    ) -> None:
        """Counts examples of clients, of a single one with `per_client`."""
        model = self._model
        counted = model.start(*weights).metrics
        for batch in batches(model.model, data, batch_size):
            counted = model.count_batch(*weights, counted, batch)
        values = [np.asarray(v, np.float64) for v in backend.to_numpy(counted)]
        # The model's metrics exist once the first client has been read.
        total = self._total or [np.zeros_like(v) for v in values]
        self._total = [t + v for t, v in zip(total, values, strict=True)]
        size = len(keras.tree.flatten(data)[0])
        self._num_examples += size
        if self._per_client is not None:
            self._per_client[clients[0].id] = {
                **self._named(values),
                "num_examples": float(size),
            }

    def result(self) -> dict[str, Any]:
        metrics: dict[str, Any] = {}
        if self._num_examples:
            metrics.update(self._named(self._total))
        metrics["num_clients"] = float(len(self._cohort))
        metrics["num_examples"] = float(self._num_examples)
        if self._per_client is not None:
            metrics["per_client"] = self._per_client
            metrics["statistics"] = per_client_metrics.statistics(
                self._per_client
            )
        return metrics

    def _named(self, values: Sequence[np.ndarray]) -> dict[str, float]:
        model = self._model
        arrays = [
            ops.convert_to_tensor(value, variable.dtype)
            for value, variable in zip(
                values, model.metrics_variables, strict=True
            )
        ]
        numbers = backend.to_numpy(model.compiled_result(arrays))
        return name_classes(
            {name: float(value) for name, value in numbers.items()},
            self._cohort.class_names,
            model.metric_names,
        )


def _tuning(
    model: keras.Model,
    training: Any,
    data: Any,
    process: "LearningProcess | None" = None,
) -> Tuning | None:
    of_algorithm = None if process is None else process._tuning
    if training is None and of_algorithm is None:
        if data is None:
            return None
        raise ValueError(
            "`fine_tune_data` is for fine-tuning. Add "
            "fine_tune=fl.LocalTraining(...)."
        )
    if training is not None and of_algorithm is not None:
        raise ValueError(
            "The algorithm itself says how clients train before an evaluation. "
            "Leave `fine_tune` out; `fine_tune_data` may say what on."
        )
    tuning = of_algorithm
    if tuning is None:
        training = training_of(training)
        made = {} if process is None else process._tunings
        # Compiled once for what is alike; the optimizer may be the model's.
        key = json.dumps(serialization.serialized([training, model.optimizer]))
        if key not in made:
            made[key] = FineTuning(model, training)
        tuning = made[key]
    cohort = None if data is None else Cohort(data, tuning.model)
    return functools.partial(tuning, data=cohort)


def batches(model: Any, data: tuple, batch_size: int) -> Iterator[tuple]:
    """A client's examples, so many at once, as the backend's arrays.

    Where a batch of another length is another program, what is left of the
    last one is taken in powers of four: few lengths serve all clients, none
    padded. Not where it would be another loss.
    """
    size = len(keras.tree.flatten(data)[0])
    start = 0
    in_powers = (
        not backend.LOOPS_IN_GRAPH
        and size % batch_size
        and is_example_wise(model, training=False)
        and labels_match(model, data[1], model.outputs)
    )
    while start < size:
        length = min(batch_size, size - start)
        if length < batch_size and in_powers:
            length = 4 ** ((length.bit_length() - 1) // 2)
        rows = slice(start, start + length)
        yield keras.tree.map_structure(
            lambda a, rows=rows: ops.convert_to_tensor(a[rows]), data
        )
        start += length


def _groups(cohort: Cohort, num_rows: int) -> Iterator[list[Client]]:
    """Clients in groups of `num_rows` examples or more, which costs less.

    With 0 each client, also without examples, is by itself.
    """
    waiting: list[Client] = []
    count = 0

    def shapes(client):
        return [(a.shape[1:], a.dtype) for a in keras.tree.flatten(client.data)]

    for client in cohort:
        if num_rows and not client.num_examples:
            continue
        if waiting and (
            count >= num_rows or shapes(client) != shapes(waiting[0])
        ):
            yield waiting
            waiting, count = [], 0
        waiting.append(client)
        count += client.num_examples
    if waiting:
        yield waiting
