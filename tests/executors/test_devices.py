"""Several devices: virtual ones, in a process that is started with them."""

import os
import pathlib
import subprocess
import sys
import threading
import types

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators as ag
from fedlearn import encoders as en
from fedlearn.executors import Devices
from fedlearn.executors.devices import Threads
from fedlearn.executors.dispatcher import Work
from fedlearn.executors.executor import Run
from fedlearn.messages import update
from fedlearn.messages.update import Update
from tests import zoo

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = ["cpu:0", "cpu:1"]
CLIENTS = zoo.clients((8, 5, 0, 9, 7, 3), make=zoo.line)


def process_of(executor):
    feedback = en.ErrorFeedback([en.TopK(0.5)])
    return fl.FederatedAveraging(
        zoo.regression(),
        fl.LocalTraining(batch_size=4),
        aggregator=ag.Mean([feedback]),
        executor=executor,
    )


@pytest.mark.integration
def test_the_bits_of_one_device():
    flags = "--xla_force_host_platform_device_count=2"
    subprocess.run(
        [sys.executable, "-m", __name__],
        cwd=ROOT,
        check=True,
        timeout=300,
        env={**os.environ, "XLA_FLAGS": flags},
    )


def run_on_two_devices():
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, parts)
    assert keras.distribution.list_devices() == NAMES
    used = set()
    read = CLIENTS.map(lambda data: used.add(threading.get_ident()) or data)
    alone = process_of("sequential")
    together = process_of(Devices(executor="sequential"))
    together.build(zoo.spec_of(CLIENTS["client_0"]))
    # An inner executor's plan: a run goes on with other devices, or without.
    assert together.executor.plan(together.program) == alone.executor.plan(
        alone.program
    )
    one = two = alone.initialize(seed=3)
    for _ in range(2):
        one, expected = alone.next(one, CLIENTS)
        two, metrics = together.next(two, read)
        assert metrics == expected
        zoo.assert_equal(two, one)
    # Each device's thread reads its clients, and the driver none.
    assert len(used) == 2
    assert threading.get_ident() not in used


def test_a_device_that_is_not_there_is_named():
    for name in ("cpu:77", "gpu:77", "abacus"):
        with pytest.raises(ValueError, match=f"no device '{name}'.*cpu:0"):
            process_of(Devices([name]))


def test_what_a_client_raises_is_raised_with_its_id():
    process = process_of(Devices(["cpu:0"], "sequential"))

    def broken(data):
        raise OSError("the disk is gone")

    state = process.initialize()
    with pytest.raises(OSError, match="the disk is gone") as raised:
        process.next(state, CLIENTS.map(broken))
    assert "client_" in " ".join(raised.value.__notes__)
    # And the next round begins anew.
    _, metrics = process.next(state, CLIENTS)
    assert metrics["num_clients"] == 6


class Stuck(Run):
    """Whose first shard takes until it is told to end."""

    def __init__(self):
        self._add = update.added
        self.end = threading.Event()

    def run_shards(self, broadcast, cohort, seeds, shards, total):
        (number,) = shards
        if number == 0:
            assert self.end.wait(20)
        total.add(Update(np.float32(number) * broadcast, [], 1, 1, 0), number)


def test_a_device_that_is_given_up_takes_other_shards():
    run = Stuck()
    crew = Threads({"cpu:0": run})
    crew.begin(np.float32(2.0))

    def send(ticket, number):
        crew.send("cpu:0", ticket, Work([], [], {number: None}, 8))

    send(7, 0)
    send(8, 1)
    assert crew.wait(0.05) == []
    crew.kill("cpu:0")
    send(9, 3)
    (event,) = crew.wait(20)
    assert (event.ticket, event.result.summand) == (9, 6.0)
    run.end.set()  # what comes of it now is nobody's
    send(10, 4)
    events = [e for _ in range(2) for e in crew.wait(0.5)]
    assert [e.ticket for e in events] == [10]
    crew.close()
    assert not crew.workers()


if __name__ == "__main__":
    run_on_two_devices()


def test_a_thread_in_place_of_one_that_hangs_has_what_clients_are_sent():
    stuck = threading.Event()
    threads = Threads({"cpu:0": None})

    def send(ticket, done):
        work = types.SimpleNamespace(done=lambda run, received: done(received))
        threads.send("cpu:0", ticket, work)

    threads.begin(np.ones(2, "float32"))
    send(0, lambda received: stuck.wait(20))
    threads.begin(np.full(2, 2.0, "float32"))
    threads.kill("cpu:0")
    send(1, keras.ops.convert_to_numpy)
    try:
        (event,) = threads.wait(20)
    finally:
        stuck.set()
        threads.close()
    assert event.error is None
    np.testing.assert_array_equal(event.result, [2.0, 2.0])
