"""The algorithms of `fedlearn train`, and the optimizers they use."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from fedlearn.names import CLIENTS

if TYPE_CHECKING:
    import keras


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


# The adaptive optimizers' own defaults are those of Reddi et al. 2021, section
# 5 and appendix D. The learning rates are those, of 0.01 to 0.2, that learn
# the digits fastest: by the mean accuracy after rounds 5, 10, ..., 50.
ALGORITHMS = {
    "fedavg": Algorithm("FedAvg"),
    "fedprox": Algorithm(
        "FedProx", proximal=CLIENTS["fedprox"].options["proximal"]
    ),
    "fedavgm": Algorithm("FedAvgM", "sgd", 1.0, {"momentum": 0.9}),
    "fedadam": Algorithm("FedAdam", "fedadam", 0.05),
    "fedyogi": Algorithm("FedYogi", "fedyogi", 0.05),
    "fedadagrad": Algorithm("FedAdagrad", "fedadagrad", 0.03),
}


def optimizer(
    name: str, learning_rate: float | None, **options: Any
) -> "keras.optimizers.Optimizer":
    """An optimizer by its name.

    Args:
        name: One of `fedlearn.names.OPTIMIZERS`.
        learning_rate: None for the optimizer's own default.
        **options: Its other arguments.

    Example:

    >>> float(optimizer("adam", 0.01).learning_rate)  # doctest: +ELLIPSIS
    0.0...
    """
    from fedlearn import optimizers

    if learning_rate is not None:
        options["learning_rate"] = learning_rate
    return optimizers.get(name, **options)
