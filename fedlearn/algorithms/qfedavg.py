from typing import Any

import keras
from keras import ops

from fedlearn import checks
from fedlearn.aggregators.mean import Mean
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.algorithm import (
    Algorithm,
    Contribution,
    averaged,
    check_mean,
)
from fedlearn.encoders import norms
from fedlearn.process import LearningProcess


class QFedAvg(FederatedAveraging):
    """q-FedAvg: clients with larger losses count for more.

    Li et al. 2020, "Fair resource allocation in federated learning",
    arXiv:1905.10497. It minimises the sum of `F_k ** (q + 1) / (q + 1)`, F_k
    being client k's loss. A client goes through its examples once more, for
    F_k at the server's weights, and sends `F_k**q * update` and
    `h_k = q * F_k**(q - 1) * L * ||update||^2 + F_k**q`; the server moves by
    the sum of the former over that of the latter. (The paper's Delta_k and
    h_k are L times these.) With q = 0 it is FedAvg with uniform weights.

    Args:
        model: A compiled `keras.Model`, whose loss is positive.
        client: As for `FederatedAveraging`.
        q: How much more, at least 0.
        lipschitz: L, above 0; None for 1 over the clients' learning rate, as
            in the authors' program.
        aggregator: `Mean`, or `SecureSum`, whose `value_range` is of `h_k`
            too; None for `Mean(weighting="uniform")`.
        **arguments: The others of `FederatedAveraging`.

    Raises:
        ValueError: If the server wouldn't get the sums, or adds noise, which
            wouldn't cover weights that follow from losses.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> len(QFedAvg(model, q=1.0).update_spec)  # the kernel, the bias, and h_k
    3
    """

    sets = ("algorithm",)

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        q: float = 1.0,
        lipschitz: float | None = None,
        aggregator: Any = None,
        **arguments: Any,
    ):
        if aggregator is None:
            aggregator = Mean(weighting="uniform")
        super().__init__(
            model,
            client,
            aggregator=aggregator,
            algorithm=FairWeights(q, lipschitz),
            **arguments,
        )
        self.q = q
        self.lipschitz = lipschitz


class FairWeights(Algorithm):
    """What q-FedAvg does besides Federated Averaging."""

    def __init__(self, q: float, lipschitz: float | None = None):
        self.q = checks.number("q", q)
        if lipschitz is not None:
            lipschitz = checks.positive("lipschitz", lipschitz)
        self.lipschitz = lipschitz

    def check(self, process: LearningProcess) -> None:
        check_mean(
            process,
            "q-FedAvg",
            "weighs updates by losses",
            "losses are of clients' data, and noise on the updates doesn't "
            "hide them",
            at_once=True,
        )
        optimizer = process.program.trainer.optimizer
        rate = optimizer.learning_rate(optimizer.initial_values())
        if self.lipschitz is None and rate is None:
            raise ValueError(
                "q-FedAvg takes 1 over the clients' learning rate for L, and "
                "their optimizer has several. Give `lipschitz`."
            )

    def extra_spec(self, spec):
        return [keras.KerasTensor((1,), "float32")]

    def start(self, local, carry, client_state):
        return ops.zeros((), "float32"), [ops.zeros((), "float32")]

    def look(self, local, carry):
        loss = local.loss(carry.variables.trainable, carry.variables)
        return averaged(carry.memory, [loss], local.num_examples)

    def finish(self, local, carry, update, client_state):
        _, (loss,) = carry.memory
        loss = ops.maximum(loss, 0.0) + 1e-10  # 0 ** -1 is infinite
        weight = ops.power(loss, self.q)
        bound = self.lipschitz
        if bound is None:
            rate = local.optimizer.learning_rate(carry.optimizer)
            bound = 1.0 / ops.cast(rate, "float32")
        squared = ops.square(ops.cast(norms.l2(update), "float32"))
        slope = self.q * ops.power(loss, self.q - 1.0)
        return Contribution(
            [u * ops.cast(weight, u.dtype) for u in update],
            [ops.reshape(slope * bound * squared + weight, (1,))],
        )

    def server(self, state, mean, extra, num_clients):
        total = ops.maximum(extra[0][0], 1e-30)
        return [m / ops.cast(total, m.dtype) for m in mean], state, {}
