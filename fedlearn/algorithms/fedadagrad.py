from typing import Any

import keras

from fedlearn import optimizers
from fedlearn.algorithms.federated_averaging import FederatedAveraging


class FedAdagrad(FederatedAveraging):
    """Federated averaging with Adagrad at the server.

    As `FedAdam`, with the same arguments, but `v <- v + delta^2`: see
    `fedlearn.optimizers.FedAdagrad` (Reddi et al. 2021, "Adaptive federated
    optimization", algorithm 2 and the constants of section 5,
    https://arxiv.org/abs/2003.00295).

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> type(FedAdagrad(model).server_optimizer).__name__
    'FedAdagrad'
    """

    sets = ("server_optimizer",)

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        server_learning_rate: float = 0.03,
        **arguments: Any,
    ):
        self.server_learning_rate = server_learning_rate
        optimizer = optimizers.FedAdagrad(server_learning_rate)
        super().__init__(model, client, optimizer, **arguments)
