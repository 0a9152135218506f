"""What a client computes."""

from fedlearn import serialization
from fedlearn.clients.example_dp import ExampleDP
from fedlearn.clients.local_training import LocalTraining
from fedlearn.names import CLIENTS

get = serialization.getter(
    CLIENTS,
    LocalTraining,
    "client",
    'get("fedprox:0.01", epochs=5)',
    "LocalTraining(epochs=5, proximal=0.01)",
)

__all__ = ["ExampleDP", "LocalTraining", "get"]
__dir__ = __all__.copy  # `dir` shows what is public
