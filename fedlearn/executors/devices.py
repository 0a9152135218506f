import queue
from collections.abc import Collection, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import keras
from keras import ops

from fedlearn import backend
from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.executors.dispatcher import Event, Work
from fedlearn.executors.distributed import Distributed
from fedlearn.executors.executor import Executor, Portable, Run
from fedlearn.messages.broadcast import Received
from fedlearn.messages.update import Update


class Devices(Distributed):
    """Runs clients on several devices of this machine, such as GPUs.

    Each has a thread of its own that runs whole shards, is sent the broadcast
    once a round, and compiles for itself. The bits are those of one such
    device alone.

    Args:
        devices: Names as Keras has them, such as `["gpu:0", "gpu:1"]`; None
            for all GPUs or TPUs, and where there are none, for all CPUs.
        executor: Which executor's shards they run.

    Raises:
        ValueError: In a process, if there is no device of such a name.

    Example:

    >>> import keras, fedlearn as fl
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> process = fl.FederatedAveraging(
    ...     model, executor=fl.executors.Devices(["cpu:0"]))
    """

    def __init__(
        self,
        devices: Sequence[str] | None = None,
        executor: str | Executor = "auto",
    ):
        super().__init__(executor)
        self.devices = None if devices is None else tuple(devices)

    def crew(self, work: Portable) -> "Threads":
        devices = self.devices
        if devices is None:
            devices = tuple(keras.distribution.list_devices())
        for name in devices:
            kind = name.partition(":")[0]
            try:
                known = keras.distribution.list_devices(kind)
            except RuntimeError:  # JAX hasn't that kind
                known = []
            if name not in known:
                here = keras.distribution.list_devices()
                raise ValueError(
                    f"There is no device {name!r} that {backend.name} could "
                    f"use here{did_you_mean(name, here)}. It has {here}."
                )
        # What is compiled is compiled for one device.
        return Threads({d: work.bind() for d in devices})


class Threads:
    """A thread for each device, which does one thing after another."""

    def __init__(self, runs: dict[str, Any]):
        self._runs: dict[str, Run] = runs
        self._threads: dict[Hashable, ThreadPoolExecutor] = {}
        self._received: dict[Hashable, Future[Received]] = {}
        self._sent: Any = None  # what clients get, of NumPy arrays
        self._events: queue.SimpleQueue[tuple[ThreadPoolExecutor, Event]]
        self._events = queue.SimpleQueue()

    def begin(self, broadcast: Received) -> None:
        self._sent = backend.to_numpy(broadcast)
        for device in self._runs:
            if device not in self._threads:
                self._threads[device] = ThreadPoolExecutor(1)
            self._receive(device)

    def _receive(self, device: Any) -> None:
        thread = self._threads[device]
        self._received[device] = thread.submit(_put, device, self._sent)

    def workers(self) -> Collection[Hashable]:
        return self._threads.keys()

    @property
    def num_workers(self) -> int:
        return len(self._threads)

    def send(self, worker: Any, ticket: int, work: Work) -> None:
        thread, received = self._threads[worker], self._received[worker]

        def tell(done: Future) -> None:
            if done.cancelled():
                return
            error = done.exception()
            result = None if error else done.result()
            self._events.put((thread, Event(worker, ticket, result, error)))

        run = self._runs[worker]
        thread.submit(_sum, worker, run, received, work).add_done_callback(tell)

    def wait(self, timeout: float | None) -> Sequence[Event]:
        try:
            thread, event = self._events.get(timeout=timeout)
        except queue.Empty:
            return []
        # A thread that nobody waits for may still have come to its end.
        return [event] if self._threads.get(event.worker) is thread else []

    def kill(self, worker: Hashable) -> None:
        # Threads can't be killed: it does no more than what it is at.
        self._threads.pop(worker).shutdown(wait=False, cancel_futures=True)
        self._threads[worker] = ThreadPoolExecutor(1)
        self._receive(worker)

    def close(self) -> None:
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)
        self._threads.clear()


def _put(device: str, broadcast: Received) -> Received:
    with keras.device(device):
        return keras.tree.map_structure(ops.convert_to_tensor, broadcast)


def _sum(
    device: str, run: Run, received: "Future[Received]", work: Work
) -> Update:
    with keras.device(device):
        return work.done(run, received.result())
