from typing import Any

import keras
from keras import ops

from fedlearn import checks
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.algorithms.personal_layers import Personal, PersonalLayers
from fedlearn.clients.personal_variables import PersonalVariables


class FedRep(FederatedAveraging):
    """A personal head is trained first, then the shared representation.

    Collins et al. 2021, "Exploiting shared representations for personalized
    federated learning", arXiv:2102.07078, algorithm 1. The first `head_steps`
    steps of a client's round change its personal layers only, all others only
    what is shared, each with a fresh optimizer. For the rest it is `FedPer`,
    which trains both at once.

    A client whose round has no more steps than that trains its head only.
    With `head_steps=0` personal layers stay as the model has them (as in
    FedBABU, Oh et al. 2022, arXiv:2106.06042).

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`.
        personal: Which layers, usually the last ones; as for `FedPer`.
        head_steps: So many steps train the head. A round needs more, which
            follow from the clients' sizes, `batch_size` and `epochs`.
        **arguments: The others of `FederatedAveraging`.

    Raises:
        ValueError: If no variable would be personal, or no weight shared.

    Example:

    >>> layers = [keras.layers.Dense(8), keras.layers.Dense(1, name="head")]
    >>> model = keras.Sequential([keras.Input((2,)), *layers])
    >>> model.compile("sgd", "mse")
    >>> process = FedRep(model, personal="head", head_steps=5)
    >>> [s.shape for s in process.update_spec]
    [(2, 8), (8,)]
    """

    sets = ("algorithm",)

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        personal: Personal,
        head_steps: int,
        **arguments: Any,
    ):
        algorithm = HeadFirst(personal, head_steps)
        super().__init__(model, client, algorithm=algorithm, **arguments)
        self.personal = algorithm.personal
        self.head_steps = algorithm.head_steps


class HeadFirst(PersonalLayers):
    """What FedRep does besides Federated Averaging."""

    def __init__(self, personal: Personal, head_steps: int):
        super().__init__(personal)
        self.head_steps = checks.whole("head_steps", head_steps, least=0)

    def step(self, local, carry):
        starts = carry.num_steps == self.head_steps
        fresh = local.fresh_optimizer(carry.variables.trainable)
        optimizer = [
            ops.where(starts, new, used)
            for new, used in zip(fresh, carry.optimizer, strict=True)
        ]
        after = super().step(local, carry._replace(optimizer=optimizer))
        # Without a gradient, too, momentum and weight decay would move them.
        weights = [
            ops.where(trains, new, old)
            for trains, new, old in zip(
                self._trained(local, carry),
                after.variables.trainable,
                carry.variables.trainable,
                strict=True,
            )
        ]
        return after._replace(
            variables=after.variables._replace(trainable=weights)
        )

    def corrected(self, local, carry, gradients):
        return [
            ops.where(trains, g, ops.zeros_like(g))
            for trains, g in zip(
                self._trained(local, carry), gradients, strict=True
            )
        ]

    def _trained(self, local, carry):
        """For each weight, whether this step trains it."""
        head = carry.num_steps < self.head_steps
        return [
            head if i in self.head(local.personal) else ops.logical_not(head)
            for i in range(len(carry.variables.trainable))
        ]

    def head(self, personal: PersonalVariables) -> tuple[int, ...]:
        """Positions of what is trained first."""
        return personal.trainable
