from typing import Any

import keras

from fedlearn import optimizers
from fedlearn.algorithms.federated_averaging import FederatedAveraging


class FedYogi(FederatedAveraging):
    """Federated averaging with Yogi at the server.

    As `FedAdam`, with the same arguments, but
    `v <- v - (1 - beta_2) * delta^2 * sign(v - delta^2)`: see
    `fedlearn.optimizers.FedYogi` (Reddi et al. 2021, "Adaptive federated
    optimization", algorithm 2 and the constants of section 5,
    https://arxiv.org/abs/2003.00295).

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> type(FedYogi(model).server_optimizer).__name__
    'FedYogi'
    """

    sets = ("server_optimizer",)

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        server_learning_rate: float = 0.05,
        **arguments: Any,
    ):
        self.server_learning_rate = server_learning_rate
        optimizer = optimizers.FedYogi(server_learning_rate)
        super().__init__(model, client, optimizer, **arguments)
