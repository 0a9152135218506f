from typing import Any

import keras
from keras import ops

from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.algorithm import (
    Algorithm,
    Contribution,
    averaged,
    check_gradients,
)
from fedlearn.process import LearningProcess


class MimeLite(FederatedAveraging):
    """MimeLite: clients use the momentum of the whole federation.

    Karimireddy et al. 2021, "Breaking the centralized barrier for
    cross-device federated learning" (first as "Mime", arXiv:2008.03606).
    The optimizer that clients train with has one state, s, which is the
    server's: each local step is taken with s, and leaves it as it is. A client
    goes through its examples once more, for its full gradient at the server's
    weights; their mean is what s is updated with after the round. The server's
    weights move by the mean of the updates.

    For clients that needn't come back. The state goes down with the weights,
    and a gradient up with each update; noise and a clip are of both together.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`; without `proximal` and `dp`. Its
            optimizer, or the model's, is the one that has the state: SGD with
            momentum, Adam, ....
        **arguments: The others of `FederatedAveraging`.

    Raises:
        ValueError: If the optimizer's state can't be the server's.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    >>> len(MimeLite(model).update_spec)  # kernel, bias, and their gradients
    4
    """

    sets = ("algorithm",)

    def __init__(
        self, model: keras.Model, client: Any = None, **arguments: Any
    ):
        super().__init__(model, client, algorithm=SentGradients(), **arguments)


class ServerStatistics(Algorithm):
    """Steps with the optimizer state that the server keeps.

    It is the first of what the server keeps, a tuple.
    """

    _of_process: Any

    def check(self, process: LearningProcess) -> None:
        name = type(process).__name__
        check_gradients(process, name)
        if getattr(process.client, "dp", None) is not None:
            raise ValueError(
                f"{name} takes gradients at the server's weights, too, and "
                "what `dp` guarantees is of those that are stepped along. "
                "Train without `dp`, or with another algorithm."
            )
        functional = process.program.trainer.optimizer
        optimizer = functional.optimizer
        if functional.scheduled_rate(0) is not None:
            raise ValueError(
                f"{name}'s optimizer state belongs to one learning rate, and "
                f"{type(optimizer).__name__} has a schedule. Give it a number "
                "as `learning_rate`."
            )
        of_weights = keras.optimizers.Ftrl, keras.optimizers.ScheduleFreeAdamW
        if isinstance(optimizer, of_weights):
            raise ValueError(
                f"The state of {type(optimizer).__name__} follows from the "
                f"weights too, and {name} updates it with gradients alone. "
                "Use another optimizer, such as SGD with momentum or Adam."
            )
        self._of_process = functional

    def init(self, spec):
        return (self._of_process.initial_values(),)

    def step(self, local, carry):
        statistics = list(local.broadcast.algorithm[0])
        after = super().step(local, carry._replace(optimizer=statistics))
        return after._replace(optimizer=carry.optimizer)

    def updated(self, statistics: Any, gradient: Any) -> Any:
        """The state after a mean gradient."""
        weights = [ops.zeros_like(g) for g in gradient]
        return self._of_process.apply(statistics, gradient, weights)[1]


class SentGradients(ServerStatistics):
    """What MimeLite does besides Federated Averaging."""

    def extra_spec(self, spec):
        return list(spec)

    def start(self, local, carry, client_state):
        zeros = [ops.zeros_like(w) for w in carry.variables.trainable]
        return ops.zeros((), "float32"), zeros

    def look(self, local, carry):
        gradients, _ = local.gradient(
            carry.variables.trainable, carry.variables, carry.optimizer
        )
        return averaged(carry.memory, gradients, local.num_examples)

    def finish(self, local, carry, update, client_state):
        return Contribution(update, carry.memory[1])

    def server(self, state, mean, extra, num_clients):
        return mean, (self.updated(state[0], extra),), {}
