"""What a client computes."""

from fedlearn.clients.example_dp import ExampleDP
from fedlearn.clients.local_training import LocalTraining

__all__ = ["ExampleDP", "LocalTraining"]
__dir__ = __all__.copy  # `dir` shows what is public
