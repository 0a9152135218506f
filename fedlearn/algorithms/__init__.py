"""Federated algorithms by their papers' names, one a file."""

from typing import NoReturn

from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.algorithms.agnosticfedavg import AgnosticFedAvg
from fedlearn.algorithms.apfl import APFL
from fedlearn.algorithms.clustered import Clustered
from fedlearn.algorithms.ditto import Ditto
from fedlearn.algorithms.fedadagrad import FedAdagrad
from fedlearn.algorithms.fedadam import FedAdam
from fedlearn.algorithms.fedavgm import FedAvgM
from fedlearn.algorithms.fedbuff import FedBuff
from fedlearn.algorithms.feddyn import FedDyn
from fedlearn.algorithms.federated_averaging import FedAvg, FederatedAveraging
from fedlearn.algorithms.fedexp import FedExP
from fedlearn.algorithms.fednova import FedNova
from fedlearn.algorithms.fedprox import FedProx
from fedlearn.algorithms.fedrecon import FedRecon
from fedlearn.algorithms.fedrep import FedRep
from fedlearn.algorithms.fedyogi import FedYogi
from fedlearn.algorithms.mime import Mime
from fedlearn.algorithms.mimelite import MimeLite
from fedlearn.algorithms.personal_layers import FedBN, FedPer, LGFedAvg
from fedlearn.algorithms.qfedavg import QFedAvg
from fedlearn.algorithms.reptile import Reptile
from fedlearn.algorithms.scaffold import Scaffold
from fedlearn.clients.algorithm import Algorithm

__all__ = [
    "APFL",
    "AgnosticFedAvg",
    "Algorithm",
    "Clustered",
    "Ditto",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedBN",
    "FedBuff",
    "FedDyn",
    "FedExP",
    "FedNova",
    "FedPer",
    "FedProx",
    "FedRecon",
    "FedRep",
    "FedYogi",
    "FederatedAveraging",
    "LGFedAvg",
    "Mime",
    "MimeLite",
    "QFedAvg",
    "Reptile",
    "Scaffold",
]
__dir__ = __all__.copy  # `dir` shows what is public


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}."
        f"{did_you_mean(name, __all__)}"
    )
