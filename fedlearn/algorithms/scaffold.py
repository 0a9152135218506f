from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from fedlearn.aggregators.mean import Mean
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.algorithm import (
    Algorithm,
    Contribution,
    check_gradients,
    check_mean,
    check_population,
    zeros,
)
from fedlearn.process import LearningProcess
from fedlearn.runs.schedule import Schedule
from fedlearn.samplers import Sampler

if TYPE_CHECKING:
    from fedlearn.conditions.conditions import Conditions
    from fedlearn.data.federated_dataset import FederatedDataset


class Scaffold(FederatedAveraging):
    """SCAFFOLD: local steps are corrected for what is a client's own.

    Karimireddy et al. 2020, "SCAFFOLD: stochastic controlled averaging for
    federated learning", arXiv:1910.06378, algorithm 1. A client steps along
    its gradient minus its control variate `c_i` plus the server's `c`
    (equation 3), so that clients with different data end at the common
    optimum, however many steps they take.

    `c_i` becomes the mean of the client's uncorrected gradients in the round.
    For SGD that is the paper's option II (equation 4); for momentum,
    schedules and Adam it is still the gradient, and option II isn't.

    For clients that come back: each keeps as many numbers as the model has
    weights, in `state.client_states`, and sends and gets twice as many.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`; without `proximal`.
        population: The number of all clients, those of the round and others.
        aggregator: `Mean` or `SecureSum`; None for `Mean(weighting=
            "uniform")`, as in the paper. Where clients are weighted
            differently, let all take part in every round.
        **arguments: The others of `FederatedAveraging`.

    Raises:
        ValueError: If the aggregator, its encoders or the client's training
            would make the control variates wrong.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> process = Scaffold(model, population=100)
    >>> len(process.update_spec)  # the kernel, the bias, and their variates
    4
    """

    sets = ("algorithm",)

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        population: int | None = None,
        aggregator: Any = None,
        **arguments: Any,
    ):
        if aggregator is None:
            aggregator = Mean(weighting="uniform")
        super().__init__(
            model,
            client,
            aggregator=aggregator,
            algorithm=ControlVariates(population),
            **arguments,
        )
        self.population = check_population(population)

    def schedule(
        self,
        data: "FederatedDataset",
        sampler: Sampler | None,
        conditions: "Conditions | None" = None,
    ) -> Schedule:
        check_population(self.population, len(data))
        return super().schedule(data, sampler, conditions)


class ControlVariates(Algorithm):
    """What SCAFFOLD does besides Federated Averaging."""

    def __init__(self, population: int | None):
        self.population = check_population(population)

    def check(self, process: LearningProcess) -> None:
        check_mean(process, "SCAFFOLD", "adds up control variates")
        check_gradients(process, "SCAFFOLD")

    def extra_spec(self, spec):
        return list(spec)

    def init(self, spec):
        return zeros(spec)

    def init_client(self, shared):
        return zeros(shared.weights)

    def start(self, local, carry, client_state):
        change = _minus(local.broadcast.algorithm, client_state)
        return change, [ops.zeros_like(c) for c in client_state]

    def corrected(self, local, carry, gradients):
        change, _ = carry.memory
        return _plus(gradients, change)

    def remembered(self, local, carry, gradients):
        change, total = carry.memory
        return change, _plus(total, gradients)

    def finish(self, local, carry, update, client_state):
        _, total = carry.memory
        # Nothing changes where no step was taken.
        some, most = (
            ops.minimum(carry.num_steps, 1),
            ops.maximum(carry.num_steps, 1),
        )
        changes = [
            t / ops.cast(most, t.dtype) - ops.cast(some, c.dtype) * c
            for t, c in zip(total, client_state, strict=True)
        ]
        return Contribution(update, changes, _plus(client_state, changes))

    def server(self, state, mean, extra, num_clients):
        share = num_clients / self.population
        return (
            mean,
            _plus(state, [e * ops.cast(share, e.dtype) for e in extra]),
            {},
        )


def _plus(one, other):
    return [a + b for a, b in zip(one, other, strict=True)]


def _minus(one, other):
    return [a - b for a, b in zip(one, other, strict=True)]
