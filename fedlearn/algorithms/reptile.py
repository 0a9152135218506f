from typing import Any

import keras

from fedlearn.aggregators.mean import Mean
from fedlearn.algorithms.federated_averaging import FederatedAveraging


class Reptile(FederatedAveraging):
    """Reptile: a model that few steps at a client make that client's own.

    Nichol et al. 2018, "On first-order meta-learning algorithms",
    arXiv:1803.02999, section 2, with a batch of tasks, which clients are: the
    server moves a part of the way to the mean of clients' weights. FedAvg goes
    the whole way, to a mean that weighs clients by their examples. What counts
    is the model after fine-tuning: `evaluate(..., fine_tune=
    fl.LocalTraining(...))`.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`.
        server_learning_rate: The paper's epsilon, the part of the way, or a
            `LearningRateSchedule` over rounds, as in its experiments, where it
            decays to 0. With 1 it is FedAvg with uniform weights.
        aggregator: As for `FederatedAveraging`; None for
            `Mean(weighting="uniform")`.
        **arguments: The others of `FederatedAveraging`, but for the server's
            optimizer.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> process = Reptile(model, server_learning_rate=0.5)
    >>> process.aggregator, process.server_optimizer.momentum
    (Mean(weighting='uniform'), 0.0)
    """

    sets = ("server_optimizer",)

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        server_learning_rate: Any = 0.5,
        aggregator: Any = None,
        **arguments: Any,
    ):
        self.server_learning_rate = server_learning_rate
        optimizer = keras.optimizers.SGD(server_learning_rate)
        if aggregator is None:
            aggregator = Mean(weighting="uniform")
        super().__init__(
            model, client, optimizer, aggregator=aggregator, **arguments
        )
