import logging
import os
import sys
import warnings
import weakref
from collections.abc import Collection, Mapping
from typing import Any, ClassVar
from unittest import mock

import keras
import numpy as np

import fedlearn
from fedlearn import backend, checks
from fedlearn.executors.dispatcher import Event
from fedlearn.executors.executor import Executor
from fedlearn.executors.parcel import pickled, unpickled
from fedlearn.executors.pool import Pool, Pooled, Worker
from fedlearn.executors.processes import num_cores
from fedlearn.executors.shard_runner import Job, ShardRunner
from fedlearn.executors.worker import configure, environment, settings
from fedlearn.messages.update import Update

# Seconds after which it is said that none has begun.
_LONG_START = 180.0
# In MB, of what is better read by those who need it.
_LARGE_SOURCE = 32.0


class Ray(Pooled):
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
        super().__init__(num_workers, threads_per_worker, executor)
        self.address = address
        self.gpus_per_worker = checks.number("gpus_per_worker", gpus_per_worker)
        self._pool = _Pool(self)


class _Worker(Worker):
    def __init__(self, actor: Any):
        super().__init__()
        self._actor = actor
        # Tickets of what it hasn't answered; None of its start.
        self.awaited: dict[Any, int | None] = {
            actor.start.remote(_versions(), settings()): None
        }

    def run(
        self,
        ticket: int,
        job: Job,
        new: Mapping[int, Any],
        gone: Collection[int],
    ) -> None:
        # In lists, which Ray hands on as the references that they are.
        things = {number: [reference] for number, reference in new.items()}
        answer = self._actor.run.remote(things, [*gone], _parts(job))
        self.awaited[answer] = ticket

    def end(self) -> str:
        if _ray().is_initialized():
            _ray().kill(self._actor)
        return "killed"


class _Pool(Pool):
    """Actors. Things are kept for them in Ray's object store."""

    def __init__(self, config: Ray):
        super().__init__()
        self._config = config
        self._session: _Session | None = None

    def start(self) -> None:
        if self._is_forked():
            raise RuntimeError(
                "This process is a fork of one that uses Ray, which can't be "
                "used in both. Start it by multiprocessing's 'spawn'."
            )
        if self._session is None or not self._session.is_open:
            self.close()
            self._session = _Session(self._config.address)
        super().start()

    def _is_forked(self) -> bool:
        session = self._session
        return session is not None and session.driver != os.getpid()

    def wanted(self) -> int:
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

    def hire(self) -> _Worker:
        config = self._config
        assert self._session is not None
        cpus = 0 if self._session.is_own else config.threads_per_worker
        actor = _ray().remote(_Actor)
        options = actor.options(
            num_cpus=cpus,
            num_gpus=config.gpus_per_worker,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": _environment(config)},
        )
        return _Worker(options.remote())

    def close(self) -> None:
        if self._is_forked():
            return  # even to let a reference go is told Ray, as the driver
        super().close()
        if self._session is not None:
            self._session.close()
            self._session = None

    def pack(self, thing: Any) -> Any:
        return _ray().put(_parts(thing))

    def pack_source(self, source: Any) -> Any:
        parts = _parts(source)
        size = sum(part.nbytes for part in parts) / 1e6
        assert self._session is not None
        if size > _LARGE_SOURCE and not self._session.is_own:
            warnings.warn(
                f"The data set is in memory, and {size:.0f} MB of it go to "
                "each machine of the cluster. `save` it to a path that all of "
                "them have, and `load` that.",
                stacklevel=2,
            )
        return _ray().put(parts)

    def wait(self, timeout: float | None) -> list[Event]:
        awaited = {ref: w for w in self.workers for ref in w.awaited}
        any_ready = any(w.is_ready for w in self.workers)
        if not any_ready:
            timeout = min(timeout or _LONG_START, _LONG_START)
        done, _ = _ray().wait([*awaited], timeout=timeout)
        if not (done or any_ready):
            free = _ray().available_resources()
            warnings.warn(
                f"No worker has started in {_LONG_START:.0f} seconds. Perhaps "
                "there is no room in the Ray cluster now: of its cores and "
                f"GPUs {free.get('CPU', 0):g} and {free.get('GPU', 0):g} are "
                f"free, and {self._config!r} asks for more. Waiting.",
                stacklevel=2,
            )
        more, _ = _ray().wait([*awaited], num_returns=len(awaited), timeout=0)
        return [e for r in {*done, *more} for e in self._heard(awaited[r], r)]

    def _heard(self, worker: _Worker, ref: Any) -> list[Event]:
        if worker not in self.workers:  # another answer told its death
            return []
        ticket, errors = worker.awaited.pop(ref), _ray().exceptions
        try:
            result = _ray().get(ref)
        except errors.RayTaskError as error:
            if ticket is None:
                raise RuntimeError(
                    f"A worker can't start: {error.cause}"
                ) from error
            if not isinstance(error.cause, errors.ObjectLostError):
                error.cause.add_note(f"In a worker:\n\n{error}")
                return [Event(worker, ticket, error=error.cause)]
            how = error.cause
        except errors.RayError as error:
            how = error
        else:
            if ticket is not None:
                return [Event(worker, ticket, result)]
            self.begun(worker)
            return []
        return [self.died(worker, " ".join(str(how).split())[:300])]


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

    def run(
        self, new: Mapping[int, Any], gone: Collection[int], job: list
    ) -> Update:
        for number in gone:
            self._runner.forget(number)
        for number, (reference,) in new.items():
            self._runner.keep(number, unpickled(_ray().get(reference)))
        return self._runner.run(unpickled(job))


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
        self.driver = os.getpid()
        found = _ray().is_initialized()
        if not found:
            _connect(address)
        if not found or self.users:
            self.users.add(id(self))
        self.is_own = address is None and id(self) in self.users
        self._end = weakref.finalize(self, _leave, id(self), self.driver)

    @property
    def is_open(self) -> bool:
        return bool(_ray().is_initialized())

    def close(self) -> None:
        self._end()


def _leave(session: int, driver: int) -> None:
    if session in _Session.users and driver == os.getpid():
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
