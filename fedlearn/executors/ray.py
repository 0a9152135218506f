import itertools
import logging
import os
import sys
import warnings
import weakref
from collections.abc import (
    Collection,
    Hashable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, ClassVar
from unittest import mock

import keras
import numpy as np

import fedlearn
from fedlearn import backend, checks
from fedlearn.executors.dispatcher import Event, Work
from fedlearn.executors.distributed import Distributed
from fedlearn.executors.executor import Executor, Portable
from fedlearn.executors.parcel import pickled, unpickled
from fedlearn.executors.processes import environment, num_cores
from fedlearn.executors.shard_runner import Job, ShardRunner, job
from fedlearn.executors.worker import configure, settings
from fedlearn.messages.broadcast import Received
from fedlearn.messages.update import Update

# So many workers that end before they have begun are no accident.
_MOST_FAILED_STARTS = 4
# Seconds after which it is said that none has begun.
_LONG_START = 180.0
# In MB, of what is better read by those who need it.
_LARGE_SOURCE = 32.0


class Ray(Distributed):
    """Runs clients on the machines of a Ray cluster.

    Moritz et al. 2018, "Ray: a distributed framework for emerging AI
    applications", OSDI. Needs `pip install "ray>=2.50"`.
    [docs/clusters.md](../../docs/clusters.md) says what must be where, what
    happens when something fails, and how to run it on Kubernetes.

    A worker is a Ray actor that keeps the compiled program of a client. What
    clients are sent goes to each machine once in a round, through Ray's object
    store, and is freed after it. Workers read their data themselves: sets in
    files by their paths, which must be the same everywhere; those in memory
    are put into the object store once, with a warning. What is done about a
    worker or a machine that is lost, or late, is fedlearn's and not Ray's, and
    no bit of a result depends on it.

    Args:
        num_workers: None for as many as there is room for in the cluster when
            a round begins; in a Ray of its own, one for each core.
        address: Of a cluster: `"auto"` for that of this machine, or
            `"host:port"`. None for a Ray of its own on this machine, which
            listens on the loopback address only and ends with the process. If
            `ray.init` was called before, that Ray is used.
        threads_per_worker: As for `Processes`; so many cores are reserved.
        gpus_per_worker: How many GPUs, or what share of one, are reserved for
            a worker. Of a share, JAX takes 0.9 times that of the memory, and
            TensorFlow what it needs.
        executor: Which runs the clients of a shard in a worker.

    Raises:
        ImportError: In a process, without Ray.
        RuntimeError: In a round, if no machine of the cluster can hold a
            worker, if workers die as they start, or have other versions of
            Python, fedlearn, Keras or the backend; as `Dispatcher`.

    Example::

        process = fl.FederatedAveraging(
            model, executor=fl.executors.Ray(address="auto", num_workers=16)
        )
    """

    def __init__(
        self,
        num_workers: int | None = None,
        address: str | None = None,
        threads_per_worker: int = 1,
        gpus_per_worker: float = 0.0,
        executor: str | Executor = "auto",
    ):
        super().__init__(executor)
        if num_workers is not None:
            num_workers = checks.whole("num_workers", num_workers)
        self.num_workers = num_workers
        self.address = address
        self.threads_per_worker = checks.whole(
            "threads_per_worker", threads_per_worker
        )
        self.gpus_per_worker = checks.number("gpus_per_worker", gpus_per_worker)

        self._pool = _Pool(self)

    @property
    def threads(self) -> int | None:
        return self.threads_per_worker

    def crew(self, work: Portable) -> "_Crew":
        return _Crew(self._pool, work)

    def close(self) -> None:
        """Ends the workers, and a Ray of its own; a round starts new ones."""
        self._pool.close()


class _Crew:
    """The workers of a pool, for one program."""

    def __init__(self, pool: "_Pool", work: Portable):
        self._pool = pool
        self._program = work
        self._numbers: list[int] = []  # of the program and the broadcast

    def begin(self, broadcast: Received) -> None:
        pool, numbers = self._pool, self._numbers
        pool.start()
        pool.forget(numbers[1:])  # before there is another: one is kept
        if not (numbers and pool.keeps(numbers[0])):
            numbers[:] = [pool.keep(self._program)]
            weakref.finalize(self, pool.forget, numbers).atexit = False
        numbers[1:] = [pool.keep(backend.to_numpy(broadcast))]

    def workers(self) -> Collection[Hashable]:
        return self._pool.workers

    @property
    def num_workers(self) -> int:
        return self._pool.num_workers

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


class _Pool:
    """Actors that are started when they are needed, and replaced.

    Things are kept for them in Ray's object store, by number.
    """

    def __init__(self, config: Ray):
        self._config = config
        self._actors: dict[int, Any] = {}
        self._names = itertools.count()
        # What is awaited: of who starts, and of who runs a shard.
        self._starting: dict[Any, int] = {}
        self._running: dict[Any, tuple[int, int]] = {}
        self._kept: dict[int, Any] = {}
        self._numbers = itertools.count()
        self._sources: weakref.WeakKeyDictionary[Any, int] = (
            weakref.WeakKeyDictionary()
        )
        self._failed_starts = 0
        self._session: _Session | None = None

    # Workers.

    def start(self) -> None:
        if self._session is None or not self._session.is_open:
            self.close()
            self._session = _Session(self._config.address)
        wanted = self._wanted()
        while len(self._actors) < wanted:
            self._hire()

    def _wanted(self) -> int:
        """How many workers there should be now."""
        config = self._config
        each = {"CPU": config.threads_per_worker, "GPU": config.gpus_per_worker}
        machines = [n["Resources"] for n in _ray().nodes() if n["Alive"]]
        assert self._session is not None
        if self._session.is_own:  # which has told Ray of no cores
            cores = max(num_cores(), config.threads_per_worker)
            machines = [{**machine, "CPU": cores} for machine in machines]
        room = sum(_room(machine, each) for machine in machines)
        if not room:
            have = [
                {name: machine.get(name, 0.0) for name in each}
                for machine in machines
            ]
            raise RuntimeError(
                "No machine of the Ray cluster can hold a worker: one takes "
                f"{each}, and they have {have}. Ask for less with "
                "`threads_per_worker` and `gpus_per_worker`, or add machines."
            )
        return config.num_workers or room

    def _hire(self) -> None:
        worker, config = next(self._names), self._config
        assert self._session is not None
        cpus = 0 if self._session.is_own else config.threads_per_worker
        actor = (
            _ray()
            .remote(_Actor)
            .options(
                num_cpus=cpus,
                num_gpus=config.gpus_per_worker,
                max_restarts=0,
                max_task_retries=0,
                runtime_env={"env_vars": _environment(config)},
            )
            .remote()
        )
        self._actors[worker] = actor
        self._starting[actor.start.remote(_versions(), settings())] = worker

    @property
    def workers(self) -> list[int]:
        """Those that have started."""
        return [w for w in self._actors if w not in self._starting.values()]

    @property
    def num_workers(self) -> int:
        return len(self._actors)

    def replace(self, worker: int) -> None:
        """Ends a worker, whose death is then no event, and starts another."""
        self._end(worker)
        self.start()

    def end_workers(self) -> None:
        for worker in [*self._actors]:
            self._end(worker)

    def _end(self, worker: int) -> None:
        actor = self._actors.pop(worker)
        for awaited in (self._starting, self._running):
            for ref, whose in [*awaited.items()]:
                if whose == worker or (
                    isinstance(whose, tuple) and whose[0] == worker
                ):
                    del awaited[ref]
        if _ray().is_initialized():
            _ray().kill(actor)

    def close(self) -> None:
        self.end_workers()
        self._kept.clear()
        self._failed_starts = 0
        if self._session is not None:
            self._session.close()
            self._session = None

    # What they are given.

    def keep(self, thing: Any) -> int:
        number = next(self._numbers)
        parts = _parts(thing)
        self._kept[number] = _ray().put(parts)
        return number

    def keeps(self, number: int) -> bool:
        return number in self._kept

    def forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:  # Ray frees it with the last reference
            self._kept.pop(number, None)

    def number_of(self, source: Any) -> int:
        """The number of a data set's source, which is kept as long as it is."""
        number = self._sources.get(source, -1)
        if not self.keeps(number):
            number = self._sources[source] = self.keep(source)
            self._warn_of(source)
            # Who has the data isn't to have the workers, too.
            finalizer = weakref.finalize(source, self._kept.pop, number, None)
            finalizer.atexit = False
        return number

    def _warn_of(self, source: Any) -> None:
        assert self._session is not None
        if self._session.is_own:
            return
        size = sum(part.nbytes for part in _parts(source)) / 1e6
        if size > _LARGE_SOURCE:
            warnings.warn(
                f"The data set is in memory, and {size:.0f} MB of it go to "
                "each machine of the cluster. `save` it to a path that all of "
                "them have, and `load` that.",
                stacklevel=2,
            )

    def run(
        self, worker: int, ticket: int, needed: Sequence[int], job: Job
    ) -> None:
        # In lists, which Ray hands on as the references that they are.
        things = {number: [self._kept[number]] for number in needed}
        answer = self._actors[worker].run.remote(
            things, [*self._kept], _parts(job)
        )
        self._running[answer] = (worker, ticket)

    # What comes back.

    def wait(self, timeout: float | None) -> list[Event]:
        awaited = [*self._starting, *self._running]
        if not self.workers:
            timeout = min(timeout or _LONG_START, _LONG_START)
        done, _ = _ray().wait(awaited, timeout=timeout)
        if not (done or self.workers):
            free = _ray().available_resources()
            warnings.warn(
                f"No worker has started in {_LONG_START:.0f} seconds. Perhaps "
                "there is no room in the Ray cluster now: of its cores and "
                f"GPUs {free.get('CPU', 0):g} and {free.get('GPU', 0):g} are "
                f"free, and {self._config!r} asks for more. Waiting.",
                stacklevel=2,
            )
        more, _ = _ray().wait(awaited, num_returns=len(awaited), timeout=0)
        return [e for ref in {*done, *more} for e in self._heard(ref)]

    def _heard(self, ref: Any) -> Iterator[Event]:
        if ref in self._starting:
            self._started(ref)
        elif ref in self._running:  # and not of a worker that was ended
            worker, ticket = self._running.pop(ref)
            errors = _ray().exceptions
            try:
                yield Event(worker, ticket, _ray().get(ref))
            except errors.RayTaskError as error:
                cause = error.cause
                if isinstance(cause, errors.ObjectLostError):
                    yield self._died(worker, cause)
                    return
                cause.add_note(f"In a worker:\n\n{error}")
                yield Event(worker, ticket, error=cause)
            except errors.RayError as error:
                yield self._died(worker, error)

    def _died(self, worker: int, error: Exception) -> Event:
        self.replace(worker)
        return Event(worker, None, error=" ".join(str(error).split())[:300])

    def _started(self, ref: Any) -> None:
        """Sees whether a worker did start."""
        errors, worker = _ray().exceptions, self._starting.pop(ref)
        try:
            _ray().get(ref)
            self._failed_starts = 0
        except errors.RayTaskError as error:
            raise RuntimeError(
                f"A worker can't start: {error.cause}"
            ) from error
        except errors.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                raise RuntimeError(
                    f"{self._failed_starts} workers have ended before they had "
                    f"begun. Of the last, Ray says: {error}"
                ) from error
            self.replace(worker)


def _parts(thing: Any) -> list[np.ndarray]:
    """A thing pickled, of which Ray copies no array again."""
    return [np.frombuffer(part, np.uint8) for part in pickled(thing)]


def _room(machine: Mapping[str, float], each: Mapping[str, float]) -> int:
    """How many workers a machine holds."""
    return min(
        int(machine.get(name, 0.0) / count + 1e-6)
        for name, count in each.items()
        if count
    )


class _Actor:
    """What runs in a worker."""

    def start(
        self, versions: Mapping[str, str], settings: Mapping[str, Any]
    ) -> None:
        ours = _versions()
        if ours != versions:
            raise ValueError(
                f"it has {ours}, and the driver {versions}. With other "
                "versions sums would round differently: install the driver's "
                "on all machines."
            )
        configure(settings)
        self._runner = ShardRunner()
        self._has: set[int] = set()

    def run(
        self, things: Mapping[int, Any], kept: Sequence[int], parts: list
    ) -> Update:
        for number in self._has.difference(kept):
            self._runner.forget(number)
        self._has.intersection_update(kept)
        for number, (reference,) in things.items():
            if number not in self._has:
                self._runner.keep(number, unpickled(_ray().get(reference)))
                self._has.add(number)
        return self._runner.run(unpickled(parts))


def _versions() -> dict[str, str]:
    package: Any = sys.modules[backend.name]
    return {
        "Python": "{}.{}".format(*sys.version_info),
        "fedlearn": fedlearn.__version__,
        "Keras": keras.__version__,
        backend.name: package.__version__,
    }


def _environment(config: Ray) -> dict[str, str]:
    """For a worker, before it imports the backend."""
    settings = dict(environment(config.threads_per_worker))
    if not config.gpus_per_worker:
        settings["CUDA_VISIBLE_DEVICES"] = "-1"
    elif config.gpus_per_worker < 1:
        share = f"{0.9 * config.gpus_per_worker:.3f}"
        settings["XLA_PYTHON_CLIENT_MEM_FRACTION"] = share
    return settings


class _Session:
    """A Ray that was there, or one of our own that ends with its last user."""

    users: ClassVar[set[int]] = set()

    def __init__(self, address: str | None):
        found = _ray().is_initialized()
        if not found:
            _connect(address)
        if not found or self.users:
            self.users.add(id(self))
        self.is_own = address is None and id(self) in self.users
        self._end = weakref.finalize(self, _leave, id(self))

    @property
    def is_open(self) -> bool:
        return bool(_ray().is_initialized())

    def close(self) -> None:
        self._end()


def _leave(session: int) -> None:
    if session in _Session.users:
        _Session.users.remove(session)
        if not _Session.users:
            _ray().shutdown()


def _connect(address: str | None) -> None:
    # Nobody is told that it runs; which GPUs a worker sees is said above.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray = _ray()
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is not None:
        ray.init(address, **quiet)
        return
    # One that can't become a cluster, as on macOS and Windows, listens on the
    # loopback address alone.
    constants = ray._private.ray_constants
    with (
        mock.patch.object(constants, "ENABLE_RAY_CLUSTER", False),
        warnings.catch_warnings(),
    ):
        # JAX warns of a fork. Ray's are followed by other programs at once.
        warnings.filterwarnings("ignore", r"os\.fork", RuntimeWarning)
        ray.init("local", num_cpus=0, include_dashboard=False, **quiet)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "executors.Ray needs Ray, the extra `ray` of fedlearn. Install "
            'it: pip install "ray>=2.50".'
        ) from error
    return ray
