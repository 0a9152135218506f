import collections
import itertools
import statistics
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from fedlearn.clients.cohort import Cohort
from fedlearn.executors.executor import Seeds
from fedlearn.messages.broadcast import Received


class Work(NamedTuple):
    """A shard to be run: the arguments of `Run.run_shard`, but the first."""

    cohort: Cohort
    seeds: Seeds
    plan: str


class Event(NamedTuple):
    """What happened at a worker.

    Attributes:
        worker: Which.
        ticket: Of the shard that it ran; None where the worker died.
        result: The shard's partial sum.
        error: What was raised instead; if it died, what is known of that.
    """

    worker: Hashable
    ticket: int | None
    result: Any = None
    error: BaseException | str | None = None


class Crew(Protocol):
    """Workers, each of which runs one shard at a time.

    Who dies is replaced by the crew, which raises if it can't.
    """

    def begin(self, broadcast: Received) -> None:
        """Makes known what clients of the shards that follow are sent."""

    def workers(self) -> Collection[Hashable]:
        """Those that live, busy or not. Others may have come since."""

    def send(self, worker: Hashable, ticket: int, work: Work) -> None:
        """Gives a worker a shard, and doesn't wait for it.

        That the worker is dead is no error here, but an event.
        """

    def wait(self, timeout: float | None) -> Sequence[Event]:
        """What happened since; waits for something for so many seconds.

        It may return early, with nothing, where `workers` changed.
        """

    def kill(self, worker: Hashable) -> None:
        """Ends a worker that doesn't answer. Its death is no event."""

    def close(self) -> None:
        """Ends all workers; `begin` starts new ones."""


class Task(NamedTuple):
    """What a `Dispatcher` is to have done.

    Attributes:
        number: Of the shard.
        client_ids: Its clients.
        steps: How long it takes, more or less, in any unit.
        work: What the crew is given.
    """

    number: int
    client_ids: Sequence[str]
    steps: int
    work: Work


_TICKETS = itertools.count()  # dispatchers may share a crew's workers


class _Sent(NamedTuple):
    ticket: int
    task: Task
    since: float


class Dispatcher:
    """Has shards run by whoever is free, the longest first.

    * A shard whose worker died goes to another one. If three have died of it,
      that is a RuntimeError with its clients.
    * Where nothing is left to give away, a shard that is late is given to a
      second worker. Late is after three times as long as the median shard,
      and at least `patience` seconds. The first answer counts; both are the
      same. Who goes on for as long again without an answer is killed.
    * What a client's code raises is raised at once, with its clients.

    Args:
        crew: Who runs them.
        patience: In seconds.
        clock: Seconds that only grow.
    """

    MOST_DEATHS = 3

    def __init__(
        self,
        crew: Crew,
        patience: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._crew = crew
        self._patience = patience
        self._clock = clock
        self._busy: dict[Hashable, _Sent] = {}
        self._durations: collections.deque[float] = collections.deque(maxlen=99)

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """The shards' numbers and results, as they come.

        Raises:
            RuntimeError: If three workers have died of a shard.
        """
        crew, first = self._crew, next(_TICKETS)
        waiting = collections.deque(sorted(tasks, key=lambda t: -t.steps))
        left = {task.number for task in tasks}
        deaths: dict[int, list[str]] = collections.defaultdict(list)
        while left:
            now = self._clock()
            # Others are what an earlier run left, or has been answered since.
            sent = {
                worker: s
                for worker, s in self._busy.items()
                if s.ticket >= first and s.task.number in left
            }
            self._end_the_useless(set(self._busy) - set(sent), now)
            free = [w for w in crew.workers() if w not in self._busy]
            copies = self._late(sent.values(), now) if not waiting else []
            for worker, task in zip(free, [*waiting, *copies], strict=False):
                if waiting:
                    waiting.popleft()
                ticket = next(_TICKETS)
                self._busy[worker] = _Sent(ticket, task, now)
                crew.send(worker, ticket, task.work)
            for event in crew.wait(self._until_late(now)):
                was = self._busy.get(event.worker)
                if was is None or event.ticket not in (None, was.ticket):
                    continue  # it was given by another dispatcher
                del self._busy[event.worker]
                if was.ticket < first:
                    continue
                task = was.task
                if task.number not in left:  # a copy was faster
                    continue
                if event.ticket is None:
                    deaths[task.number].append(str(event.error))
                    self._check(task, deaths[task.number])
                    if not any(s.task is task for s in self._busy.values()):
                        waiting.appendleft(task)
                    continue
                if isinstance(event.error, BaseException):
                    ids = _listed(task.client_ids)
                    event.error.add_note(f"It was raised for {ids}.")
                    raise event.error
                left.discard(task.number)
                self._durations.append(self._clock() - was.since)
                yield task.number, event.result

    def _limit(self) -> float:
        """Seconds after which a shard is late."""
        if not self._durations:
            return float("inf")
        return max(self._patience, 3 * statistics.median(self._durations))

    def _until_late(self, now: float) -> float | None:
        """Seconds until something may have to be done without an event."""
        ages = [now - sent.since for sent in self._busy.values()]
        limit = self._limit()
        waits = [n * limit - age for age in ages for n in (1, 2)]
        return min((w for w in waits if 0 < w < float("inf")), default=None)

    def _late(self, sent: Collection[_Sent], now: float) -> list[Task]:
        """What is late and runs only once, the oldest first."""
        count = collections.Counter(s.task.number for s in sent)
        late = [
            s
            for s in sent
            if count[s.task.number] == 1 and now - s.since >= self._limit()
        ]
        return [s.task for s in sorted(late, key=lambda s: s.since)]

    def _end_the_useless(self, workers: set[Hashable], now: float) -> None:
        """Kills those that nobody waits for any more, and that go on."""
        for worker in workers:
            if now - self._busy[worker].since >= 2 * self._limit():
                del self._busy[worker]
                if worker in self._crew.workers():
                    self._crew.kill(worker)

    def _check(self, task: Task, deaths: list[str]) -> None:
        if len(deaths) < self.MOST_DEATHS:
            return
        raise RuntimeError(
            f"{len(deaths)} workers have died of the same clients, "
            f"{_listed(task.client_ids)}: {'; '.join(deaths)}. Expected them "
            "to be trained: perhaps they need more memory than there is. "
            "Train them alone, with executor='sequential', to see."
        )


def _listed(client_ids: Sequence[str]) -> str:
    shown = ", ".join(map(repr, client_ids[:10]))
    more = len(client_ids) - 10
    return f"the clients {shown}" + (f" and {more} more" if more > 0 else "")
