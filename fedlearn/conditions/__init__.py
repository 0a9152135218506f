"""What clients are like besides their data: how long they take."""

from fedlearn.conditions.durations import Durations, HalfNormal, LogNormal

__all__ = ["Durations", "HalfNormal", "LogNormal"]
__dir__ = __all__.copy  # `dir` shows what is public
