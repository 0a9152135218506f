"""Where computations run: on the executors of the library."""

import contextlib
import contextvars
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedlearn import executors
from fedlearn.core.arguments import Clients
from fedlearn.core.map_sum import MapSum, stages
from fedlearn.core.program_bytes import unpack
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.executors.executor import Executor, Run, Shard
from fedlearn.messages.update import Update

NUM_BLOCKS = 32  # whoever and however many run them
chosen: contextvars.ContextVar[Executor | None] = contextvars.ContextVar(
    "executor", default=None
)


_named = functools.cache(executors.get)  # one for all that say "processes"


@contextlib.contextmanager
def executor(executor: str | Executor) -> Iterator[None]:
    """Has the computations that are called in a `with` block run elsewhere.

    Clients are divided by what they are alone, and added up in a fixed order:
    a computation gives the same bits on all executors that compute with as
    many threads, whatever happens to their workers. These are sent it as
    bytes, and need neither its source nor a Keras model.

    Args:
        executor: As of a process, such as `"processes"`, `"ray"` or
            `fl.executors.Tiers([...])`; `"sequential"` is this process. What
            it does with a model's clients (`executor=` in it) plays no part:
            those of one length always run side by side.

    >>> from fedlearn import core
    >>> @core.federated_computation("{float32}@CLIENTS")
    ... def total(readings):
    ...     return core.federated_sum(readings)
    >>> with core.executor("sequential"):
    ...     float(total([1.0, 2.0, 3.0]))
    6.0
    """
    named = isinstance(executor, str)
    token = chosen.set((_named if named else executors.get)(executor))
    try:
        yield
    finally:
        chosen.reset(token)


class Stage:
    """One time that clients are asked, as it is sent to workers."""

    def __init__(self, data: bytes, number: int, stage: MapSum | None = None):
        self._sent = data, number
        self._stage = stage or stages(unpack(data))[number]

    def __reduce__(self) -> Any:
        return Stage, self._sent

    def bind(self) -> Run:
        return _Run(self._stage)


class _Run(Run):
    def __init__(self, stage: MapSum):
        self._stage = stage
        self._add = lambda a, b: (stage.merge(a[0], b[0]), *a[1:])

    def shards(self, cohort: Any) -> list[Shard]:
        return [Shard([i]) for i in range(len(cohort.blocks))]

    def cost(self, cohort: Any, shard: Shard) -> int:
        return sum(len(cohort.blocks[i].index) for i in shard.positions)

    def received(self, sent: Any, data: FederatedDataset | None) -> Any:
        return Clients(sent, data)

    def run_shard(
        self, broadcast: Any, cohort: Any, seeds: Sequence[int], plan: str = ""
    ) -> Update:
        (block,) = cohort.read()
        total = self._stage.client(broadcast, *block)
        return Update(total, [], *np.zeros(3, np.int32))
