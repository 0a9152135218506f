from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from fedlearn import checks
from fedlearn.aggregators.mean import Mean
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.algorithm import (
    Algorithm,
    Contribution,
    check_gradients,
    check_mean,
    check_plain_server,
    check_population,
    zeros,
)
from fedlearn.process import LearningProcess
from fedlearn.runs.schedule import Schedule
from fedlearn.samplers import Sampler

if TYPE_CHECKING:
    from fedlearn.conditions.conditions import Conditions
    from fedlearn.data.federated_dataset import FederatedDataset


class FedDyn(FederatedAveraging):
    """FedDyn: each client's loss is bent so that all end at one optimum.

    Acar et al. 2021, "Federated learning based on dynamic regularization",
    arXiv:2111.04263, algorithm 1. With x the server's weights, client k
    minimises `L_k(y) - <g_k, y> + alpha/2 * ||y - x||^2` and keeps
    `g_k <- g_k - alpha * (y - x)`, which becomes its gradient at the optimum.
    The server keeps `h <- h - alpha/m * sum(y - x)`, m clients in all, and
    moves to `mean(y) - h/alpha`.

    For clients that come back: each keeps as many numbers as the model has
    weights, in `state.client_states`. Nothing more is sent than in FedAvg.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`; without `proximal`.
        alpha: Of the regularizer, above 0. Smaller ones move farther.
        population: The number of all clients, those of the round and others.
        aggregator: `Mean` or `SecureSum`; None for `Mean(weighting=
            "uniform")`, as in the paper. Where clients are weighted
            differently, let all take part in every round.
        **arguments: The others of `FederatedAveraging`, but for the server's
            optimizer: the server's step is the algorithm's.

    Raises:
        ValueError: If the aggregator, its encoders, the server's optimizer or
            the client's training would lead elsewhere.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> process = FedDyn(model, alpha=0.1, population=100)
    >>> len(process.update_spec)  # the kernel and the bias
    2
    """

    sets = ("algorithm",)

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        alpha: float = 0.1,
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
            algorithm=DynamicRegularizer(alpha, population),
            **arguments,
        )
        self.alpha = alpha
        self.population = check_population(population)

    def schedule(
        self,
        data: "FederatedDataset",
        sampler: Sampler | None,
        conditions: "Conditions | None" = None,
    ) -> Schedule:
        check_population(self.population, len(data))
        return super().schedule(data, sampler, conditions)


class DynamicRegularizer(Algorithm):
    """What FedDyn does besides Federated Averaging."""

    def __init__(self, alpha: float, population: int | None):
        self.alpha = checks.positive("alpha", alpha)
        self.population = check_population(population)

    def check(self, process: LearningProcess) -> None:
        check_mean(process, "FedDyn", "adds up clients' updates")
        check_gradients(process, "FedDyn")
        check_plain_server(process, "FedDyn")

    def init(self, spec):
        return zeros(spec)

    def init_client(self, shared):
        return zeros(shared.weights)

    def broadcast(self, state):
        return ()  # h is the server's alone

    def start(self, local, carry, client_state):
        # What is the same in all steps.
        return [
            g_k + self.alpha * x
            for g_k, x in zip(
                client_state, local.broadcast.trainable, strict=True
            )
        ]

    def corrected(self, local, carry, gradients):
        return [
            g + (self.alpha * y - fixed)
            for g, y, fixed in zip(
                gradients,
                carry.variables.trainable,
                carry.memory,
                strict=True,
            )
        ]

    def finish(self, local, carry, update, client_state):
        kept = [
            g_k - self.alpha * u
            for g_k, u in zip(client_state, update, strict=True)
        ]
        return Contribution(update, [], kept)

    def server(self, state, mean, extra, num_clients):
        share = self.alpha * num_clients / self.population
        state = [
            h - ops.cast(share, m.dtype) * m
            for h, m in zip(state, mean, strict=True)
        ]
        moves = [m - h / self.alpha for m, h in zip(mean, state, strict=True)]
        return moves, state, {}
