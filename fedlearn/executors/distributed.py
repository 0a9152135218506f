import functools
import threading
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import serialization
from fedlearn.clients.cohort import Cohort
from fedlearn.clients.program import ClientProgram
from fedlearn.executors.dispatcher import Crew, Dispatcher, Work
from fedlearn.executors.executor import (
    Executor,
    Portable,
    Run,
    RunCohort,
    RunOfRun,
    Seeds,
    Shard,
)
from fedlearn.executors.shard_runner import Placed, Program
from fedlearn.executors.total import Total
from fedlearn.messages.broadcast import Received
from fedlearn.names import EXECUTORS


class Distributed(Executor):
    """Has the shards of another executor run by workers.

    A worker adds up those that it is given at a time. The result is that of
    the other executor in one process that computes with as many threads as a
    worker, bit for bit: whoever the workers are, how many of them, and
    whichever of them die.

    Args:
        executor: The other, which runs in each worker. It may have workers of
            its own, who add up before that one does.
    """

    def __init__(self, executor: str | Executor = "auto"):
        self.executor: Executor = serialization.get(
            executor, EXECUTORS, Executor, "executor"
        )
        # Threads that share workers would take each other's answers.
        self._turn = threading.Lock()

    def __reduce__(self) -> Any:
        # Its workers stay this one's.
        return functools.partial(type(self), **self.get_config()), ()

    @property
    def in_one_process(self) -> Executor:
        return self.executor.in_one_process

    def plan(self, program: ClientProgram) -> str:
        return self.executor.plan(program)

    def crew(self, work: Portable) -> Crew:
        """The workers, which need not be started before a round begins."""
        raise NotImplementedError

    def bind(self, program: ClientProgram) -> RunCohort:
        return self._distributed(Program(program, self.executor))

    def place(self, work: Portable) -> Run:
        return self._distributed(Placed(work, self.executor))

    def _distributed(self, work: Portable) -> Run:
        run: Any = work.bind()
        if not isinstance(run, Run):
            raise ValueError(
                f"{type(self).__name__}(executor={self.executor!r}): this "
                "executor doesn't divide its work. Expected one that does, "
                "such as 'auto'; where it has an `executor` of its own, put "
                "them the other way round."
            )
        return _Runner(run, self.crew(work), self._turn)


class _Runner(RunOfRun):
    def __init__(self, run: Run, crew: Crew, turn: threading.Lock):
        super().__init__(run)
        self._crew = crew
        self._turn = turn
        self._dispatcher = Dispatcher(crew)

    def run_shards(
        self,
        broadcast: Received,
        cohort: Cohort,
        seeds: Seeds,
        shards: Mapping[int, Shard],
        total: Total,
    ) -> None:
        cohort.prepare()

        def work(group: range) -> Work:
            chosen: list[int] = []
            parts = {}
            for number in group:
                start = len(chosen)
                chosen += shards[number].positions
                parts[number] = shards[number]._replace(
                    positions=range(start, len(chosen))
                )
            part = cohort.part(chosen), [seeds[i] for i in chosen]
            return Work(*part, parts, total.num_shards)

        costs = {n: self.cost(cohort, shard) for n, shard in shards.items()}
        with self._turn:
            try:
                self._crew.begin(broadcast)
                for update, group in self._dispatcher.run(
                    costs, total.num_shards, work
                ):
                    sums = keras.tree.map_structure(
                        ops.convert_to_tensor, update.sums
                    )
                    # What stays after the round is to hold none of the
                    # memory, and of the files, that the answer came in.
                    states = keras.tree.map_structure(
                        np.array, dict(update.client_states)
                    )
                    update = type(update).of(sums, update.bytes_up, states)
                    total.add(update, group.start, group[-1])
            except BaseException:  # Ctrl-C, too
                self._crew.close()
                self._dispatcher = Dispatcher(self._crew)
                raise
