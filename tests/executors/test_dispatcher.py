"""The dispatcher with workers that are threads, and may do anything."""

import itertools
import queue
import threading

import pytest

from fedlearn.executors.dispatcher import Dispatcher, Event, Task, _Sent

pytestmark = pytest.mark.backend_free


class Threads:
    """Workers that run `work(worker)`, a function, and answer what it gives."""

    def __init__(self, num_workers):
        self.names = itertools.count()
        self.alive = []
        self.events = queue.Queue()
        self.ran = []
        for _ in range(num_workers):
            self.hire()

    def hire(self):
        self.alive.append(next(self.names))

    def begin(self, broadcast): ...

    def close(self): ...

    def workers(self):
        return list(self.alive)

    def send(self, worker, ticket, work):
        def run():
            try:
                self.events.put(Event(worker, ticket, work(worker)))
            except Death:
                self.events.put(Event(worker, None, error="killed"))
            except Exception as error:
                self.events.put(Event(worker, ticket, error=error))

        self.ran.append((worker, work))
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


class Death(Exception):  # noqa: N818
    """Of a worker."""


def task(number, work, steps=1):
    return Task(number, [f"client {number}"], steps, work)


def test_the_longest_go_first_and_each_once():
    crew, order = Threads(1), []

    def work(number):
        return lambda worker: order.append(number) or -number

    steps = [3, 9, 1, 9, 5]
    tasks = [task(i, work(i), n) for i, n in enumerate(steps)]
    results = dict(Dispatcher(crew).run(tasks))
    assert results == {i: -i for i in range(5)}
    assert order == [1, 3, 4, 0, 2]


def test_whoever_is_free_gets_the_next():
    crew, slow = Threads(2), threading.Event()
    ends = itertools.count(1)

    def short(worker):
        if next(ends) == 4:
            slow.set()
        return worker

    tasks = [task(0, lambda worker: slow.wait(20) and worker, steps=100)]
    tasks += [task(i, short) for i in range(1, 5)]
    results = dict(Dispatcher(crew).run(tasks))
    assert results == {0: 0, 1: 1, 2: 1, 3: 1, 4: 1}


@pytest.mark.parametrize("num_workers", [1, 3])
def test_a_dead_workers_shard_goes_to_another(num_workers):
    crew, tries = Threads(num_workers), itertools.count()

    def killed_twice(worker):
        if next(tries) < 2:
            raise Death
        return "done"

    tasks = [task(i, lambda worker: "done") for i in range(5)]
    tasks.append(task(5, killed_twice))
    results = dict(Dispatcher(crew).run(tasks))
    assert results == dict.fromkeys(range(6), "done")
    killers = [worker for worker, work in crew.ran if work is killed_twice]
    assert len(set(killers)) == 3


def test_clients_of_which_three_workers_die():
    def deadly(worker):
        raise Death

    tasks = [task(0, deadly), task(1, lambda worker: "done")]
    with pytest.raises(RuntimeError, match=r"3 workers have died.*'client 0'"):
        dict(Dispatcher(Threads(2)).run(tasks))


def test_an_error_of_a_client_is_raised_at_once():
    crew, tries = Threads(2), []

    def broken(worker):
        tries.append(worker)
        raise ZeroDivisionError("by a client")

    tasks = [task(i, lambda worker: "done") for i in range(3)]
    tasks.append(task(3, broken, steps=9))
    with pytest.raises(ZeroDivisionError, match="by a client") as caught:
        dict(Dispatcher(crew).run(tasks))
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
    tasks = [task(0, hangs, 9), *(task(i, lambda w: w) for i in range(1, 4))]
    assert dict(dispatcher.run(tasks)) == dict.fromkeys(range(4), 1)
    assert copies == [0, 1]
    # Nobody waits for it any more: the next run ends it and hires another.
    again = [task(i, lambda w: stuck.wait(0.3) or w) for i in range(4)]
    assert set(dict(dispatcher.run(again)).values()) == {1, 2}
    assert crew.alive == [1, 2]
    stuck.set()


def test_what_an_earlier_run_left_is_no_answer_of_the_next():
    crew, stuck = Threads(3), threading.Event()

    def first(worker):
        if worker == 0:
            return stuck.wait(20) and "of the first run"
        raise ZeroDivisionError

    dispatcher = Dispatcher(crew)
    with pytest.raises(ZeroDivisionError):
        dict(dispatcher.run([task(i, first) for i in range(2)]))

    def second(worker):
        stuck.set()
        return "of the second"

    tasks = [task(i, second) for i in range(20)]
    assert set(dict(dispatcher.run(tasks)).values()) == {"of the second"}


def test_workers_that_come_later_take_part():
    crew, there = Threads(1), threading.Barrier(2, timeout=20)
    crew.events.put(Event("nobody", None))
    crew.kill = lambda worker: crew.hire()
    tasks = [task(i, lambda worker: there.wait() and 0) for i in range(2)]
    assert dict(Dispatcher(crew).run(tasks)).keys() == {0, 1}


def test_a_worker_that_another_dispatcher_saw_die():
    """What a run left it to do needn't be ended any more."""
    crew, now = Threads(1), [0.0]
    dispatcher = Dispatcher(crew, clock=lambda: now[0])
    task = Task(0, ["a"], 1, lambda worker: worker)
    assert [r for _, r in dispatcher.run([task])] == [0]
    dispatcher._busy[0] = _Sent(-1, task, now[0])
    crew.kill(0)
    now[0] = 1000.0
    assert [r for _, r in dispatcher.run([task])] == [1]
