"""Who takes part in a round."""

from fedlearn import serialization
from fedlearn.names import SAMPLERS
from fedlearn.samplers.min_separation import MinSeparation
from fedlearn.samplers.poisson import Poisson
from fedlearn.samplers.round_robin import RoundRobin
from fedlearn.samplers.sampler import Sampler
from fedlearn.samplers.uniform import Uniform

get = serialization.getter(
    SAMPLERS,
    Sampler,  # type: ignore[type-abstract]
    "sampler",
    'get("uniform:2", clients=["a", "b", "c"])',
    "<Uniform of 3 clients: clients_per_round=2, seed=0>",
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
