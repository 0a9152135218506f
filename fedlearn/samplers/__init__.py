"""Who takes part in a round."""

from fedlearn.samplers.min_separation import MinSeparation
from fedlearn.samplers.poisson import Poisson
from fedlearn.samplers.round_robin import RoundRobin
from fedlearn.samplers.sampler import Sampler
from fedlearn.samplers.uniform import Uniform

__all__ = ["MinSeparation", "Poisson", "RoundRobin", "Sampler", "Uniform"]
__dir__ = __all__.copy  # `dir` shows what is public
