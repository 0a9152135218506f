from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import checks, seeds
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.algorithm import (
    Algorithm,
    Contribution,
    check_gradients,
    check_mean,
    check_plain_server,
)
from fedlearn.process import LearningProcess


class Clustered(FederatedAveraging):
    """IFCA: a model for each cluster of clients, who find theirs themselves.

    Ghosh et al. 2020, "An efficient framework for clustered federated
    learning", arXiv:2006.04088, algorithm 1 with averages of models. In a
    round a client is sent the models of all clusters, and trains that which
    has the least loss on its examples. Each model moves by the mean update of
    those who chose it.

    The first cluster's weights are the state's; the others' are in
    `state.algorithm`. `evaluate` and `get_model(state, client=...)` use the
    model that a client chose last, or the first one for a client that hasn't
    taken part yet. `"global"` of an evaluation is the first model.

    A client gets `clusters` times as many bytes as in FedAvg, and sends as
    many times more: zeros for the models that it didn't choose, so that sums
    are enough, secure ones too. `cluster_0`, ... of a round's metrics are the
    shares of clients that chose each model, weighted as their updates are.

    Where models begin decides what they find. One that nobody chooses stays
    as it is: then begin with other weights.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`; without `proximal` and `dp`.
        clusters: How many. With 1 it is FedAvg.
        spread: The first model begins as it is. To each weight of the others
            normal numbers are added, of so many times its standard deviation.
            Take a small one for a model that was trained before.
        aggregator: `Mean` or `SecureSum`.
        **arguments: The others of `FederatedAveraging`, but for the server's
            optimizer.

    Raises:
        ValueError: If models would begin alike, or if the aggregator, the
            server's optimizer or the client's training is none that moves
            each by itself.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> process = Clustered(model, clusters=3)
    >>> len(process.initialize().algorithm)  # the other two
    2
    """

    sets = ("algorithm",)

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        clusters: int = 3,
        spread: float = 1.0,
        **arguments: Any,
    ):
        algorithm = ModelPerCluster(clusters, spread)
        super().__init__(model, client, algorithm=algorithm, **arguments)
        self.clusters = algorithm.clusters
        self.spread = algorithm.spread


class ModelPerCluster(Algorithm):
    """What IFCA does besides Federated Averaging."""

    def __init__(self, clusters: int, spread: float):
        self.clusters = checks.whole("clusters", clusters)
        self.spread = checks.number("spread", spread)

    def check(self, process: LearningProcess) -> None:
        check_mean(
            process,
            "Clustered",
            "takes means over those who chose a model",
            "how many those are would need noise of its own",
        )
        check_gradients(process, "Clustered")
        check_plain_server(process, "Clustered")
        if process.program.statistics:
            raise ValueError(
                "Statistics of layers such as BatchNormalization would be "
                "averaged over all clusters. Use LocalTraining(statistics="
                "'local') or 'frozen', or a model without such layers."
            )
        first = [
            np.array(ops.convert_to_numpy(v))
            for v in process.model.trainable_variables
        ]
        self._others = [
            [self._apart(w, j, i) for i, w in enumerate(first)]
            for j in range(1, self.clusters)
        ]
        for other in self._others:
            if all(map(np.array_equal, other, first)):
                raise ValueError(
                    "The models of all clusters would begin alike, since "
                    "every weight holds a single number or spread=0. Begin "
                    "with random weights, and a `spread` above 0."
                )

    def _apart(self, weight: np.ndarray, cluster: int, i: int) -> np.ndarray:
        noise = seeds.normal(weight.size, "clusters", cluster, i)
        moved = weight + self.spread * weight.std() * noise.reshape(
            weight.shape
        )
        return moved.astype(weight.dtype)

    def extra_spec(self, spec):
        shares = keras.KerasTensor((self.clusters,), "float32")
        return [*list(spec) * (self.clusters - 1), shares]

    def init(self, spec):
        return keras.tree.map_structure(ops.convert_to_tensor, self._others)

    def init_client(self, shared):
        return ops.zeros((), "int32")

    def start(self, local, carry, client_state):
        return ops.zeros((self.clusters,), "float32")

    def look(self, local, carry):
        losses = [
            local.loss(weights, carry.variables)
            for weights in self._models(local)
        ]
        losses = ops.cast(ops.stack(losses), "float32")
        return carry.memory + local.num_examples * losses

    def step(self, local, carry):
        chosen = self._chosen(local, carry)
        weights, optimizer = (
            [
                ops.where(carry.num_steps == 0, first, now)
                for first, now in zip(*pair, strict=True)
            ]
            for pair in (
                (chosen, carry.variables.trainable),
                (local.fresh_optimizer(chosen), carry.optimizer),
            )
        )
        variables = carry.variables._replace(trainable=weights)
        return super().step(
            local, carry._replace(variables=variables, optimizer=optimizer)
        )

    def finish(self, local, carry, update, client_state):
        trained = carry.num_steps > 0
        moved = [
            ops.where(trained, now - first, ops.zeros_like(now))
            for now, first in zip(
                carry.variables.trainable,
                self._chosen(local, carry),
                strict=True,
            )
        ]
        choice = ops.cast(ops.argmin(carry.memory), "int32")
        shares = ops.one_hot(choice, self.clusters, dtype="float32")
        shares = ops.where(trained, shares, ops.zeros_like(shares))
        first, *others = (
            [ops.cast(shares[j], m.dtype) * m for m in moved]
            for j in range(self.clusters)
        )
        extra = [m for other in others for m in other]
        kept = ops.where(trained, choice, client_state)
        return Contribution(first, [*extra, shares], kept)

    def server(self, state, mean, extra, num_clients):
        *extra, shares = extra
        size = len(mean)

        # That of a model that nobody chose may not be quite 0 in a secure sum.
        is_chosen = shares * num_clients > 1e-3

        def of_cluster(j, update):
            share = ops.where(is_chosen[j], shares[j], 1.0)
            return [
                ops.where(is_chosen[j], u / ops.cast(share, u.dtype), 0 * u)
                for u in update
            ]

        state = [
            [
                w + u
                for w, u in zip(
                    weights,
                    of_cluster(j + 1, extra[j * size : (j + 1) * size]),
                    strict=True,
                )
            ]
            for j, weights in enumerate(state)
        ]
        told = {f"cluster_{j}": shares[j] for j in range(self.clusters)}
        return of_cluster(0, mean), state, told

    def own_model(self, shared, state, client_state):
        models = [shared.weights, *state]
        return shared._replace(weights=models[int(client_state)])

    def _models(self, local):
        return [local.broadcast.trainable, *local.broadcast.algorithm]

    def _chosen(self, local, carry):
        """The weights with the least loss."""
        choice = ops.argmin(carry.memory)
        return [
            ops.take(ops.stack(same), choice, axis=0)
            for same in zip(*self._models(local), strict=True)
        ]
