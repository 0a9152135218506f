import builtins
import os
import signal
import warnings

import numpy as np
import pytest

import fedlearn as fl
from fedlearn import core
from fedlearn.executors import Ray, Tiers
from fedlearn.executors import ray as module
from tests import zoo
from tests.executors import cases

pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")

# On JAX only what the backend has a part in.
free = pytest.mark.backend_free


@pytest.fixture(scope="module")
def workers():
    """Two workers, and no process of theirs afterwards."""
    before = set(psutil.Process().children(recursive=True))
    executor = Ray(num_workers=2, executor="sequential")
    yield executor
    started = set(psutil.Process().children(recursive=True)) - before
    assert started
    executor.close()
    _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive


@pytest.mark.parametrize(
    "case", [c for c in cases.AGGREGATORS if c != "lengths that vary"]
)
def test_two_workers_give_the_bits_of_one_process(case, workers):
    cases.check(case, workers)


def test_an_actor_killed_in_the_middle_of_a_round(workers, tmp_path):
    flag, driver = tmp_path / "killed", os.getpid()

    def kill_once(data):
        if os.getpid() != driver and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return data

    process = cases.process("scaffold", workers)
    found = cases.rounds(process, cases.clients().map(kill_once))
    zoo.assert_equal(found[0], cases.expected("scaffold")[0])
    assert found[1] == cases.expected("scaffold")[1]
    assert flag.exists()


@free
def test_tiers_are_told_the_same_with_workers(workers):
    data = cases.clients()
    expected, found = (
        cases.rounds(cases.process("median", Tiers([0, 2], executor)), data)
        for executor in ("sequential", workers)
    )
    zoo.assert_equal(found[0], expected[0])
    assert found[1] == expected[1]
    assert found[1][0]["tier_2_bytes_up"] > 0


@free
def test_a_computation_of_the_core(workers):
    @core.federated_computation("{float32}@CLIENTS")
    def mean(x):
        return core.federated_mean(x)

    x = np.random.default_rng(0).normal(size=100).astype("float32")
    with core.executor("sequential"):
        expected = mean(x)
    with core.executor(workers):
        assert mean(x) == expected


@free
def test_files_are_read_by_workers_and_not_by_the_driver(
    workers, tmp_path, monkeypatch
):
    data = cases.clients()
    data.save(tmp_path / "data")
    saved = fl.FederatedDataset.load(tmp_path / "data")
    process = cases.process("mean", workers)
    process.build(data.element_spec)

    def refuse(*args):
        raise AssertionError("the driver read a client")

    monkeypatch.setattr(type(saved.source), "load", refuse)
    found, _ = cases.rounds(process, saved)
    zoo.assert_equal(found, cases.expected("mean")[0])


@free
def test_nothing_listens_beyond_this_machine(workers):
    cases.rounds(cases.process("mean", workers), cases.clients(), 1)
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    addresses = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert addresses


@free
def test_no_machine_that_is_large_enough(workers):
    executor = Ray(gpus_per_worker=1000.0)
    process = cases.process("mean", executor)
    with pytest.raises(RuntimeError, match=r"No machine .* can hold a worker"):
        cases.rounds(process, cases.clients(), 1)
    workers._pool.start()
    executor.close()
    assert workers._pool.workers  # it leaves the others' Ray alone


@free
def test_a_fork_of_the_driver_leaves_ray_alone(workers):
    cases.check("mean", workers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads that a fork hasn't
        child = os.fork()
    if not child:
        status = 1
        try:
            workers._pool.start()
        except RuntimeError as error:
            status = int("is a fork of one" not in str(error))
        workers.close()
        os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0
    cases.check("mean", workers)


@free
def test_an_exception_of_the_users_code(workers):
    driver = os.getpid()

    def fail(data):
        if os.getpid() != driver:
            raise FileNotFoundError("no such drive")
        return data

    process = cases.process("mean", workers)
    with pytest.raises(FileNotFoundError, match="no such drive") as caught:
        cases.rounds(process, cases.clients().map(fail), 1)
    notes = "\n".join(caught.value.__notes__)
    zoo.assert_matches("raised for the clients 'client_", notes)
    zoo.assert_matches("in fail", notes)


@free
def test_without_ray_the_error_says_how_to_get_it(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "ray":
            raise ImportError("no ray")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    process = cases.process("mean", "ray")
    with pytest.raises(ImportError, match='pip install "ray>='):
        process.next(process.initialize(), cases.clients())


@free
def test_other_versions_are_an_error():
    theirs = {**module._versions(), "Keras": "2.15.0"}
    with pytest.raises(
        ValueError, match=r"it has .* and the driver .*2\.15\.0"
    ):
        module._Actor().start(theirs, {})


@free
def test_shares_of_gpus_and_none():
    def environment(share):
        return module._environment(Ray(gpus_per_worker=share))

    assert environment(0)["CUDA_VISIBLE_DEVICES"] == "-1"
    half = environment(0.5)
    assert half["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.450"
    assert half["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert "CUDA_VISIBLE_DEVICES" not in half
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in environment(1)
    machine = {"CPU": 7.0, "GPU": 2.0}
    assert module._room(machine, {"CPU": 2, "GPU": 0.0}) == 3
    assert module._room(machine, {"CPU": 1, "GPU": 0.4}) == 5
    assert module._room(machine, {"CPU": 8, "GPU": 0.0}) == 0
