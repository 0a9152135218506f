import functools
from collections.abc import Sequence

import keras
from keras import ops

from fedlearn import serialization
from fedlearn.clients.cohort import Cohort
from fedlearn.clients.program import ClientProgram
from fedlearn.executors.dispatcher import Crew, Dispatcher, Task, Work
from fedlearn.executors.executor import Executor, Run, RunCohort, Seeds, Shard
from fedlearn.messages.broadcast import Received
from fedlearn.messages.update import Update
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

    def crew(self, program: ClientProgram) -> Crew:
        """The workers, which need not be started before a round begins."""
        raise NotImplementedError

    def bind(self, program: ClientProgram) -> RunCohort:
        run = self.executor.bind(program)
        if not isinstance(run, Run):
            raise ValueError(
                f"{type(self).__name__}(executor={self.executor!r}): this "
                "executor doesn't divide its work. Expected 'auto', "
                "'sequential' or 'vectorized'; where it has an `executor` of "
                "its own, put them the other way round."
            )
        return _Runner(run, self.crew(program))


class _Runner:
    def __init__(self, run: Run, crew: Crew):
        self._run = run
        self._crew = crew
        self._dispatcher = Dispatcher(crew)
        program = run.program
        self._steps = functools.cache(
            lambda size: len(program.batches(size, 0))
        )

    def __call__(
        self, broadcast: Received, cohort: Cohort, seeds: Seeds
    ) -> Update:
        shards = self._run.shards(cohort)
        total = self._run.total(len(shards))
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
        return total.result()

    def _tasks(
        self, shards: Sequence[Shard], cohort: Cohort, seeds: Seeds
    ) -> list[Task]:
        tasks = []
        for number, shard in enumerate(shards):
            part = cohort.part(shard.positions)
            steps = 0
            if cohort.knows_sizes:
                sizes = map(part.num_examples, range(len(part)))
                steps = sum(map(self._steps, sizes))
            own = [seeds[i] for i in shard.positions]
            work = Work(part, own, shard.plan)
            tasks.append(Task(number, part.ids, steps, work))
        return tasks
