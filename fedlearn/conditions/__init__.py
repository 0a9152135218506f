"""What clients are like besides their data, on a clock that is simulated."""

from fedlearn import serialization
from fedlearn.conditions.attendance import Attendance
from fedlearn.conditions.availability import Availability
from fedlearn.conditions.conditions import Conditions
from fedlearn.conditions.diurnal import Diurnal
from fedlearn.conditions.durations import Durations, HalfNormal, LogNormal
from fedlearn.conditions.network import Network
from fedlearn.conditions.phones import Phones
from fedlearn.conditions.simulate import Simulated, simulate
from fedlearn.conditions.trace import Trace
from fedlearn.names import CONDITIONS

get = serialization.getter(
    CONDITIONS,
    Conditions,
    "conditions",
    'get("phones")',
    "Phones()",
)

__all__ = [
    "Attendance",
    "Availability",
    "Conditions",
    "Diurnal",
    "Durations",
    "HalfNormal",
    "LogNormal",
    "Network",
    "Phones",
    "Simulated",
    "Trace",
    "get",
    "simulate",
]
__dir__ = __all__.copy  # `dir` shows what is public
