"""How the clients of a round are run, and their updates added up."""

from fedlearn import serialization
from fedlearn.executors.auto import Auto
from fedlearn.executors.devices import Devices
from fedlearn.executors.executor import Executor
from fedlearn.executors.processes import Processes
from fedlearn.executors.ray import Ray
from fedlearn.executors.sequential import Sequential
from fedlearn.executors.tiers import Tiers
from fedlearn.executors.vectorized import Vectorized
from fedlearn.names import EXECUTORS

get = serialization.getter(
    EXECUTORS,
    Executor,
    "executor",
    'get("sequential")',
    "Sequential()",
)

__all__ = [
    "Auto",
    "Devices",
    "Executor",
    "Processes",
    "Ray",
    "Sequential",
    "Tiers",
    "Vectorized",
    "get",
]
__dir__ = __all__.copy  # `dir` shows what is public
