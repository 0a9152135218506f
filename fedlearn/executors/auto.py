"""The choice of a plan."""

from collections.abc import Callable
from typing import Any

from fedlearn import backend
from fedlearn.executors.executor import Executor
from fedlearn.executors.sequential import Sequential
from fedlearn.executors.vectorized import Vectorized


class Auto(Executor):
    def bind(self, program: Any) -> Callable[[Any, Any, list[int]], Any]:
        return (Sequential if True else Vectorized)().bind(program)
