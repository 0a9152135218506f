import itertools
from typing import Any

import keras
import numpy as np

from fedlearn import checks, seeds
from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.algorithms.fedrep import HeadFirst
from fedlearn.algorithms.personal_layers import Personal
from fedlearn.process import LearningProcess


class FedRecon(FederatedAveraging):
    """FedRecon: personal layers are made anew in each round, and not kept.

    Singhal et al. 2021, "Federated reconstruction: partially local federated
    learning", arXiv:2102.03448, algorithm 1. In a round a client draws half of
    its examples. With these it trains its personal layers for
    `reconstruct_steps` steps, from what the model has; then, as `client`
    says, what is shared with the other half, the personal layers being fixed.
    Only what is shared is sent, and nothing is kept: for clients that don't
    come back, and for those that are new.

    `evaluate` reconstructs in the same way, with half of a client's examples
    or with `fine_tune_data`, and evaluates on the others.
    `get_model(state)` has the personal layers as they were made.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`. Both parts take its optimizer,
            each anew, and its batches.
        personal: Which layers; as for `FedPer`.
        reconstruct_steps: So many steps train them.
        **arguments: The others of `FederatedAveraging`.

    Raises:
        ValueError: If no variable would be personal, no weight shared, or
            with `dp`.

    Example:

    >>> layers = [keras.layers.Dense(8), keras.layers.Dense(1, name="head")]
    >>> model = keras.Sequential([keras.Input((2,)), *layers])
    >>> model.compile("sgd", "mse")
    >>> process = FedRecon(model, personal="head", reconstruct_steps=5)
    >>> [s.shape for s in process.update_spec]
    [(2, 8), (8,)]
    >>> data = {"a": (np.ones((4, 2)), np.ones((4, 1)))}
    >>> state, _ = process.next(process.initialize(), data)
    >>> len(state.client_states)
    0
    """

    sets = ("algorithm",)

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        personal: Personal,
        reconstruct_steps: int = 10,
        **arguments: Any,
    ):
        steps = checks.whole("reconstruct_steps", reconstruct_steps)
        algorithm = ReconstructFirst(personal, steps)
        super().__init__(model, client, algorithm=algorithm, **arguments)
        self.personal = algorithm.personal
        self.reconstruct_steps = steps


class Reconstruction(HeadFirst):
    """Trains what is reconstructed, with all examples and nothing else."""

    def personal_variables(self, model):
        return None

    def temporary_variables(self, model):
        return super().personal_variables(model)

    def head(self, personal):
        return personal.temporary

    def batches(self, given, num_examples, seed):
        passes = (
            given(num_examples, seeds.fold(seed, "reconstruct", i))
            for i in (itertools.count() if num_examples else ())
        )
        steps = itertools.chain.from_iterable(passes)
        return list(itertools.islice(steps, self.head_steps))


class ReconstructFirst(Reconstruction):
    """What FedRecon does besides Federated Averaging."""

    def check(self, process: LearningProcess) -> None:
        if getattr(process.client, "dp", None) is not None:
            raise ValueError(
                "FedRecon takes steps of its own on half of a client's "
                "examples, and what `dp` guarantees counts those of the "
                "client's training. Train without `dp`; a PrivateMean "
                "aggregator protects clients."
            )

    def batches(self, given, num_examples, seed):
        order = seeds.permutation(num_examples, seed, "halves")
        order = order.astype(np.int32)
        half = num_examples // 2
        # Of a single example both halves are that.
        first, second = order[: half or 1], order[half:]
        return [
            *(first[b] for b in super().batches(given, len(first), seed)),
            *(second[b] for b in given(len(second), seed)),
        ]

    def tuning(self):
        return Reconstruction(self.personal, self.head_steps)
