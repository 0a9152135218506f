import contextlib
import itertools
import multiprocessing.connection
import multiprocessing.spawn
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

from fedlearn import backend, checks
from fedlearn.executors.dispatcher import Event, Work
from fedlearn.executors.distributed import Distributed
from fedlearn.executors.executor import Executor, Portable
from fedlearn.executors.parcel import Parcel, receive
from fedlearn.executors.shard_runner import Program, job
from fedlearn.executors.worker import settings
from fedlearn.messages.broadcast import Received

# So many workers that end before they have begun are no accident.
_MOST_FAILED_STARTS = 4


class Processes(Distributed):
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
        super().__init__(executor)
        if num_workers is not None:
            checks.whole("num_workers", num_workers)
        self.num_workers = num_workers
        self.threads_per_worker = checks.whole(
            "threads_per_worker", threads_per_worker
        )
        self._pool = _Pool(
            num_workers or max(1, num_cores() // threads_per_worker),
            threads_per_worker,
        )

    @property
    def threads(self) -> int | None:
        return self.threads_per_worker

    def crew(self, work: Portable) -> "_Crew":
        return _Crew(self._pool, work)

    def close(self) -> None:
        """Ends the workers; another round starts new ones."""
        self._pool.close()


class _Crew:
    """The workers of a pool, for one program."""

    def __init__(self, pool: "_Pool", work: Portable):
        self._pool = pool
        self._program = work
        self._numbers: list[int] = []  # of the program and the broadcast

    def begin(self, broadcast: Received) -> None:
        pool, numbers = self._pool, self._numbers
        if not numbers:
            numbers.append(pool.keep(_parcel(self._program)))
            weakref.finalize(self, pool.forget, numbers).atexit = False
        pool.forget(numbers[1:])
        numbers[1:] = [pool.keep(Parcel(backend.to_numpy(broadcast)))]
        pool.start()

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
        parcel = Parcel(job(program, broadcast, number, work))
        # If it is dead, `wait` sees it.
        with contextlib.suppress(ConnectionError):
            self._pool.give(worker, needed)
            worker.send("run", ticket, parcel)

    def wait(self, timeout: float | None) -> Sequence[Event]:
        return self._pool.wait(timeout)

    def kill(self, worker: Any) -> None:
        self._pool.replace(worker)

    def close(self) -> None:
        self._pool.close()


class _Worker:
    """A process, and the connection to it."""

    def __init__(self, num_threads: int):
        ours, its = socket.socketpair()
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
        self.connection = multiprocessing.connection.Connection(ours.detach())
        self.has: set[int] = set()
        self.is_ready = False
        with contextlib.suppress(ConnectionError):
            Parcel(settings()).send(self.connection, self.process_id)

    def send(self, what: str, number: int, parcel: Parcel) -> None:
        Parcel((what, number)).send(self.connection, self.process_id)
        parcel.send(self.connection, self.process_id)

    def end(self) -> str:
        """Ends the process, if it is still there; how it ended."""
        self._process.kill()
        status = self._process.wait()
        self.connection.close()
        how = f"with status {status}"
        if status < 0:
            how = f"by {signal.Signals(-status).name}"
        return f"process {self.process_id} ended {how}"


class _Pool:
    """Workers that are started when they are needed, and replaced.

    Things are kept for them by number; each worker is given them before its
    first shard that needs them.
    """

    def __init__(self, num_workers: int, num_threads: int):
        self.workers: list[_Worker] = []
        self._num_workers = num_workers
        self._num_threads = num_threads
        self._numbers = itertools.count()
        self._kept: dict[int, Parcel] = {}
        self._sources: weakref.WeakKeyDictionary[Any, int] = (
            weakref.WeakKeyDictionary()
        )
        self._failed_starts = 0
        # Also when Python ends.
        weakref.finalize(self, _end_all, self.workers)
        weakref.finalize(self, self._kept.clear).atexit = False

    def start(self) -> None:
        while len(self.workers) < self._num_workers:
            self.workers.append(_Worker(self._num_threads))

    def keep(self, parcel: Parcel) -> int:
        number = next(self._numbers)
        self._kept[number] = parcel
        return number

    def forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            del self._kept[number]

    def number_of(self, source: Any) -> int:
        if source not in self._sources:
            number = self._sources[source] = self.keep(Parcel(source))
            # Who has the data isn't to have the workers, too.
            finalizer = weakref.finalize(source, self._kept.pop, number, None)
            finalizer.atexit = False
        return self._sources[source]

    def give(self, worker: _Worker, numbers: Sequence[int]) -> None:
        for number in worker.has - self._kept.keys():
            worker.send("forget", number, Parcel(None))
        worker.has &= self._kept.keys()
        for number in numbers:
            if number not in worker.has:
                worker.send("keep", number, self._kept[number])
                worker.has.add(number)

    def wait(self, timeout: float | None) -> list[Event]:
        by_connection = {w.connection: w for w in self.workers}
        ready = multiprocessing.connection.wait([*by_connection], timeout)
        return [
            event
            for connection in ready
            for event in self._heard(by_connection[connection])  # type: ignore[index]
        ]

    def _heard(self, worker: _Worker) -> list[Event]:
        try:
            ticket, result, failed = receive(worker.connection)
        except (EOFError, OSError):  # before a message, or in it
            if not worker.is_ready:
                self._failed_starts += 1
            how = self.replace(worker)
            return [Event(worker, None, error=how)]
        if not worker.is_ready:
            worker.is_ready = True
            self._failed_starts = 0
            return []
        if failed is not None:
            error, text = failed
            error.add_note(f"In a worker:\n\n{text}")
            return [Event(worker, ticket, error=error)]
        return [Event(worker, ticket, result)]

    def replace(self, worker: _Worker) -> str:
        self.workers.remove(worker)
        how = worker.end()
        if self._failed_starts >= _MOST_FAILED_STARTS:
            raise RuntimeError(
                f"{self._failed_starts} workers have ended before they had "
                f"begun; of the last, {how}. What they wrote before is why. "
                "Train in one process instead, with executor='auto'."
            )
        self.start()
        return how

    def close(self) -> None:
        _end_all(self.workers)


def _end_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().end()


def _parcel(work: Portable) -> Parcel:
    try:
        return Parcel(work)
    except Exception as error:
        if not isinstance(work, Program):
            raise
        program = work.program
        for name, part in {
            "the model": program.model.model,
            "`client`": program.trainer.config,
            "`aggregator`": program.aggregator,
            "the algorithm": program.trainer.algorithm,
        }.items():
            try:
                Parcel(part)
            except Exception as fault:
                raise TypeError(
                    f"executor='processes' sends {name} to other processes, "
                    f"and it can't be pickled: {fault}. Train in one process "
                    "(executor='auto'), or leave out what isn't plain data "
                    "and functions, such as open files and locks."
                ) from error
        raise


def environment(num_threads: int) -> Mapping[str, str]:
    """For a process that computes with so many threads."""
    count = str(num_threads)
    names = (
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
        *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC"),
    )
    flags = os.environ.get("XLA_FLAGS", "")
    if num_threads == 1:
        flags += " --xla_cpu_multi_thread_eigen=false"
    settings = {
        **dict.fromkeys(names, count),
        "XLA_FLAGS": flags.strip(),
        "KERAS_BACKEND": backend.name,
        # Several share a GPU.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
    }
    if backend.name == "jax":
        import jax

        # What changes numbers, also where it was said in code.
        for name in (
            "jax_default_matmul_precision",
            "jax_default_prng_impl",
            "jax_enable_x64",
            "jax_threefry_partitionable",
        ):
            value = getattr(jax.config, name)
            if value is not None:
                settings[name.upper()] = str(value)
    return settings


def num_cores() -> int:
    """Of this process, which may not have all of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
