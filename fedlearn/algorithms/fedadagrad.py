from typing import Any

import keras

from fedlearn import optimizers
from fedlearn.algorithms.federated_averaging import FederatedAveraging


class FedAdagrad(FederatedAveraging):
    """Federated averaging with Adagrad at the server.

    Of the mean of clients' changes, delta, the server keeps the momentum m
    and `v <- v + delta^2`, and moves by
    `m / (sqrt(v) + epsilon)` (Reddi et al. 2021, "Adaptive federated
    optimization", algorithm 2, https://arxiv.org/abs/2003.00295), with the
    constants of its section 5: see `fedlearn.optimizers.FedAdagrad`.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`.
        server_optimizer: None for `optimizers.FedAdagrad` with
            `server_learning_rate`.
        server_learning_rate: The paper searches 0.001 to 10; this one learns
            `datasets.digits` well.
        **arguments: The others of `FederatedAveraging`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> type(FedAdagrad(model).server_optimizer).__name__
    'FedAdagrad'
    """

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        server_optimizer: Any = None,
        *,
        server_learning_rate: float = 0.03,
        **arguments: Any,
    ):
        self.server_learning_rate = server_learning_rate
        if server_optimizer is None:
            server_optimizer = optimizers.FedAdagrad(server_learning_rate)
        super().__init__(model, client, server_optimizer, **arguments)
