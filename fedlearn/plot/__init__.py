"""Pictures of a run, for notebooks and reports, by matplotlib.

Each function draws on the axes it is given, or on new ones, and returns them.
"""

from fedlearn.plot.by_round import compare, history
from fedlearn.plot.comparison import comparison
from fedlearn.plot.conditions import conditions
from fedlearn.plot.labels import labels
from fedlearn.plot.per_client import per_client
from fedlearn.plot.search import search

__all__ = [
    "compare",
    "comparison",
    "conditions",
    "history",
    "labels",
    "per_client",
    "search",
]
__dir__ = __all__.copy  # `dir` shows what is public
