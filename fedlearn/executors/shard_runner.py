from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

from fedlearn.clients.program import ClientProgram
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.executors.dispatcher import Work
from fedlearn.executors.executor import Executor, Portable, Run, Seeds, Shard
from fedlearn.messages.update import Update
from fedlearn.runs import run_identity


class Program:
    """A program and its executor, as they go to a worker.

    With what decides its numbers: what Keras can't make again as it was is an
    error, and no other result.
    """

    def __init__(self, program: ClientProgram, executor: Executor):
        self.program = program
        self.executor = executor
        self.description: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        description = run_identity.of_program(self.program)
        return {**vars(self), "description": description}

    def bind(self) -> Run:
        """Its run: of a program that was made again, or in the driver."""
        differences = self.description and run_identity.differences(
            self.description, run_identity.of_program(self.program)
        )
        if differences:
            raise ValueError(
                "A worker can't make the process again as it is: "
                f"{'; '.join(differences)}. Train in one process "
                "(executor='auto'), or write a `get_config` that tells it."
            )
        run: Any = self.executor.bind(self.program)
        return run


class Placed(NamedTuple):
    """Work of another kind, and where a worker is to have it run."""

    work: Portable
    executor: Executor

    def bind(self) -> Run:
        return self.executor.place(self.work)


class Job(NamedTuple):
    """A group of shards, as it goes to a worker.

    Attributes:
        program: This and the next ones are numbers of what the worker keeps:
            a `Program`.
        broadcast: What clients were sent, of NumPy arrays.
        source: Of the clients' data; None if they came one by one.
        clients: `Cohort.sent`.
        seeds: This and the next ones are as in `Work`.
    """

    program: int
    broadcast: int
    source: int | None
    clients: Any
    seeds: Seeds
    shards: Mapping[int, Shard]
    num_shards: int


def job(program: int, broadcast: int, source: int | None, work: Work) -> Job:
    """The job that has some work done."""
    return Job(program, broadcast, source, work.cohort.sent(), *work[1:])


class ShardRunner:
    """What workers do: they keep things by numbers, and run shards.

    What is kept may be an exception, which is then raised where it is needed.
    """

    def __init__(self) -> None:
        self._kept: dict[int, Any] = {}

    def keep(self, number: int, thing: Any) -> None:
        """Keeps a `Program`, a broadcast or a source of data."""
        self._kept[number] = thing

    def forget(self, number: int) -> None:
        """Keeps it no more."""
        self._kept.pop(number, None)

    def run(self, job: Job) -> Update:
        """The sum of a group of shards, of NumPy arrays."""
        run: Run = self._get(job.program, lambda work: work.bind())
        received = self._get(
            job.broadcast,
            lambda sent: keras.tree.map_structure(ops.convert_to_tensor, sent),
        )
        data = None
        if job.source is not None:
            data = self._get(job.source, FederatedDataset)
        cohort = run.received(job.clients, data)
        work = Work(cohort, job.seeds, job.shards, job.num_shards)
        return work.done(run, received)

    def _get(self, number: int | None, prepare: Any) -> Any:
        """What is kept, prepared when it is first needed."""
        assert number is not None
        thing = self._kept[number]
        if isinstance(thing, Exception):
            raise ValueError(
                "A worker can't make the process, or the data, again: "
                f"{str(thing)[:2000]}"
            ) from thing
        if not isinstance(thing, _Ready):
            self._kept[number] = thing = _Ready(prepare(thing))
        return thing.thing


class _Ready(NamedTuple):
    thing: Any
