from typing import Any

import keras
from keras import ops

from fedlearn import clients
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.algorithm import Algorithm, Contribution, check_mean
from fedlearn.clients.local_training import LocalTraining
from fedlearn.process import LearningProcess


class FedNova(FederatedAveraging):
    """FedNova: who takes more steps doesn't count for more.

    Wang et al. 2020, "Tackling the objective inconsistency problem in
    heterogeneous federated optimization", arXiv:2007.07481. A client's update
    is a sum of gradients, each times the learning rate and a weight that its
    optimizer gives it; `a_k` is the sum of these weights. Clients send
    `update / a_k`, and the server moves by the mean of what they send, times
    the mean of `a_k` (both by the clients' numbers of examples).

    For plain SGD `a_k` is the number of steps, tau. It follows momentum and
    `LocalTraining(proximal=...)`, too: with momentum rho it is
    `(tau - rho * (1 - rho^tau) / (1 - rho)) / (1 - rho)`, with learning rate
    lr and proximal mu `(1 - (1 - lr * mu)^tau) / (lr * mu)`.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`, with SGD.
        **arguments: The others of `FederatedAveraging`. A `SecureSum`'s
            `value_range` is of `a_k` too, and its `clients_per_round` how
            many take part.

    Raises:
        ValueError: If the client's optimizer isn't SGD, whose weights are
            known, or if the server wouldn't get the mean.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> len(FedNova(model).update_spec)  # the kernel, the bias, and `a_k`
    3
    """

    sets = ("algorithm",)

    def __init__(
        self,
        model: keras.Model,
        client: str | LocalTraining | None = None,
        **arguments: Any,
    ):
        client = clients.get("fedavg" if client is None else client)
        algorithm = NormalizedUpdates(client.proximal)
        super().__init__(model, client, algorithm=algorithm, **arguments)


class NormalizedUpdates(Algorithm):
    """What FedNova does besides Federated Averaging."""

    def __init__(self, proximal: float = 0.0):
        self.proximal = proximal

    def check(self, process: LearningProcess) -> None:
        check_mean(
            process,
            "FedNova",
            "weighs updates by their steps",
            "steps follow from a client's examples, which noise on the "
            "updates doesn't hide",
            at_once=True,
        )
        optimizer: Any = process.program.trainer.optimizer.optimizer
        if (
            not isinstance(optimizer, keras.optimizers.SGD)
            or optimizer.weight_decay
        ):
            raise ValueError(
                "FedNova has to know how much each gradient counts in a "
                "client's update, which it does of SGD, with momentum or "
                "without, and not of the client's "
                f"{type(optimizer).__name__}"
                f"{' with weight_decay' * bool(optimizer.weight_decay)}. Use "
                'LocalTraining("sgd"), and regularizers for a decay.'
            )

    def extra_spec(self, spec):
        return [keras.KerasTensor((1,), "float32")]

    def start(self, local, carry, client_state):
        return ops.zeros((), "float32"), ops.zeros((), "float32")

    def remembered(self, local, carry, gradients):
        # What SGD makes of gradients that are all one, without the rate.
        velocity, total = carry.memory
        rate = ops.cast(
            local.optimizer.learning_rate(carry.optimizer), "float32"
        )
        gradient = 1.0 - self.proximal * rate * total
        sgd: Any = local.optimizer.optimizer
        velocity = sgd.momentum * velocity + gradient
        step = velocity
        if sgd.nesterov:
            step = sgd.momentum * velocity + gradient
        return velocity, total + step

    def finish(self, local, carry, update, client_state):
        _, total = carry.memory
        scale = 1.0 / ops.maximum(total, 1e-12)
        return Contribution(
            [u * ops.cast(scale, u.dtype) for u in update],
            [ops.reshape(total, (1,))],
        )

    def server(self, state, mean, extra, num_clients):
        steps = extra[0][0]
        moves = [m * ops.cast(steps, m.dtype) for m in mean]
        return moves, state, {"effective_steps": steps}
