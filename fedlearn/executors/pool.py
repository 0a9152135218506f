import itertools
import os
import weakref
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

from fedlearn import backend, checks
from fedlearn.executors.dispatcher import Event, Work
from fedlearn.executors.distributed import Distributed
from fedlearn.executors.executor import Executor, Portable
from fedlearn.executors.parcel import pickled
from fedlearn.executors.shard_runner import Job, Program, job
from fedlearn.messages.broadcast import Received

# So many workers that end before they have begun are no accident.
_MOST_FAILED_STARTS = 4


class Pooled(Distributed):
    """Runs clients in processes that stay from round to round."""

    _pool: "Pool"

    def __init__(
        self,
        num_workers: int | None,
        threads_per_worker: int,
        executor: str | Executor,
    ):
        super().__init__(executor)
        if num_workers is not None:
            num_workers = checks.whole("num_workers", num_workers)
        self.num_workers = num_workers
        self.threads_per_worker = checks.whole(
            "threads_per_worker", threads_per_worker
        )

    @property
    def threads(self) -> int | None:
        inner = self.executor  # whose workers are those that compute
        if isinstance(inner, Distributed):
            return inner.threads
        return self.threads_per_worker

    def crew(self, work: Portable) -> "Crew":
        return Crew(self._pool, work)

    def close(self) -> None:
        """Ends the workers; another round starts new ones."""
        self._pool.close()


class Worker:
    """A process that runs shards, as its driver sees it."""

    def __init__(self) -> None:
        self.driver = os.getpid()
        self.is_ready = False  # once it has begun
        self.has: set[int] = set()

    def run(
        self,
        ticket: int,
        job: Job,
        new: Mapping[int, Any],
        gone: Collection[int],
    ) -> None:
        """Gives it a shard, without waiting.

        Args:
            ticket: Of its answer.
            job: The shard.
            new: What it hasn't yet been given, by numbers.
            gone: Numbers of what it needn't keep any more.
        """
        raise NotImplementedError

    def end(self) -> str:
        """Ends it, if it still lives; how it ended."""
        raise NotImplementedError


class Pool:
    """Workers that are started when they are needed, and replaced.

    Things are kept for them by number; each worker is given them with its
    first shard that needs them.
    """

    def __init__(self) -> None:
        self.workers: list[Any] = []
        self.kept: dict[int, Any] = {}
        self._numbers = itertools.count()
        self._sources: weakref.WeakKeyDictionary[Any, int] = (
            weakref.WeakKeyDictionary()
        )
        self._failed_starts = 0
        # Also when Python ends.
        weakref.finalize(self, _end_all, self.workers)
        weakref.finalize(self, self.kept.clear).atexit = False

    # What the two kinds do in their ways.

    def wanted(self) -> int:
        """How many workers there should be now."""
        raise NotImplementedError

    def hire(self) -> Worker:
        """Starts one."""
        raise NotImplementedError

    def pack(self, thing: Any) -> Any:
        """What is kept of a thing, to be given to many workers."""
        raise NotImplementedError

    def pack_source(self, source: Any) -> Any:
        """The same of a data set's source."""
        return self.pack(source)

    def wait(self, timeout: float | None) -> Sequence[Event]:
        """As of `Crew`."""
        raise NotImplementedError

    # Workers.

    def start(self) -> None:
        # A fork of the driver has copies of what is not its own.
        self.workers[:] = _own(self.workers)
        wanted = self.wanted()
        while len(self.workers) < wanted:
            self.workers.append(self.hire())

    def begun(self, worker: Worker) -> None:
        worker.is_ready = True
        self._failed_starts = 0

    def died(self, worker: Worker, how: str) -> Event:
        """Replaces a worker that has ended by itself."""
        self._failed_starts += not worker.is_ready
        if self._failed_starts >= _MOST_FAILED_STARTS:
            raise RuntimeError(
                f"{self._failed_starts} workers have ended before they had "
                f"begun; of the last: {how}. What they wrote before, if "
                "anything, is why. Train in one process instead, with "
                "executor='auto'."
            )
        self.replace(worker)
        return Event(worker, None, error=how)

    def replace(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.end()
        self.start()

    def end_workers(self) -> None:
        self._failed_starts = 0
        _end_all(self.workers)

    def close(self) -> None:
        self.end_workers()
        self.kept.clear()

    # What they are given.

    def keep(self, packed: Any) -> int:
        number = next(self._numbers)
        self.kept[number] = packed
        return number

    def forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.kept.pop(number, None)

    def number_of(self, source: Any) -> int:
        """The number of a data set's source, which is kept as long as it is."""
        number = self._sources.get(source, -1)
        if number not in self.kept:
            number = self._sources[source] = self.keep(self.pack_source(source))
            # Who has the data isn't to have the workers, too.
            finalizer = weakref.finalize(source, self.kept.pop, number, None)
            finalizer.atexit = False
        return number

    def run(
        self, worker: Worker, ticket: int, needed: Sequence[int], job: Job
    ) -> None:
        gone = worker.has - self.kept.keys()
        new = {n: self.kept[n] for n in needed if n not in worker.has}
        worker.has = (worker.has - gone) | new.keys()
        worker.run(ticket, job, new, gone)


class Crew:
    """The workers of a pool, for one program."""

    def __init__(self, pool: Pool, work: Portable):
        self._pool = pool
        self._program = work
        self._numbers: list[int] = []  # of the program and the broadcast
        weakref.finalize(self, pool.forget, self._numbers).atexit = False

    def begin(self, broadcast: Received) -> None:
        pool, numbers = self._pool, self._numbers
        pool.start()
        pool.forget(numbers[1:])  # before there is another: one is kept
        if not (numbers and numbers[0] in pool.kept):
            numbers[:] = [pool.keep(self._packed())]
        numbers[1:] = [pool.keep(pool.pack(backend.to_numpy(broadcast)))]

    def workers(self) -> Collection[Hashable]:
        return [w for w in self._pool.workers if w.is_ready]

    @property
    def num_workers(self) -> int:
        return len(self._pool.workers)

    def send(self, worker: Any, ticket: int, work: Work) -> None:
        source = work.cohort.source
        number = None if source is None else self._pool.number_of(source)
        needed = [*self._numbers, *([] if number is None else [number])]
        program, broadcast = self._numbers
        self._pool.run(
            worker, ticket, needed, job(program, broadcast, number, work)
        )

    def wait(self, timeout: float | None) -> Sequence[Event]:
        return self._pool.wait(timeout)

    def kill(self, worker: Any) -> None:
        self._pool.replace(worker)

    def close(self) -> None:
        self._pool.end_workers()

    def _packed(self) -> Any:
        try:
            return self._pool.pack(self._program)
        except Exception as error:
            if not isinstance(self._program, Program):
                raise
            program = self._program.program
            for name, part in {
                "the model": program.model.model,
                "`client`": program.trainer.config,
                "`aggregator`": program.aggregator,
                "the algorithm": program.trainer.algorithm,
            }.items():
                try:
                    pickled(part)
                except Exception as fault:
                    raise TypeError(
                        f"Workers are sent {name}, and it can't be pickled: "
                        f"{fault}. Train in one process (executor='auto'), or "
                        "leave out what isn't plain data and functions, such "
                        "as open files and locks."
                    ) from error
            raise


def _own(workers: Sequence[Worker]) -> list[Worker]:
    return [worker for worker in workers if worker.driver == os.getpid()]


def _end_all(workers: list[Worker]) -> None:
    for worker in _own(workers):
        worker.end()
    workers.clear()
