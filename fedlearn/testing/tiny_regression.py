"""The smallest thing that trains: a linear regression of three clients."""

from typing import Any

import keras
import numpy as np

from fedlearn import seeds
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.local_training import LocalTraining
from fedlearn.process import LearningProcess


def data(num_examples: int, client: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points in three dimensions, and a linear function of them.

    Returns:
        `(x, y)`, float32 of shapes `(num_examples, 3)` and
        `(num_examples, 1)`.
    """
    x = seeds.normal(3 * num_examples, "tiny regression", client)
    x = x.reshape(num_examples, 3)
    y = x @ np.array([[1.0], [-2.0], [0.5]]) + 0.1 * client
    return x.astype(np.float32), y.astype(np.float32)


def cohort(num_clients: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Clients with 8 or 4 examples each, by their ids."""
    return {
        f"client_{k}": data(4 if k == 1 else 8, k) for k in range(num_clients)
    }


def process(aggregator: Any, executor: str = "sequential") -> LearningProcess:
    """A learning process with four weights that start from the same values.

    Args:
        aggregator: A `fedlearn.aggregators.Aggregator`.
        executor: As of `fedlearn.FederatedAveraging`.
    """
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(1, kernel_initializer="ones"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    return FederatedAveraging(
        model,
        client=LocalTraining(batch_size=4, shuffle=False),
        aggregator=aggregator,
        executor=executor,
    )
