from typing import Any

import keras

from fedlearn import checks, clients
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.local_training import LocalTraining


class FedProx(FederatedAveraging):
    """Federated averaging with a proximal term at the clients.

    A client minimises its loss plus `proximal / 2 * ||w - w_round||^2`, so
    that it doesn't go far from the model it was sent (Li et al. 2020,
    "Federated optimization in heterogeneous networks", algorithm 2,
    https://arxiv.org/abs/1812.06127). With 0 it is FedAvg.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`; its `proximal` is set.
        proximal: The paper's mu, at least 0. It searches 0.001 to 1.
        **arguments: The others of `FederatedAveraging`.

    Raises:
        ValueError: If `proximal` is negative.

    Example:

    >>> import fedlearn as fl
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> FedProx(model, fl.LocalTraining(epochs=5), proximal=0.01).client
    LocalTraining(epochs=5, proximal=0.01)
    """

    def __init__(
        self,
        model: keras.Model,
        client: str | LocalTraining | None = None,
        *,
        proximal: float = 0.1,
        **arguments: Any,
    ):
        self.proximal = checks.number("proximal", proximal)
        client = clients.get("fedavg" if client is None else client)
        config = {**client.get_config(), "proximal": self.proximal}
        super().__init__(model, type(client).from_config(config), **arguments)
