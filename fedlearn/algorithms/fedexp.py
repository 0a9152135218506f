from typing import Any

import keras
from keras import ops

from fedlearn import checks
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.algorithm import Algorithm, Contribution, check_mean
from fedlearn.encoders import norms
from fedlearn.process import LearningProcess


class FedExP(FederatedAveraging):
    """FedExP: the server goes farther where clients' updates disagree.

    Jhunjhunwala et al. 2023, "FedExP: speeding up federated averaging via
    extrapolation", arXiv:2301.09604. The mean of the updates is taken
    `max(1, mean(||update||^2) / (2 * (||mean(update)||^2 + epsilon)))` times,
    which is logged as `extrapolation`.

    The paper reports the mean of the last two rounds' weights, since the last
    ones go back and forth; the weights here are the last round's.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`.
        epsilon: Larger ones extrapolate less where updates are small.
        **arguments: The others of `FederatedAveraging`. A `SecureSum`'s
            `value_range` is of squared norms too.

    Raises:
        ValueError: If the server wouldn't get the mean, or somebody adds noise.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> len(FedExP(model).update_spec)  # kernel, bias, and their squared norm
    3
    """

    sets = ("algorithm",)

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        epsilon: float = 1e-3,
        **arguments: Any,
    ):
        algorithm = Extrapolation(epsilon)
        super().__init__(model, client, algorithm=algorithm, **arguments)
        self.epsilon = epsilon


class Extrapolation(Algorithm):
    """What FedExP does besides Federated Averaging."""

    def __init__(self, epsilon: float):
        self.epsilon = checks.number("epsilon", epsilon)

    def check(self, process: LearningProcess) -> None:
        check_mean(
            process,
            "FedExP",
            "compares updates with their mean",
            "noise would be most of the mean's norm",
            at_once=True,
        )
        if process.client.adds_noise:
            raise ValueError(
                "FedExP compares updates with their mean, and the clients' "
                "noise, which a mean has less of, would make its steps longer. "
                "Train without `dp`, or with another algorithm."
            )

    def extra_spec(self, spec):
        return [keras.KerasTensor((1,), "float32")]

    def finish(self, local, carry, update, client_state):
        return Contribution(update, [_squared_norm(update)])

    def server(self, state, mean, extra, num_clients):
        norm = 2 * (_squared_norm(mean) + self.epsilon)
        times = ops.maximum(extra[0] / ops.maximum(norm, 1e-30), 1.0)[0]
        moves = [m * ops.cast(times, m.dtype) for m in mean]
        return moves, state, {"extrapolation": times}


def _squared_norm(update):
    norm = ops.cast(norms.l2(update), "float32")
    return ops.reshape(ops.square(norm), (1,))
