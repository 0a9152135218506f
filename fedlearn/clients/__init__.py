"""What a client computes."""

from fedlearn.clients.example_dp import ExampleDP
from fedlearn.clients.local_training import LocalTraining

__all__ = ["ExampleDP", "LocalTraining"]
