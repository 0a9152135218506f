import functools
import threading
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from fedlearn import serialization
from fedlearn.clients.cohort import Cohort
from fedlearn.clients.program import ClientProgram
from fedlearn.executors.dispatcher import Crew, Dispatcher, Task, Work
from fedlearn.executors.executor import Executor, Run, RunCohort, Seeds, Shard
from fedlearn.executors.total import Total
from fedlearn.messages.broadcast import Received
from fedlearn.names import EXECUTORS


class Distributed(Executor):
    """Has the shards of another executor run by workers.

    The result is that of the other executor in one process that computes with
    as many threads as a worker, bit for bit: whoever the workers are, how many
    of them, and whichever of them die.

    Args:
        executor: The other, which runs in each worker.
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

    def crew(self, program: ClientProgram) -> Crew:
        """The workers, which need not be started before a round begins."""
        raise NotImplementedError

    def bind(self, program: ClientProgram) -> RunCohort:
        run = self.executor.bind(program)
        if isinstance(run, _Runner) or not isinstance(run, Run):
            raise ValueError(
                f"{type(self).__name__}(executor={self.executor!r}): this "
                "executor doesn't divide its work. Expected 'auto', "
                "'sequential' or 'vectorized'; where it has an `executor` of "
                "its own, put them the other way round."
            )
        return _Runner(run, self.crew(program), self._turn)


class _Runner(Run):
    def __init__(self, run: Run, crew: Crew, turn: threading.Lock):
        super().__init__(run.program)
        self._run = run
        self._crew = crew
        self._turn = turn
        self._dispatcher = Dispatcher(crew)
        self._steps = functools.cache(
            lambda size: len(run.program.batches(size, 0))
        )

    def shards(self, cohort: Cohort) -> list[Shard]:
        return self._run.shards(cohort)

    def run_shards(
        self,
        broadcast: Received,
        cohort: Cohort,
        seeds: Seeds,
        shards: Mapping[int, Shard],
        total: Total,
    ) -> None:
        if self.program.model.no_examples is None:
            cohort.read(0)  # then metrics are there, too
        with self._turn:
            try:
                self._crew.begin(broadcast)
                for number, partial in self._dispatcher.run(
                    self._tasks(shards, cohort, seeds)
                ):
                    sums = keras.tree.map_structure(
                        ops.convert_to_tensor, partial.sums
                    )
                    total.add(type(partial).of(sums, *partial[5:]), number)
            except BaseException:  # Ctrl-C, too
                self._crew.close()
                self._dispatcher = Dispatcher(self._crew)
                raise

    def _tasks(
        self, shards: Mapping[int, Shard], cohort: Cohort, seeds: Seeds
    ) -> list[Task]:
        tasks = []
        for number, shard in shards.items():
            part = cohort.part(shard.positions)
            steps = 0
            if cohort.knows_sizes:
                sizes = map(part.num_examples, range(len(part)))
                steps = sum(map(self._steps, sizes))
            own = [seeds[i] for i in shard.positions]
            work = Work(part, own, shard.plan)
            tasks.append(Task(number, part.ids, steps, work))
        return tasks
