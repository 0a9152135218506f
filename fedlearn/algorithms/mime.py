from typing import Any

import keras
from keras import ops

from fedlearn import clients
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.algorithms.mimelite import ServerStatistics
from fedlearn.clients.algorithm import (
    Algorithm,
    Contribution,
    averaged,
    check_mean,
    zeros,
)
from fedlearn.clients.local_training import LocalTraining
from fedlearn.messages.server_state import ServerState
from fedlearn.process import LearningProcess


class Mime(FederatedAveraging):
    """Mime: MimeLite, with clients' steps corrected by the mean gradient.

    Karimireddy et al. 2021, "Breaking the centralized barrier for
    cross-device federated learning" (first as "Mime", arXiv:2008.03606).
    Clients step along `g(y) - g(x) + c`, of one batch at their own weights y
    and at the server's x, with c the mean of the full gradients at x of all
    clients of the round.

    So clients are asked twice in `next`: for their gradients, by the process
    `gradients`, whose round puts c into `state.algorithm`; then for their
    updates, by the halves of this process, which also work by themselves.

    Args:
        model: A compiled `keras.Model`.
        client: As for `MimeLite`.
        **arguments: The others of `FederatedAveraging`.

    Raises:
        ValueError: As `MimeLite`; and if the server wouldn't get the mean.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    >>> process = Mime(model)
    >>> len(process.update_spec)  # the kernel and the bias
    2
    """

    sets = ("algorithm",)

    def __init__(
        self,
        model: keras.Model,
        client: str | LocalTraining | None = None,
        **arguments: Any,
    ):
        client = clients.get("fedavg" if client is None else client)
        super().__init__(model, client, algorithm=CorrectedSteps(), **arguments)
        once = {"epochs": 1, "shuffle": False, "max_steps": None}
        self.gradients = LearningProcess(
            model,
            type(client).from_config({**client.get_config(), **once}),
            algorithm=FullGradients(),
            **{**arguments, "server_optimizer": None},
        )

    def next(
        self, state: ServerState, clients: Any
    ) -> tuple[ServerState, dict[str, float]]:
        # The server takes no step along gradients.
        asked, first = self.gradients.next(
            state._replace(optimizer=self.gradients.initialize().optimizer),
            clients,
        )
        state = state._replace(algorithm=asked.algorithm)
        state, metrics = super().next(state, clients)
        for name in metrics.keys() & {"bytes_up", "bytes_down"}:
            metrics[name] += first[name]
        return state, metrics


class CorrectedSteps(ServerStatistics):
    """What Mime does besides Federated Averaging, once it has c."""

    def check(self, process: LearningProcess) -> None:
        super().check(process)
        if process.aggregator.has_memory:
            raise ValueError(
                "Mime sends gradients and then updates, and ErrorFeedback "
                "would add what it left out of one to the other. Leave the "
                "compression out, or use MimeLite."
            )
        check_mean(
            process,
            "Mime",
            "corrects steps by the mean gradient",
            "noise on the updates doesn't cover gradients",
            at_once=True,
        )

    def init(self, spec):
        return *super().init(spec), zeros(spec)

    def corrected(self, local, carry, gradients):
        at_server, _ = local.gradient(
            local.broadcast.trainable, carry.variables, carry.optimizer
        )
        _, mean = local.broadcast.algorithm
        return [
            g - g_x + c
            for g, g_x, c in zip(gradients, at_server, mean, strict=True)
        ]

    def server(self, state, mean, extra, num_clients):
        statistics, gradient = state
        used = [ops.zeros_like(g) for g in gradient]
        return mean, (self.updated(statistics, gradient), used), {}


class FullGradients(Algorithm):
    """A round of gradients at the server's weights, which stay."""

    def broadcast(self, state):
        return ()

    def start(self, local, carry, client_state):
        zeros = [ops.zeros_like(w) for w in carry.variables.trainable]
        return ops.zeros((), "float32"), zeros

    def step(self, local, carry):
        gradients, _ = local.gradient(
            carry.variables.trainable, carry.variables, carry.optimizer
        )
        mean = averaged(carry.memory, gradients, local.num_examples)
        return carry._replace(memory=mean)

    def finish(self, local, carry, update, client_state):
        return Contribution(carry.memory[1])

    def server(self, state, mean, extra, num_clients):
        return [ops.zeros_like(m) for m in mean], (state[0], mean), {}
