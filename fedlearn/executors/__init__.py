"""How the clients of a round are run, and their updates added up."""

from fedlearn import serialization
from fedlearn.executors.auto import Auto
from fedlearn.executors.executor import Executor
from fedlearn.executors.sequential import Sequential
from fedlearn.executors.vectorized import Vectorized
from fedlearn.names import EXECUTORS


def get(identifier: str | Executor) -> Executor:
    """An executor from its name, or the executor itself.

    Raises:
        ValueError: If there is none of that name.
        TypeError: If it is neither a name nor an executor.

    Example:

    >>> get("sequential")
    Sequential()
    """
    return serialization.get(identifier, EXECUTORS, Executor, "executor")


__all__ = ["Auto", "Executor", "Sequential", "Vectorized", "get"]
__dir__ = __all__.copy  # `dir` shows what is public
