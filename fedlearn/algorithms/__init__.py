"""Federated algorithms by their papers' names, one a file."""

from fedlearn.algorithms.fedadagrad import FedAdagrad
from fedlearn.algorithms.fedadam import FedAdam
from fedlearn.algorithms.fedavgm import FedAvgM
from fedlearn.algorithms.federated_averaging import FedAvg, FederatedAveraging
from fedlearn.algorithms.fedprox import FedProx
from fedlearn.algorithms.fedyogi import FedYogi

__all__ = [
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedProx",
    "FedYogi",
    "FederatedAveraging",
]
__dir__ = __all__.copy  # `dir` shows what is public
