"""Computations on the library's executors: the same bits, whoever runs them.

The oracle is `core.executor("sequential")`, which has no workers, and of that
a call without an executor, up to the rounding of sums.
"""

import os
import signal
import threading

import keras
import numpy as np
import pytest
from keras import ops

import fedlearn as fl
from fedlearn import core
from fedlearn.core import CLIENTS, SERVER, FederatedType
from fedlearn.core.executor import chosen
from fedlearn.executors import Devices, Processes, Tiers
from tests.core.test_map_sum import ARGUMENTS, everything
from tests.core.test_program_bytes import training

F = "float32"
READINGS = FederatedType(F, CLIENTS)
free = pytest.mark.backend_free


@pytest.fixture(scope="module")
def workers():
    executor = Processes(num_workers=2)
    yield executor
    executor.close()


def on(executor, computation, *arguments):
    with core.executor(executor):
        return computation(*arguments)


def assert_same(found, expected):
    keras.tree.map_structure(np.testing.assert_array_equal, found, expected)


def assert_as_in_one_process(executor, computation, *arguments):
    expected = on("sequential", computation, *arguments)
    assert_same(on(executor, computation, *arguments), expected)
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6),
        expected,
        computation(*arguments),
    )


def test_every_operator(workers):
    assert_as_in_one_process(workers, everything, *ARGUMENTS)


def test_training_of_a_keras_model_and_examples_of_unlike_lengths(workers):
    computation, arguments = training()
    assert_as_in_one_process(workers, computation, *arguments)


@core.federated_computation(READINGS)
def variance(x):
    mean = core.federated_broadcast(core.federated_mean(x))
    squares = core.federated_map(lambda x, m: (x - m) ** 2, (x, mean))
    return core.federated_mean(squares)


X = np.random.default_rng(0).normal(20, 3, 100).astype(F)


def test_clients_are_asked_twice(workers):
    assert_as_in_one_process(workers, variance, X)


@free
def test_stacks_of_executors_give_the_same_bits(workers):
    for executor in (
        Devices(["cpu:0"]),
        Devices(["cpu:0"], executor=workers),
        Tiers([2, 0], executor=workers),
    ):
        assert_as_in_one_process(executor, variance, X)


@free
def test_workers_need_no_source(workers):
    lock = threading.Lock()  # can't be pickled

    def twice(x):
        with lock:
            return 2 * x

    @core.federated_computation(READINGS)
    def doubled(x):
        return core.federated_sum(core.federated_map(twice, x))

    assert on(workers, doubled, [1.0, 2.0]) == 6.0


EXAMPLES = core.SequenceType((F, "int32"))


@core.federated_computation(FederatedType(EXAMPLES, CLIENTS), READINGS)
def weighted(examples, weight):
    first = core.federated_map(lambda x, y: ops.mean(x), examples)
    return core.federated_mean(first, weight), core.federated_collect(weight)


def dataset():
    return fl.FederatedDataset.from_clients(
        {
            f"c{i}": (np.full(1 + i % 2, i, F), np.zeros(1 + i % 2, "int32"))
            for i in range(70)
        }
    )


@free
def test_data_sets_in_files_are_read_by_workers(workers, tmp_path):
    dataset().save(tmp_path / "data")
    read = tmp_path / "read"

    def note(client):
        with open(read, "a") as file:
            file.write(f"{os.getpid()}\n")
        return client

    data = fl.FederatedDataset.load(tmp_path / "data").map(
        note, same_length=True
    )
    weight = [float(1 + i % 3) for i in range(70)]
    found = on(workers, weighted, data, weight)
    by = [line == str(os.getpid()) for line in read.read_text().split()]
    assert sum(by) == 1  # for the type
    assert by.count(False) >= 70
    assert_same(found, on("sequential", weighted, list(data.values()), weight))
    np.testing.assert_allclose(found[0], np.average(range(70), weights=weight))
    np.testing.assert_array_equal(found[1], weight)


@free
def test_a_worker_that_is_killed(workers, tmp_path):
    flag, driver = tmp_path / "killed", os.getpid()

    def kill_once(client):
        if os.getpid() != driver and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return client

    data = dataset().map(kill_once, same_length=True)
    found = on(workers, weighted, data, np.ones(70, F))
    assert flag.exists()
    assert_same(found, on("sequential", weighted, data, np.ones(70, F)))


@free
def test_what_does_more_than_compute_is_refused(workers):
    import tensorflow as tf

    @core.federated_computation(READINGS)
    def calls_python(x):
        def call(x):
            return tf.ensure_shape(tf.py_function(abs, [x], tf.float32), ())

        return core.federated_sum(core.federated_map(call, x))

    with pytest.raises(ValueError, match="EagerPyFunc"):
        on(workers, calls_python, X)


@free
def test_an_executor_is_for_one_block_of_code(workers):
    with core.executor(workers):
        with core.executor("sequential"):
            assert repr(chosen.get()) == "Sequential()"
            first = chosen.get()
        assert chosen.get() is workers
        with core.executor("sequential"):  # the same: workers would stay
            assert chosen.get() is first
    assert chosen.get() is None
    with (
        pytest.raises(ValueError, match="sequentail"),
        core.executor("sequentail"),
    ):
        pass


def test_server_only_and_few_clients(workers):
    @core.federated_computation(FederatedType(F, SERVER))
    def half(x):
        return core.federated_apply(lambda x: x / 2, x)

    assert on(workers, half, 3.0) == 1.5
    assert_as_in_one_process(workers, variance, [1.0, 2.0])


@free
def test_errors_name_computation_and_clients(workers):  # and end workers
    driver = os.getpid()

    def broken(client):
        return client if os.getpid() == driver else (client[0], client[0])

    data = dataset().map(broken, same_length=True)
    with pytest.raises(TypeError, match=r"`examples`\['c\d+'\]") as caught:
        on(workers, weighted, data, np.ones(70, F))
    notes = "\n".join(caught.value.__notes__)
    assert "raised in weighted" in notes
    assert "the clients 'c" in notes
