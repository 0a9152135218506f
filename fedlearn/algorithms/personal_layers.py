from collections.abc import Callable, Sequence
from typing import Any

import keras

from fedlearn.algorithms.federated_averaging import FederatedAveraging
from fedlearn.clients.algorithm import Algorithm
from fedlearn.keras_model import keras_internals

Personal = str | type | Sequence[str | type] | Callable[[str], bool]


class FedPer(FederatedAveraging):
    """Some layers are each client's own: trained with the rest, never sent.

    Arivazhagan et al. 2019, "Federated learning with personalization layers",
    arXiv:1912.00818, algorithm 1. A client that is seen first begins with
    what the model has. Its own are in `state.client_states`; `evaluate` and
    `get_model(state, client=...)` use them.

    What a personal layer learned never leaves its client, so no privacy of
    the aggregator covers it, or need do.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`.
        personal: Which layers: their names, or classes of layers, or one of
            these; or a function from a variable's path (`"dense_1/kernel"`)
            to whether it is personal.
        **arguments: The others of `FederatedAveraging`.

    Raises:
        ValueError: If no variable would be personal, or no weight shared.

    Example:

    >>> layers = [keras.layers.Dense(8), keras.layers.Dense(1, name="head")]
    >>> model = keras.Sequential([keras.Input((2,)), *layers])
    >>> model.compile("sgd", "mse")
    >>> [s.shape for s in FedPer(model, personal="head").update_spec]
    [(2, 8), (8,)]
    """

    sets = ("algorithm",)

    def __init__(
        self,
        model: keras.Model,
        client: Any = None,
        *,
        personal: Personal,
        **arguments: Any,
    ):
        algorithm = PersonalLayers(personal)
        super().__init__(model, client, algorithm=algorithm, **arguments)
        self.personal = algorithm.personal


class FedBN(FedPer):
    """Each client's BatchNormalization layers are its own, statistics too.

    Li et al. 2021, "FedBN: federated learning on non-IID features via local
    batch normalization", arXiv:2102.07623. `LocalTraining(statistics=
    "local")` keeps the statistics only, and shares gamma and beta (SiloBN).

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`.
        **arguments: The others of `FederatedAveraging`.

    Raises:
        ValueError: If the model has no such layer.
    """

    sets = ("personal",)

    def __init__(
        self, model: keras.Model, client: Any = None, **arguments: Any
    ):
        super().__init__(
            model, client, personal="BatchNormalization", **arguments
        )


class LGFedAvg(FedPer):
    """Each client's representation is its own, and the head is shared.

    Liang et al. 2020, "Think locally, act globally: federated learning with
    local and global representations", arXiv:2001.01523, algorithm 1: `FedPer`
    with the first layers for the personal ones.

    Args:
        model: A compiled `keras.Model`.
        client: As for `FederatedAveraging`.
        personal: Which layers, usually the first ones; as for `FedPer`.
        **arguments: The others of `FederatedAveraging`.

    Raises:
        ValueError: If no variable would be personal, or no weight shared.

    Example:

    >>> layers = [keras.layers.Dense(8, name="eye"), keras.layers.Dense(1)]
    >>> model = keras.Sequential([keras.Input((2,)), *layers])
    >>> model.compile("sgd", "mse")
    >>> [s.shape for s in LGFedAvg(model, personal="eye").update_spec]
    [(8, 1), (1,)]
    """


class PersonalLayers(Algorithm):
    """What FedPer does besides Federated Averaging."""

    def __init__(self, personal: Personal):
        if isinstance(personal, type):
            personal = personal.__name__
        elif not callable(personal) and not isinstance(personal, str):
            personal = [
                w.__name__ if isinstance(w, type) else w for w in personal
            ]
        self.personal = personal

    def personal_variables(self, model):
        wanted: Any = self.personal
        if callable(wanted):
            found = {id(v) for v in model.variables if wanted(v.path)}
            missing = set() if found else {wanted}
        else:
            names = {wanted} if isinstance(wanted, str) else set(wanted)
            found, missing = set(), set(names)
            for layer in keras_internals.layers(model):
                called = {
                    layer.name,
                    *(c.__name__ for c in type(layer).__mro__),
                }
                if names & called and layer.variables:
                    found |= {id(v) for v in layer.variables}
                    missing -= called
        if missing or not found:  # a misspelt one beside others, too
            layers = [layer.name for layer in model.layers]
            raise ValueError(
                f"No variable of the model is personal by {self.personal!r}"
                f"{f', in it {sorted(map(str, missing))}' * bool(found)}. "
                f"Its layers are {layers}, and paths are like "
                f"{model.variables[0].path!r}."
            )
        return lambda variable: id(variable) in found
