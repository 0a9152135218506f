"""The dispatcher with workers that are threads, and may do anything."""

import itertools
import queue
import threading
import types

import pytest

from fedlearn.executors.dispatcher import Dispatcher, Event, _Sent

pytestmark = pytest.mark.backend_free


class Threads:
    """Workers that run shards, functions of a worker, and answer all results.

    A list of them, as a group's sum.
    """

    def __init__(self, num_workers):
        self.names = itertools.count()
        self.alive = []
        self.events = queue.Queue()
        self.ran = []
        for _ in range(num_workers):
            self.hire()

    def hire(self):
        self.alive.append(next(self.names))

    @property
    def num_workers(self):
        return len(self.alive)

    def workers(self):
        return list(self.alive)

    def send(self, worker, ticket, work):
        def run():
            try:
                result = [shard(worker) for shard in work.shards]
                self.events.put(Event(worker, ticket, result))
            except Death:
                self.events.put(Event(worker, None, error="killed"))
            except Exception as error:
                self.events.put(Event(worker, ticket, error=error))

        self.ran.append((worker, work.group))
        threading.Thread(target=run, daemon=True).start()

    def wait(self, timeout):
        try:
            # No test waits for ever.
            event = self.events.get(timeout=min(timeout or 20.0, 20.0))
        except queue.Empty:
            assert timeout is not None, "nothing happens any more"
            return []
        if event.ticket is None:
            self.kill(event.worker)
        return [event]

    def kill(self, worker):
        self.alive.remove(worker)
        self.hire()


def scripted(events):
    """Three workers to whom happens what is told, and what they were sent."""
    sent = []
    crew = types.SimpleNamespace(
        num_workers=1,
        workers=lambda: [0, 1, 2],
        send=lambda worker, ticket, work: sent.append((ticket, work.group)),
        wait=lambda timeout: next(events),
    )
    return crew, sent


class Death(Exception):  # noqa: N818
    """Of a worker."""


def run(dispatcher, shards, costs=None):
    """The result of each shard, each of which is answered once."""

    def work(group):
        ids = [f"client {number}" for number in group]
        return types.SimpleNamespace(
            group=group,
            shards=[shards[number] for number in group],
            cohort=types.SimpleNamespace(ids=ids),
        )

    costs = dict(enumerate(costs or [1] * len(shards)))
    found = [
        pair
        for results, group in dispatcher.run(costs, len(shards), work)
        for pair in zip(group, results, strict=True)
    ]
    assert len(dict(found)) == len(found)
    return [result for _, result in sorted(found)]


def test_groups_are_nodes_that_get_smaller_and_the_costly_go_first():
    crew = Threads(1)
    shards = [lambda worker, i=i: -i for i in range(7)]
    costs = [3, 9, 1, 9, 5, 4, 1]
    assert run(Dispatcher(crew), shards, costs) == [-i for i in range(7)]
    # Half of 32 that are left, of 20, of 10, and single shards.
    ran = [list(group) for _, group in crew.ran]
    assert ran == [[0, 1], [2, 3], [4], [5], [6]]


@pytest.mark.parametrize(("first", "end"), [(0, 64), (3, 50), (62, 63)])
def test_a_part_of_a_cohort(first, end):
    """As a tier is given it."""
    costs, sent = dict.fromkeys(range(first, end), 2.0), []

    def work(group):
        sent.append(group)
        return types.SimpleNamespace(group=group, shards=[], cohort=None)

    dispatcher = Dispatcher(Threads(1))
    assert [g for _, g in dispatcher.run(costs, 64, work)] == sent
    assert sorted(n for group in sent for n in group) == list(costs)
    left = end - first
    for group in sent:
        places = len(group)
        assert places & (places - 1) == group.start % places == 0
        assert places <= max(left / 2, 1)
        left -= places


def test_whoever_is_free_gets_the_next():
    crew, slow = Threads(2), threading.Event()
    ends = itertools.count(1)

    def short(worker):
        if next(ends) == 4:
            slow.set()
        return worker

    shards = [lambda worker: slow.wait(20) and worker, *[short] * 4]
    found = run(Dispatcher(crew), shards, [100, 1, 1, 1, 1])
    assert found == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("num_workers", [1, 3])
def test_a_dead_workers_shard_goes_to_another(num_workers):
    crew, tries = Threads(num_workers), itertools.count()

    def killed_twice(worker):
        if next(tries) < 2:
            raise Death
        return "done"

    shards = [lambda worker: "done"] * 7 + [killed_twice]
    assert run(Dispatcher(crew), shards) == ["done"] * 8
    killers = [worker for worker, group in crew.ran if 7 in group]
    assert len(set(killers)) == 3


@pytest.mark.parametrize("number", [0, 3])
def test_clients_of_which_three_workers_die(number):
    """Found among those of a group, which are tried in halves."""

    def deadly(worker):
        raise Death

    shards = [lambda worker: "done"] * 16
    shards[number] = deadly
    crew = Threads(2)
    with pytest.raises(RuntimeError, match=rf"clients 'client {number}': ki"):
        run(Dispatcher(crew), shards)
    assert [len(g) for _, g in crew.ran if number in g] == [4, 2, 1]


def test_an_error_of_a_client_is_raised_at_once():
    crew, tries = Threads(2), []

    def broken(worker):
        tries.append(worker)
        raise ZeroDivisionError("by a client")

    shards = [*[lambda worker: "done"] * 3, broken]
    with pytest.raises(ZeroDivisionError, match="by a client") as caught:
        run(Dispatcher(crew), shards, [1, 1, 1, 9])
    assert "'client 3'" in caught.value.__notes__[0]
    assert len(tries) == 1


def test_a_late_shard_is_given_to_a_second_worker_and_the_first_killed():
    crew, stuck, copies = Threads(2), threading.Event(), []

    def hangs(worker):
        copies.append(worker)
        if len(copies) == 1:
            stuck.wait(20)
        return worker

    dispatcher = Dispatcher(crew, patience=0.05)
    shards = [hangs, *[lambda worker: worker] * 3]
    assert run(dispatcher, shards, [9, 1, 1, 1]) == [1] * 4
    assert copies == [0, 1]
    # Nobody waits for it any more: the next run ends it and hires another.
    again = [lambda worker: stuck.wait(0.3) or worker] * 4
    assert set(run(dispatcher, again)) == {1, 2}
    assert crew.alive == [1, 2]
    stuck.set()


def test_of_two_who_run_a_group_one_may_die_and_one_answer_counts():
    now = [0.0]

    def happens():
        now[0] = 11.0
        yield [Event(1, sent[1][0], ["c"])]
        yield [Event(1, None, error="killed")]  # with the first one's copy
        yield [Event(w, sent[n][0], ["a", "b"]) for w, n in ((1, 4), (0, 0))]
        yield [Event(2, sent[2][0], ["d"])]

    crew, sent = scripted(happens())
    dispatcher = Dispatcher(crew, patience=10.0, clock=lambda: now[0])
    dispatcher._rates.extend([0.0] * 9)
    assert run(dispatcher, [None] * 4) == ["a", "b", "c", "d"]
    groups = [list(group) for _, group in sent]
    # Whose copy died is still at work: it isn't tried in halves.
    assert groups == [[0, 1], [2], [3], [0, 1], [0, 1], [3]]


def test_a_group_is_late_by_its_cost():
    """One that costs ten times as much may take ten times as long."""
    crew, slow = Threads(2), threading.Event()

    def short(worker):
        return slow.wait(0.05) or worker

    dispatcher = Dispatcher(crew, patience=0.0)
    run(dispatcher, [short] * 4)
    shards = [lambda worker: slow.wait(0.5) or worker, short]
    assert run(dispatcher, shards, [10, 1]) == [0, 1]
    assert len(crew.ran) == 6


def test_what_an_earlier_run_left_is_no_answer_of_the_next():
    def happens():
        yield [Event(1, sent[1][0], error=ZeroDivisionError())]
        yield [Event(0, sent[0][0], ["of the first run"])]
        yield [Event(w, sent[n][0], [n]) for w, n in ((1, 2), (2, 3))]

    crew, sent = scripted(happens())
    dispatcher = Dispatcher(crew)
    with pytest.raises(ZeroDivisionError):
        run(dispatcher, [None] * 2)
    assert run(dispatcher, [None] * 2) == [2, 3]


def test_a_death_beside_what_an_earlier_run_left():
    """Which had the same shards, and won't answer for the new ones."""
    crew, deaths = Threads(2), iter([True])

    def killed_once(worker):
        if next(deaths, False):
            raise Death
        return "done"

    dispatcher = Dispatcher(crew)
    dispatcher._busy[0] = _Sent(-1, range(1), 1, None, dispatcher._clock())
    assert run(dispatcher, [killed_once]) == ["done"]


def test_workers_that_come_later_take_part():
    crew, there = Threads(1), threading.Barrier(2, timeout=20)
    crew.events.put(Event("nobody", None))
    crew.kill = lambda worker: crew.hire()
    run(Dispatcher(crew), [lambda worker: there.wait()] * 2)


def test_a_worker_that_another_dispatcher_saw_die():
    """What a run left it to do needn't be ended any more."""
    crew, now = Threads(1), [0.0]
    dispatcher = Dispatcher(crew, clock=lambda: now[0])
    shards = [lambda worker: worker]
    assert run(dispatcher, shards) == [0]
    dispatcher._busy[0] = _Sent(-1, range(1), 1, None, now[0])
    crew.kill(0)
    now[0] = 1000.0
    assert run(dispatcher, shards) == [1]
