from typing import Any

import keras

from fedlearn import checks
from fedlearn.algorithms.ditto import PersonalModel
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.algorithm import Shared


class APFL(FederatedAveraging):
    """APFL: clients predict with mixtures of their own and the global model.

    Deng et al. 2020, "Adaptive personalized federated learning",
    arXiv:2003.13461, algorithm 1, with one fixed alpha. The global model w is
    FedAvg's. At each step of w a client also takes a step of a model v of its
    own, along the gradient with respect to v of the loss of
    `alpha * v + (1 - alpha) * w`, which is alpha times that at the mixture; w
    being the client's copy, as it was before the step.

    Each v, with statistics of its own, stays with its client, in
    `state.client_states`; `evaluate` and `get_model(state, client=...)` mix it
    with the server's w, and statistics likewise. A client that hasn't taken
    part yet has the global model.

    For clients that come back; what it costs and what privacy covers is as
    for `Ditto`.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`.
        alpha: In [0, 1]: with 0 all have the global model, with 1 each client
            trains by itself.
        **arguments: The others of `FederatedAveraging`.

    Raises:
        ValueError: If alpha is out of range, or the client's training none
            that two models can take.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> model.set_weights([np.zeros((1, 1)), np.zeros(1)])
    >>> x = np.zeros((4, 1), "float32")
    >>> clients = {"a": (x, x + 1), "b": (x, x + 3)}
    >>> process = APFL(model, alpha=0.5)
    >>> state, _ = process.next(process.initialize(), clients)
    >>> own = state.client_states["b"].algorithm.weights
    >>> np.asarray(own[1])  # 0.1 * 0.5 * 2 * 3
    array([0.3], dtype=float32)
    >>> process.get_model(state, client="b").get_weights()[1].round(4)
    array([0.35], dtype=float32)
    """

    sets = ("algorithm",)

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        alpha: float = 0.5,
        **arguments: Any,
    ):
        algorithm = MixedModel(alpha)
        super().__init__(model, client, algorithm=algorithm, **arguments)
        self.alpha = algorithm.alpha


class MixedModel(PersonalModel):
    """What APFL does besides Federated Averaging."""

    def __init__(self, alpha: float):
        if alpha != 0:
            alpha = checks.fraction("alpha", alpha)
        self.alpha = float(alpha)

    def step(self, local, carry):
        own, optimizer = carry.memory
        mixed = self._mixed(own.trainable, carry.variables.trainable)
        gradients, after = local.gradient(mixed, own, optimizer)
        weights, optimizer = local.optimizer.apply(
            optimizer, [self.alpha * g for g in gradients], own.trainable
        )
        own = after._replace(trainable=weights)
        return super().step(local, carry)._replace(memory=(own, optimizer))

    def own_model(self, shared, state, client_state):
        return Shared(*map(self._mixed, client_state, shared))

    def _mixed(self, own, others):
        return [
            self.alpha * v + (1 - self.alpha) * w
            for v, w in zip(own, others, strict=True)
        ]
