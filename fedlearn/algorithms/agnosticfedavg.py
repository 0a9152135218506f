import collections
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
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
from fedlearn.data.client_id import as_client_ids
from fedlearn.messages.message import Message
from fedlearn.messages.server_state import ServerState
from fedlearn.process import LearningProcess


class AgnosticFedAvg(FederatedAveraging):
    """Agnostic federated learning: the worst mixture of domains counts.

    Mohri, Sivek and Suresh 2019, "Agnostic federated learning",
    arXiv:1902.00146: the least, over weights, of the largest, over mixtures
    lambda of the domains, of `sum(lambda_d * L_d)`. L_d is the mean loss of a
    domain's clients. In each round weights move by the clients' updates, of
    which a domain's share is lambda_d, divided among all its clients; and
    lambda by `domain_learning_rate * L_d` at the round's weights, for domains
    that take part, back onto the simplex.

    Lambda is `state.algorithm`, in the order of `domain_names`, and begins as
    the domains' shares of the clients. A client keeps which domain it is of;
    it goes through its examples once more, for its loss.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`.
        domains: From each client's id to its domain's name; or the ids of all
            clients, each a domain of its own.
        domain_learning_rate: At least 0; with 0 lambda stays.
        aggregator: A uniform `Mean`, or `SecureSum`, whose `value_range` is
            of losses too; None for `Mean(weighting="uniform")`.
        **arguments: The others of `FederatedAveraging`.

    Raises:
        ValueError: If the server wouldn't get the mean, or adds noise, which
            wouldn't cover losses; in a round, for a client without a domain.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> domains = {"basel": "city", "bern": "city", "davos": "alps"}
    >>> process = AgnosticFedAvg(model, domains=domains)
    >>> process.domain_names
    ['alps', 'city']
    >>> process.initialize().client_states["bern"].algorithm.tolist()
    [0.0, 1.0]
    """

    sets = ("algorithm",)

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        domains: Mapping[str, str] | Sequence[str],
        domain_learning_rate: float = 0.1,
        aggregator: Any = None,
        **arguments: Any,
    ):
        if not isinstance(domains, Mapping):
            ids = as_client_ids(domains)
            domains = dict(zip(ids, ids, strict=True))
        for client_id, name in domains.items():
            if not isinstance(name, str | numbers.Integral):
                raise TypeError(
                    f"`domains[{client_id!r}]` must be a domain's name. "
                    f"Received: {type(name).__name__}. Where each client is a "
                    "domain, give the clients' ids."
                )
        ids, names = as_client_ids(domains), map(str, domains.values())
        self.domains = dict(zip(ids, names, strict=True))
        self.domain_names = sorted(set(self.domains.values()))
        if aggregator is None:
            aggregator = Mean(weighting="uniform")
        super().__init__(
            model,
            client,
            aggregator=aggregator,
            algorithm=Mixture(self.domains, domain_learning_rate),
            **arguments,
        )
        self.domain_learning_rate = domain_learning_rate

    def initialize(self, seed: int = 0) -> ServerState:
        state, fresh = super().initialize(seed), self.client_state
        rows = np.eye(len(self.domain_names), dtype=np.float32)
        of_name = dict(zip(self.domain_names, rows, strict=True))
        kept = {
            client_id: fresh._replace(algorithm=of_name[name])
            for client_id, name in self.domains.items()
        }
        return state._replace(client_states=state.client_states.updated(kept))

    def client_message(
        self, broadcast: Any, data: Any, seed: int, client_state: Any = None
    ) -> tuple[Message, Any]:
        if not client_state:
            raise ValueError(
                "A client of AgnosticFedAvg keeps which domain it is of. Give "
                "`client_state=state.client_states[client_id]`."
            )
        return super().client_message(broadcast, data, seed, client_state)

    def _state_of(self, state: ServerState, sent: Any) -> Any:
        state_of = super()._state_of(state, sent)

        def of_known(client_id):
            if client_id not in self.domains:
                raise ValueError(
                    f"Client {client_id!r} has no domain. Expected each "
                    "client's in `domains`."
                )
            return state_of(client_id)

        return of_known


class Mixture(Algorithm):
    """What agnostic federated averaging does besides Federated Averaging."""

    def __init__(self, domains: Mapping[str, str], learning_rate: float):
        self.domains = dict(domains)
        sizes = collections.Counter(self.domains.values())
        self.sizes = [sizes[name] for name in sorted(sizes)]
        self.learning_rate = checks.number(
            "domain_learning_rate", learning_rate
        )

    def check(self, process: LearningProcess) -> None:
        check_mean(
            process,
            "AgnosticFedAvg",
            "weighs updates by losses",
            "losses are of clients' data, and noise on the updates doesn't "
            "hide them",
            at_once=True,
        )
        aggregator: Any = process.aggregator
        if aggregator.weighting != "uniform":
            raise ValueError(
                "AgnosticFedAvg divides a domain's share among its clients, "
                "so examples don't count. Use Mean(weighting='uniform')."
            )

    def extra_spec(self, spec):
        count = len(self.sizes)
        shapes = ((1,), (count,), (count,))
        return [keras.KerasTensor(shape, "float32") for shape in shapes]

    def init(self, spec):
        sizes = np.asarray(self.sizes, np.float32)
        return ops.convert_to_tensor(sizes / sizes.sum())

    def init_client(self, shared):
        return ops.zeros((len(self.sizes),), "float32")  # of no domain

    def start(self, local, carry, client_state):
        return ops.zeros((), "float32"), [ops.zeros((), "float32")]

    def look(self, local, carry):
        loss = local.loss(carry.variables.trainable, carry.variables)
        return averaged(carry.memory, [loss], local.num_examples)

    def finish(self, local, carry, update, client_state):
        _, (loss,) = carry.memory
        of_each = local.broadcast.algorithm / np.asarray(self.sizes, np.float32)
        share = ops.sum(of_each * client_state)
        return Contribution(
            [u * ops.cast(share, u.dtype) for u in update],
            [ops.reshape(share, (1,)), client_state * loss, client_state],
            client_state,
        )

    def server(self, state, mean, extra, num_clients):
        share, losses, present = extra
        share = ops.maximum(share[0], 1e-30)
        moves = [m / ops.cast(share, m.dtype) for m in mean]
        losses = losses / ops.maximum(present, 1e-30)
        mixture = on_simplex(state + self.learning_rate * losses)
        return moves, mixture, {"worst_loss": ops.max(losses)}


def on_simplex(point: Any) -> Any:
    """The nearest point whose coordinates are at least 0 and add up to 1.

    >>> np.array(on_simplex(ops.array([0.5, 1.5, -1.0]))).tolist()
    [0.0, 1.0, 0.0]
    """
    count = point.shape[0]
    falling = -ops.sort(-point)
    excess = ops.cumsum(falling) - 1.0
    numbers = np.arange(1, count + 1, dtype=np.float32)
    above = ops.cast(falling - excess / numbers > 0, "float32")
    last = ops.cast(ops.sum(above), "int32") - 1
    level = ops.take(excess / numbers, last)
    return ops.maximum(point - level, 0.0)
