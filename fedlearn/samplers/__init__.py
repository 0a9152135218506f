"""Who takes part in a round."""

from typing import Any

from fedlearn import serialization
from fedlearn.names import SAMPLERS
from fedlearn.samplers.min_separation import MinSeparation
from fedlearn.samplers.poisson import Poisson
from fedlearn.samplers.round_robin import RoundRobin
from fedlearn.samplers.sampler import Sampler
from fedlearn.samplers.uniform import Uniform


def get(identifier: str | Sampler, **arguments: Any) -> Sampler:
    """A sampler from the string that stands for it, or itself.

    Args:
        identifier: A name, in lower case, and after a colon its numbers:
            `"poisson:10"`, `"min_separation:10,5"`.
        **arguments: More for the constructor: with a string, `clients`.

    Raises:
        ValueError: If there is none of that name, or its numbers are wrong.
        TypeError: If it is neither a string nor a sampler.

    Example:

    >>> get("uniform:2", clients=["a", "b", "c"])
    <Uniform of 3 clients: clients_per_round=2, seed=0>
    """
    return serialization.get(
        identifier, SAMPLERS, Sampler, "sampler", **arguments
    )


__all__ = [
    "MinSeparation",
    "Poisson",
    "RoundRobin",
    "Sampler",
    "Uniform",
    "get",
]
__dir__ = __all__.copy  # `dir` shows what is public
