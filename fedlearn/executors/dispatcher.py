import collections
import heapq
import itertools
import statistics
import time
from collections.abc import (
    Callable,
    Collection,
    Hashable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, NamedTuple, Protocol

from fedlearn import backend
from fedlearn.clients.cohort import Cohort
from fedlearn.executors.executor import Run, Seeds, Shard
from fedlearn.executors.total import cover, halves
from fedlearn.messages.broadcast import Received
from fedlearn.messages.update import Update


class Work(NamedTuple):
    """A group of shards to be run: a node of the tree of `Total`.

    Attributes:
        cohort: Its clients.
        seeds: Theirs.
        shards: By their numbers, with positions in `cohort`.
        num_shards: How many the whole cohort has.
    """

    cohort: Cohort
    seeds: Seeds
    shards: Mapping[int, Shard]
    num_shards: int

    def done(self, run: Run, broadcast: Received) -> Update:
        """The sum of all of them, of NumPy arrays."""
        total = run.total(self.num_shards)
        run.run_shards(broadcast, self.cohort, self.seeds, self.shards, total)
        ((whole, *_),) = total.nodes()
        return type(whole).of(
            backend.to_numpy(whole.sums),
            whole.bytes_up,
            backend.to_numpy(dict(whole.client_states)),
        )


class Event(NamedTuple):
    """What happened at a worker.

    Attributes:
        worker: Which.
        ticket: Of the group that it ran; None where the worker died.
        result: The group's sum.
        error: What was raised instead; if it died, what is known of that.
    """

    worker: Hashable
    ticket: int | None
    result: Any = None
    error: BaseException | str | None = None


class Crew(Protocol):
    """Workers, each of which runs one group at a time.

    Who dies is replaced by the crew, which raises if it can't.
    """

    def begin(self, broadcast: Received) -> None:
        """Makes known what clients of the groups that follow are sent."""

    def workers(self) -> Collection[Hashable]:
        """Those that live, busy or not. Others may have come since."""

    @property
    def num_workers(self) -> int:
        """How many there are, with those that are being started."""

    def send(self, worker: Hashable, ticket: int, work: Work) -> None:
        """Gives a worker a group, and doesn't wait for it.

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


_TICKETS = itertools.count()  # dispatchers may share a crew's workers


class _Sent(NamedTuple):
    ticket: int
    group: range
    cost: float
    work: Work
    since: float


class Dispatcher:
    """Has shards run by whoever is free, in groups that get smaller.

    * A group is a node of the tree by which `Total` adds. Who is free gets the
      one that is left with the largest cost, halved until that is at most half
      an equal share of all that is left: few large groups first, and single
      shards at the end (Hummel, Schonberg and Flynn 1992, "Factoring").
    * A group whose worker died goes to another one, in halves. If three have
      died of a shard, that is a RuntimeError with its clients.
    * Where nothing is left to give away, a group that is late is given to a
      second worker. Late is after three times as long as the median group,
      for its cost, and at least `patience` seconds. The first answer counts;
      both are the same. Who goes on for as long again without an answer is
      killed.
    * What a client's code raises is raised at once, with the group's clients.

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
        # Seconds for a cost of 1.
        self._rates: collections.deque[float] = collections.deque(maxlen=99)

    def run(
        self,
        costs: Mapping[int, float],
        num_shards: int,
        work: Callable[[range], Work],
    ) -> Iterator[tuple[Update, range]]:
        """The sums of groups, as they come.

        Args:
            costs: How long each shard takes, more or less, in any unit, by
                the shards' numbers, which are neighbours.
            num_shards: How many the whole cohort has.
            work: What the crew is given, of a group.

        Raises:
            RuntimeError: If three workers have died of a shard.
        """
        crew, first = self._crew, next(_TICKETS)
        waiting = _Waiting(costs)
        for group in cover(range(min(costs), max(costs) + 1), num_shards):
            waiting.put(group)
        left = set(costs)
        deaths: dict[int, list[str]] = collections.defaultdict(list)
        answers: list[tuple[Update, range]] = []
        while True:
            now = self._clock()
            # Others are what an earlier run left, or has been answered since.
            sent = {
                worker: s
                for worker, s in self._busy.items()
                if s.ticket >= first and s.group.start in left
            }
            self._end_the_useless(set(self._busy) - set(sent), now)
            late = self._late(sent.values(), now)
            for worker in crew.workers():
                if worker in self._busy:
                    continue
                ticket = next(_TICKETS)
                if waiting:
                    group = waiting.take(2 * crew.num_workers)
                    cost = waiting.cost(group)
                    now_sent = _Sent(ticket, group, cost, work(group), now)
                elif late:
                    now_sent = late.pop(0)._replace(ticket=ticket, since=now)
                else:
                    break
                self._busy[worker] = now_sent
                crew.send(worker, ticket, now_sent.work)
            # They are added up while workers are busy.
            yield from answers
            answers.clear()
            if not left:
                return
            for event in crew.wait(self._until_late(now)):
                was = self._busy.get(event.worker)
                if was is None or event.ticket not in (None, was.ticket):
                    continue  # it was given by another dispatcher
                del self._busy[event.worker]
                group = was.group
                # A copy may have been faster.
                if was.ticket < first or group.start not in left:
                    continue
                if event.ticket is None:
                    for number in group:
                        deaths[number].append(str(event.error))
                    self._check(was.work, deaths[group.start])
                    if all(
                        s.ticket < first or s.group != group
                        for s in self._busy.values()
                    ):
                        for part in halves(group):
                            waiting.put(part)
                elif isinstance(event.error, BaseException):
                    ids = _listed(was.work.cohort.ids)
                    event.error.add_note(f"It was raised for {ids}.")
                    raise event.error
                else:
                    left.difference_update(group)
                    seconds = self._clock() - was.since
                    self._rates.append(seconds / was.cost)
                    answers.append((event.result, group))

    def _limit(self, sent: _Sent) -> float:
        """Seconds after which a group is late."""
        if not self._rates:
            return float("inf")
        usual = sent.cost * statistics.median(self._rates)
        return max(self._patience, 3 * usual)

    def _until_late(self, now: float) -> float | None:
        """Seconds until something may have to be done without an event."""
        waits = [
            s.since + n * self._limit(s) - now
            for s in self._busy.values()
            for n in (1, 2)
        ]
        return min((w for w in waits if 0 < w < float("inf")), default=None)

    def _late(self, sent: Collection[_Sent], now: float) -> list[_Sent]:
        """What is late and runs only once, the oldest first."""
        count = collections.Counter(s.group for s in sent)
        late = [
            s
            for s in sent
            if count[s.group] == 1 and now - s.since >= self._limit(s)
        ]
        return sorted(late, key=lambda s: s.since)

    def _end_the_useless(self, workers: set[Hashable], now: float) -> None:
        """Kills those that nobody waits for any more, and that go on."""
        for worker in workers:
            sent = self._busy[worker]
            if now - sent.since >= 2 * self._limit(sent):
                del self._busy[worker]
                if worker in self._crew.workers():
                    self._crew.kill(worker)

    def _check(self, work: Work, deaths: list[str]) -> None:
        if len(deaths) < self.MOST_DEATHS:
            return
        raise RuntimeError(
            f"{len(deaths)} workers have died of the same clients, "
            f"{_listed(work.cohort.ids)}: {'; '.join(deaths)}. Expected them "
            "to be trained: perhaps they need more memory than there is. "
            "Train them alone, with executor='sequential', to see."
        )


class _Waiting:
    """Groups that nobody has yet, the one of largest cost first."""

    def __init__(self, costs: Mapping[int, float]):
        self._costs = costs
        self._heap: list[tuple[float, int, range]] = []

    def __bool__(self) -> bool:
        return bool(self._heap)

    def cost(self, group: range) -> float:
        return sum(self._costs[number] for number in group)

    def put(self, group: range) -> None:
        heapq.heappush(self._heap, (-self.cost(group), group.start, group))

    def take(self, num_shares: int) -> range:
        """One that is a share at most, if it is more than a shard."""
        share = sum(-cost for cost, *_ in self._heap) / num_shares
        while True:
            cost, _, group = heapq.heappop(self._heap)
            if -cost <= share or len(group) == 1:
                return group
            for half in halves(group):
                self.put(half)


def _listed(client_ids: Sequence[str]) -> str:
    shown = ", ".join(map(repr, client_ids[:10]))
    more = len(client_ids) - 10
    return f"the clients {shown}" + (f" and {more} more" if more > 0 else "")
