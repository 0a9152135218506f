from typing import Any

import keras

from fedlearn.algorithms.federated_averaging import FederatedAveraging


class FedAvgM(FederatedAveraging):
    """Federated averaging with momentum at the server.

    The server's optimizer is SGD with momentum (Hsu et al. 2019, "Measuring
    the effects of non-identical data distribution for federated visual
    classification", section 3.2, https://arxiv.org/abs/1909.06335).

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`.
        momentum: The paper's beta, in [0, 1]. It searches 0.7 to 0.997.
        server_learning_rate: Of the server's SGD.
        **arguments: The others of `FederatedAveraging`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> FedAvgM(model, momentum=0.7).server_optimizer.momentum
    0.7
    """

    sets = ("server_optimizer",)

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        momentum: float = 0.9,
        server_learning_rate: float = 1.0,
        **arguments: Any,
    ):
        self.momentum = momentum
        self.server_learning_rate = server_learning_rate
        optimizer = keras.optimizers.SGD(server_learning_rate, momentum)
        super().__init__(model, client, optimizer, **arguments)
