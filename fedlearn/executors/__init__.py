"""How the clients of a round are run, and their updates added up."""

from typing import Any

from fedlearn.executors.auto import Auto
from fedlearn.executors.executor import Executor
from fedlearn.executors.sequential import Sequential
from fedlearn.executors.vectorized import Vectorized

_BY_NAME: dict[str, type[Executor]] = {
    "auto": Auto,
    "sequential": Sequential,
    "vectorized": Vectorized,
}


def get(identifier: str | Executor) -> Executor:
    """An executor from its name, or the executor itself.

    Raises:
        ValueError: If there is none of that name.
        TypeError: If it is neither a name nor an executor.

    Example:

    >>> get("sequential")
    Sequential()
    """
    if isinstance(identifier, Executor):
        return identifier
    if isinstance(identifier, str):
        if identifier in _BY_NAME:
            return _BY_NAME[identifier]()
        raise ValueError(
            f"There is no executor {identifier!r}. "
            f"Names are {sorted(_BY_NAME)}."
        )
    raise TypeError(
        "`executor` must be a name or a fedlearn.executors.Executor. "
        f"Received: {_describe(identifier)}."
    )


def _describe(value: Any) -> str:
    hint = " (a class: make an instance of it)" if callable(value) else ""
    return f"{value!r}{hint}"


__all__ = ["Auto", "Executor", "Sequential", "Vectorized", "get"]
__dir__ = __all__.copy  # `dir` shows what is public
