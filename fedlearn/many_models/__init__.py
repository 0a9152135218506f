"""Many models at once: which is best, and which can't be told apart."""

from fedlearn.many_models.comparison import Comparison, Difference
from fedlearn.many_models.evaluate_many import evaluate_many
from fedlearn.many_models.search import Rung, Search, search

__all__ = [
    "Comparison",
    "Difference",
    "Rung",
    "Search",
    "evaluate_many",
    "search",
]
__dir__ = __all__.copy  # `dir` shows what is public
