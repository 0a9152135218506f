from typing import Any

import keras

from fedlearn import checks
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.algorithm import (
    Algorithm,
    Contribution,
    Shared,
    check_gradients,
)
from fedlearn.process import LearningProcess


class Ditto(FederatedAveraging):
    """Ditto: a personal model beside the global one, held near it.

    Li et al. 2021, "Ditto: fair and robust federated learning through
    personalization", arXiv:2012.04221, algorithm 1. The global model is
    FedAvg's. On the same batches each client also trains a model of its own by
    `v <- v - lr * (gradient(v) + strength * (v - w))`, w being the weights
    that the round began with.

    Personal models, with statistics of their own, stay with their clients, in
    `state.client_states`; `evaluate` and `get_model(state, client=...)` use
    them. A client that hasn't taken part yet has the global model. One that
    comes seldom has a personal model of few steps, which may be worse than the
    global one: `evaluate(..., per_client=True)` shows both.

    For clients that come back. A client computes twice as much as in FedAvg
    and sends the same. No privacy of the aggregator covers a personal model,
    nor need it: it never leaves its client. A client whose personal model
    isn't finite is left out of the round, and keeps the one that it had.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`.
        strength: The paper's lambda: with 0 a client trains by itself, with
            large ones it stays at the global model. Steps need `lr * strength`
            well under 1.
        **arguments: The others of `FederatedAveraging`.

    Raises:
        ValueError: If the client's training is none that two models can take.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> model.set_weights([np.zeros((1, 1)), np.zeros(1)])
    >>> x = np.zeros((4, 1), "float32")
    >>> clients = {"a": (x, x + 1), "b": (x, x + 3)}
    >>> process = Ditto(model)
    >>> state, _ = process.next(process.initialize(), clients)
    >>> own = process.get_model(state, client="b").get_weights()
    >>> process.get_model(state).get_weights()[1], own[1]
    (array([0.4], dtype=float32), array([0.6], dtype=float32))
    """

    sets = ("algorithm",)

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        strength: float = 0.1,
        **arguments: Any,
    ):
        algorithm = PulledModel(strength)
        super().__init__(model, client, algorithm=algorithm, **arguments)
        self.strength = algorithm.strength


class PersonalModel(Algorithm):
    """A whole model of each client's own, trained beside the global one."""

    def check(self, process: LearningProcess) -> None:
        check_second_model(process)

    def init_client(self, shared):
        return shared

    def start(self, local, carry, client_state):
        own = carry.variables._replace(
            trainable=list(client_state.weights),
            state=list(client_state.statistics),
        )
        return own, local.fresh_optimizer(own.trainable)

    def finish(self, local, carry, update, client_state):
        own, _ = carry.memory
        return Contribution(update, [], Shared(own.trainable, own.state))

    def own_model(self, shared, state, client_state):
        return client_state


class PulledModel(PersonalModel):
    """What Ditto does besides Federated Averaging."""

    def __init__(self, strength: float):
        self.strength = checks.number("strength", strength)

    def step(self, local, carry):
        own, optimizer = carry.memory
        gradients, own = local.gradient(own.trainable, own, optimizer)
        pulled = [
            g + self.strength * (v - w)
            for g, v, w in zip(
                gradients,
                own.trainable,
                local.broadcast.trainable,
                strict=True,
            )
        ]
        weights, optimizer = local.optimizer.apply(
            optimizer, pulled, own.trainable
        )
        own = own._replace(trainable=weights)
        return super().step(local, carry)._replace(memory=(own, optimizer))


def check_second_model(process: LearningProcess) -> None:
    """Raises ValueError where clients can't train two models at once."""
    name, client = type(process).__name__, process.client
    check_gradients(process, name)
    if getattr(client, "dp", None) is not None:
        raise ValueError(
            f"{name} takes two gradients of a batch, and what `dp` guarantees "
            "is of one. Train without `dp`; a PrivateMean aggregator protects "
            "clients."
        )
    if getattr(client, "statistics", "average") == "local":
        raise ValueError(
            f"Personal models of {name} have statistics of their own, and "
            "statistics='local' would keep those of the global one, too. Use "
            "LocalTraining(statistics='average')."
        )
