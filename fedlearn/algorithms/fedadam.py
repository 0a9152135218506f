from typing import Any

import keras

from fedlearn import optimizers
from fedlearn.algorithms.federated_averaging import FederatedAveraging


class FedAdam(FederatedAveraging):
    """Federated averaging with Adam at the server.

    Of the mean of clients' changes, delta, the server keeps the momentum m
    and `v <- beta_2 * v + (1 - beta_2) * delta^2`, and moves by
    `m / (sqrt(v) + epsilon)` (Reddi et al. 2021, "Adaptive federated
    optimization", algorithm 2, https://arxiv.org/abs/2003.00295), with the
    constants of its section 5: see `fedlearn.optimizers.FedAdam`.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`.
        server_learning_rate: The paper searches 0.001 to 10; this one learns
            `datasets.digits` well.
        **arguments: The others of `FederatedAveraging`; for other constants
            use that, with `server_optimizer=optimizers.FedAdam(...)`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> type(FedAdam(model).server_optimizer).__name__
    'FedAdam'
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
        optimizer = optimizers.FedAdam(server_learning_rate)
        super().__init__(model, client, optimizer, **arguments)
