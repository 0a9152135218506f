"""A small typed language for what runs where: the federated core.

A computation is written in Python once, is then a typed program that is no
longer Python, and is called like a function:

>>> from fedlearn import core
>>> READINGS = core.FederatedType("float32", core.CLIENTS)
>>> @core.federated_computation(READINGS)
... def average_temperature(readings):
...     return core.federated_mean(readings)
>>> float(average_temperature([20.0, 21.0, 25.0]))
22.0

`docs/core.md` tells the whole of it.
"""

from fedlearn.core.computed_process import ComputedProcess, as_process
from fedlearn.core.executor import executor
from fedlearn.core.federated_computation import (
    FederatedComputation,
    compile,
    federated_computation,
    load,
)
from fedlearn.core.federated_type_error import FederatedTypeError
from fedlearn.core.local_computation import LocalComputation, local_computation
from fedlearn.core.map_sum import MapSum, NotOneRound
from fedlearn.core.operators import (
    federated_aggregate,
    federated_apply,
    federated_broadcast,
    federated_collect,
    federated_eval,
    federated_map,
    federated_max,
    federated_mean,
    federated_min,
    federated_secure_sum,
    federated_seeds,
    federated_select,
    federated_sum,
    federated_value,
    federated_zip,
)
from fedlearn.core.process_computations import (
    ProcessComputations,
    from_process,
)
from fedlearn.core.types import (
    CLIENTS,
    SERVER,
    FederatedType,
    FunctionType,
    SequenceType,
    StructType,
    TensorType,
    to_type,
)

__all__ = [
    "CLIENTS",
    "SERVER",
    "ComputedProcess",
    "FederatedComputation",
    "FederatedType",
    "FederatedTypeError",
    "FunctionType",
    "LocalComputation",
    "MapSum",
    "NotOneRound",
    "ProcessComputations",
    "SequenceType",
    "StructType",
    "TensorType",
    "as_process",
    "compile",
    "executor",
    "federated_aggregate",
    "federated_apply",
    "federated_broadcast",
    "federated_collect",
    "federated_computation",
    "federated_eval",
    "federated_map",
    "federated_max",
    "federated_mean",
    "federated_min",
    "federated_secure_sum",
    "federated_seeds",
    "federated_select",
    "federated_sum",
    "federated_value",
    "federated_zip",
    "from_process",
    "load",
    "local_computation",
    "to_type",
]
__dir__ = __all__.copy  # `dir` shows what is public
