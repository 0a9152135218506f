"""How the updates of many clients become one."""

from fedlearn.aggregators.aggregator import Aggregator
from fedlearn.aggregators.mean import Mean

__all__ = ["Aggregator", "Mean"]
