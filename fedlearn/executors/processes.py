import contextlib
import multiprocessing.connection
import multiprocessing.spawn
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping
from typing import Any

from fedlearn.executors.dispatcher import Event
from fedlearn.executors.executor import Executor
from fedlearn.executors.parcel import Parcel, receive
from fedlearn.executors.pool import Pool, Pooled, Worker
from fedlearn.executors.shard_runner import Job
from fedlearn.executors.worker import environment, settings

# Seconds without an answer after which workers are looked at.
_SILENCE = 10.0


class Processes(Pooled):
    """Runs the clients of a round in several processes of this machine.

    It pays where one process doesn't keep the machine's cores busy: on
    TensorFlow, for small models and many clients. Starting the processes takes
    some seconds, when the first round begins; they stay until `close`, until
    no process uses this object any more, or until Python ends. Several
    processes may share one `Processes`.

    The result is that of one process with as many threads, bit for bit: the
    number of workers doesn't change it, nor a worker that dies, whose clients
    another one runs. (On TensorFlow the number of threads changes the last
    bits of convolutions.)

    Data sets that are in files are read by the workers. Those in memory are
    copied once, to memory that all workers share. The model, and losses,
    metrics and functions of your own, go to the workers by Keras's saving and
    by `cloudpickle`; scripts need no `if __name__ == "__main__"`. Evaluation
    stays in this process.

    Args:
        num_workers: How many processes; None for as many as there are cores
            for, with `threads_per_worker` each.
        threads_per_worker: Of the backend.
        executor: How each of them runs its clients.

    Raises:
        RuntimeError: In a round, if workers end before they have begun, or if
            three have died of the same clients.
        TypeError: In a round, if the model or something of its can't be
            pickled.

    Example:

    >>> Processes(num_workers=2)
    Processes(num_workers=2, executor=Auto())
    """

    def __init__(
        self,
        num_workers: int | None = None,
        threads_per_worker: int = 1,
        executor: str | Executor = "auto",
    ):
        super().__init__(num_workers, threads_per_worker, executor)
        self._pool = _Pool(
            num_workers or max(1, num_cores() // threads_per_worker),
            threads_per_worker,
        )


class _Worker(Worker):
    def __init__(self, num_threads: int):
        super().__init__()
        self.connection, its = socket.socketpair()
        with its:
            code = (
                f"import sys; sys.path[:] = {sys.path!r}; "
                "from fedlearn.executors.worker import main; "
                f"main({its.fileno()}, {os.getpid()})"
            )
            self._process = subprocess.Popen(
                [multiprocessing.spawn.get_executable(), "-c", code],
                env={**os.environ, **environment(num_threads)},
                stdin=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                process_group=0,  # Ctrl-C is for the driver
            )
        self.process_id = self._process.pid
        self._send(Parcel(settings()))

    def run(
        self,
        ticket: int,
        job: Job,
        new: Mapping[int, Any],
        gone: Collection[int],
    ) -> None:
        head = Parcel((ticket, [*new], [*gone]))
        self._send(head, *new.values(), Parcel(job))

    def _send(self, *parcels: Parcel) -> None:
        self._sent = parcels  # kept until there is an answer
        with contextlib.suppress(ConnectionError):  # `wait` sees its death
            for parcel in parcels:
                parcel.send(self.connection)

    def is_stopped(self) -> bool:
        """Whether it was told to wait, by SIGSTOP."""
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return False
        how = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.process_id, how) is not None

    def end(self) -> str:
        self._process.kill()
        status = self._process.wait()
        self.connection.close()
        how = f"with status {status}"
        if status < 0:
            how = f"by {signal.Signals(-status).name}"
        return f"process {self.process_id} ended {how}"


class _Pool(Pool):
    def __init__(self, num_workers: int, num_threads: int):
        super().__init__()
        self._num_workers = num_workers
        self._num_threads = num_threads

    def wanted(self) -> int:
        return self._num_workers

    def hire(self) -> _Worker:
        return _Worker(self._num_threads)

    def pack(self, thing: Any) -> Parcel:
        return Parcel(thing)

    def wait(self, timeout: float | None) -> list[Event]:
        by_connection = {w.connection: w for w in self.workers}
        ready = multiprocessing.connection.wait(
            [*by_connection], min(timeout or _SILENCE, _SILENCE)
        )
        if not ready:
            return [
                self.died(worker, f"it was stopped, and {worker.end()}")
                for worker in by_connection.values()
                if worker.is_stopped()
            ]
        return [
            event
            for connection in ready
            for event in self._heard(by_connection[connection])
        ]

    def _heard(self, worker: _Worker) -> list[Event]:
        try:
            ticket, result, failed = receive(worker.connection)
        except (EOFError, OSError):  # before a message, or in it
            return [self.died(worker, worker.end())]
        if ticket is None:
            self.begun(worker)
            return []
        if failed is not None:
            error, text = failed
            error.add_note(f"In a worker:\n\n{text}")
            return [Event(worker, ticket, error=error)]
        return [Event(worker, ticket, result)]


def num_cores() -> int:
    """Of this process, which may not have all of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
