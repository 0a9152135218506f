"""The algorithms of `fedlearn train`, and the optimizers they use."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import keras

OPTIMIZERS = (
    "sgd",
    "adam",
    "adamw",
    "adagrad",
    "adadelta",
    "adamax",
    "nadam",
    "rmsprop",
    "lion",
    "yogi",
)


class Algorithm(NamedTuple):
    """How one of the algorithms differs from the others.

    Attributes:
        title: As papers write it.
        server: The server's optimizer.
        learning_rate: Its learning rate, where no flag says another.
        options: Its other arguments.
        proximal: FedProx's mu, where no flag says another; None for
            algorithms without.
    """

    title: str
    server: str = "sgd"
    learning_rate: float = 1.0
    options: Mapping[str, Any] = MappingProxyType({})
    proximal: float | None = None


# Adaptive optimizers have epsilon (the paper's tau) at 1e-3: Reddi et al.
# 2021, "Adaptive federated optimization", section 5 and appendix D. An update
# is much smaller than a gradient, and 1e-7 would let noise pick the step. The
# learning rates are those, of 0.01 to 0.1, that learn the digits fastest.
_ADAPTIVE = {"epsilon": 1e-3}

ALGORITHMS = {
    "fedavg": Algorithm("FedAvg"),
    "fedprox": Algorithm("FedProx", proximal=0.1),
    "fedavgm": Algorithm("FedAvgM", "sgd", 1.0, {"momentum": 0.9}),
    "fedadam": Algorithm(
        "FedAdam", "adam", 0.05, {"beta_2": 0.99, **_ADAPTIVE}
    ),
    "fedyogi": Algorithm("FedYogi", "yogi", 0.03, _ADAPTIVE),
    "fedadagrad": Algorithm(
        "FedAdagrad",
        "adagrad",
        0.1,
        # Keras begins at 0.1, which suits gradients; tau squared suits
        # updates.
        {"initial_accumulator_value": 1e-6, **_ADAPTIVE},
    ),
}


def optimizer(
    name: str, learning_rate: float | None, **options: Any
) -> "keras.optimizers.Optimizer":
    """An optimizer by its name.

    Args:
        name: One of `OPTIMIZERS`.
        learning_rate: None for the optimizer's own default.
        **options: Its other arguments.

    Example:

    >>> float(optimizer("adam", 0.01).learning_rate)  # doctest: +ELLIPSIS
    0.0...
    """
    import keras

    if learning_rate is not None:
        options["learning_rate"] = learning_rate
    if name == "yogi":
        from fedlearn.optimizers import Yogi

        return Yogi(**options)
    by_name = {
        "sgd": keras.optimizers.SGD,
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "adagrad": keras.optimizers.Adagrad,
        "adadelta": keras.optimizers.Adadelta,
        "adamax": keras.optimizers.Adamax,
        "nadam": keras.optimizers.Nadam,
        "rmsprop": keras.optimizers.RMSprop,
        "lion": keras.optimizers.Lion,
    }
    return by_name[name](**options)
