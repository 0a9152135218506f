"""Workers in other processes: the same bits, whatever happens to them.

The oracle of all is this process.
"""

import copy
import gc
import itertools
import multiprocessing.spawn
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import types
import warnings
import weakref

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators, algorithms, attacks, encoders, executors
from fedlearn.data.formats import compact_file as formats
from fedlearn.executors import parcel, pool, processes, shard_runner
from fedlearn.executors.worker import _answer, environment
from tests import zoo
from tests.executors import cases

# Enough of one size to be run in lanes, one of another, so that there are
# several shards; one without examples, and one with NaN.
SIZES = (*[8] * 16, 7, 5, 16, 0)


@pytest.fixture(scope="module")
def workers():
    with_three = executors.Processes(num_workers=3)
    yield with_three
    with_three.close()


def clients():
    data = {f"c{i}": zoo.points(n, i) for i, n in enumerate(SIZES)}
    x, y = data["c5"]
    return {**data, "c5": (np.full_like(x, np.nan), y)}


DATA = fl.FederatedDataset.from_clients(clients())
IDS = DATA.client_ids


def own_loss(y_true, y_pred):
    """Not registered with Keras, and no constant of the module either."""
    return SCALE * keras.losses.sparse_categorical_crossentropy(
        y_true, y_pred, from_logits=True
    )


SCALE = 1.5


def model():
    built = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Normalization(mean=0.5, variance=2.0),
            keras.layers.Dense(5, activation=lambda x: keras.ops.relu(x) + 0.1),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2, seed=1),
            keras.layers.Dense(3, name="head"),
        ]
    )
    built.compile(keras.optimizers.SGD(0.1), own_loss, metrics=["accuracy"])
    return zoo.set_weights(built)


def process(executor, make=fl.FederatedAveraging, batch_size=4, **arguments):
    client = arguments.pop("client", fl.LocalTraining(batch_size=batch_size))
    return make(model(), client, executor=executor, **arguments)


def after_two_rounds(learner, data=DATA):
    state, results = learner.initialize(seed=3), []
    for _ in range(2):
        state, metrics = learner.next(state, data)
        results.append(metrics)
    kept = {i: state.client_states[i] for i in state.client_states}
    return state._replace(client_states=kept), results


@pytest.mark.parametrize("case", cases.AGGREGATORS)
def test_the_bits_are_those_of_one_process(case, workers):
    cases.check(case, workers)


@pytest.mark.backend_free
def test_what_clients_keep_isnt_in_the_memory_of_answers(workers):
    """Of which each is an open file, as long as one client's state is in it."""
    state, _ = cases.rounds(cases.process("scaffold", workers), cases.clients())
    kept = keras.tree.flatten(dict(state.client_states))
    assert kept
    assert all(array.flags.owndata for array in kept)


@pytest.mark.backend_free
def test_a_worker_adds_up_what_its_own_workers_have(workers):
    """Hierarchical aggregation on two levels of workers."""
    cases.check("scaffold", executors.Devices(["cpu:0"], workers))


LARGER = {
    "mean": lambda: {
        "client": fl.LocalTraining(batch_size=4, class_weight={0: 2.0, 1: 0.5})
    },
    "memory of clients": lambda: {
        "aggregator": aggregators.Mean(
            [encoders.ErrorFeedback([encoders.TopK(0.1)])]
        ),
        "client": fl.LocalTraining(batch_size=4, statistics="local"),
    },
    "messages of any length": lambda: {
        "aggregator": aggregators.Mean(
            [encoders.UniformQuantization(8), encoders.EntropyCoding()]
        ),
        "client": fl.LocalTraining(batch_size=4, statistics="frozen"),
    },
    "personal": lambda: {"make": algorithms.FedPer, "personal": "head"},
    "noise on examples": lambda: {
        "client": fl.LocalTraining(
            batch_size=4,
            statistics="frozen",
            dp=fl.clients.ExampleDP(clip_norm=1.0, noise_multiplier=0.5),
        ),
    },
}


# A worker runs what this process runs: on JAX, one with a state is enough.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[]
            if name == "memory of clients"
            else pytest.mark.backend_free,
        )
        for name in LARGER
    ],
)
def test_a_larger_model_in_lanes_and_one_after_another(name, workers):
    one, other = (
        after_two_rounds(process(executor, **LARGER[name]()))
        for executor in ("auto", workers)
    )
    zoo.assert_equal(one, other)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (algorithms.FedBuff, {"buffer_size": 3, "concurrency": 6}),
        (algorithms.Ditto, {}),
    ],
)
def test_asynchronous_rounds_and_personal_models(make, arguments, workers):
    data = zoo.clients(cases.SIZES, make=zoo.line)

    def fit(executor):
        client = fl.LocalTraining(batch_size=4)
        learner = make(zoo.regression(), client, executor=executor, **arguments)
        history = learner.fit(data, 3, verbose=0)
        kept = learner.state.client_states
        kept = {i: kept[i] for i in kept}
        return learner.state._replace(client_states=kept), history.history

    (one, expected), (other, found) = fit("sequential"), fit(workers)
    zoo.assert_equal(other, one)
    assert found == expected


@pytest.mark.backend_free
def test_attacks_go_to_the_workers_too(workers):
    one, other = (
        after_two_rounds(
            process(
                attacks.AttackedExecutor(
                    attacks.LittleIsEnough(), IDS[:2], executor
                )
            )
        )
        for executor in ("auto", workers)
    )
    zoo.assert_equal(one, other)


@pytest.mark.backend_free
def test_data_come_from_anywhere(workers, tmp_path):
    """From files, as lists, by a function, with empty lists in them."""
    DATA.save(tmp_path / "clients.h5")
    scale = 2.0
    sets = [
        fl.FederatedDataset.load(tmp_path / "clients.h5"),
        DATA.map(lambda d: (d[0] * scale, d[1])),
        [clients()[i] if len(clients()[i][1]) else ([], []) for i in IDS],
        dict(itertools.islice(clients().items(), 4)),
    ]
    one, other = process("auto"), process(workers)
    for data in sets:
        zoo.assert_equal(*(p.next(p.initialize(), data) for p in (one, other)))


@pytest.mark.backend_free
def test_who_gives_out_the_work_reads_no_client(workers, tmp_path, monkeypatch):
    DATA.save(tmp_path / "clients.h5")
    data = fl.FederatedDataset.load(tmp_path / "clients.h5")
    one, other = process("auto"), process(workers)
    expected = one.next(one.initialize(), data)
    other.build(zoo.spec_of(clients()["c0"]))

    def read(*_):
        raise AssertionError("a client was read here")

    monkeypatch.setattr(formats.CompactFile, "load", read)
    monkeypatch.setattr(formats.CompactFile, "all_examples", read)
    with pytest.raises(AssertionError, match="was read here"):
        data["c0"]
    zoo.assert_equal(other.next(other.initialize(), data), expected)


def test_workers_are_killed_at_any_moment(workers):
    """A bounded form of `benchmarks/kills.py`."""
    learner, data = cases.process("scaffold", workers), cases.clients()
    state, _ = cases.rounds(learner, data)
    hits, ends = [], threading.Event()

    def kill():
        rng = np.random.default_rng(0)
        while not ends.wait(rng.uniform(0.1, 0.5)) and len(hits) < 2:
            for worker in list(workers._pool.workers):
                if worker.is_ready and worker.process_id not in hits:
                    os.kill(worker.process_id, signal.SIGKILL)
                    hits.append(worker.process_id)
                    break

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        deadline = time.monotonic() + 60
        while len(hits) < 2 and time.monotonic() < deadline:
            state, _ = cases.rounds(learner, data)
            zoo.assert_equal(state, cases.expected("scaffold")[0])
    finally:
        ends.set()
        killer.join()
    assert len(hits) == 2


def test_a_resumed_run_with_other_workers(workers, tmp_path):
    """Number and kind don't count, threads do."""
    data = zoo.clients(cases.SIZES, make=zoo.line)

    def fit(executor, rounds, folder):
        learner = cases.process("scaffold", executor)
        learner.fit(data, rounds, checkpoint_dir=tmp_path / folder, verbose=0)
        return learner.state

    unbroken = fit(workers, 2, "unbroken")
    alone = executors.Processes(num_workers=1)
    fit(alone, 1, "broken")
    alone.close()
    zoo.assert_equal(fit(workers, 2, "broken"), unbroken)
    two_threads = executors.Processes(2, threads_per_worker=2)
    with pytest.raises(ValueError, match="threads was 1 and is now 2"):
        fit(two_threads, 3, "broken")


@pytest.mark.backend_free
def test_a_fork_of_the_driver_leaves_its_workers_alone(workers):
    workers._pool.start()
    before = list(workers._pool.workers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads that a fork hasn't
        child = os.fork()
    if not child:
        # What it would end when it is done, and what it would use.
        workers.close()
        workers._pool._num_workers = 0
        workers._pool.workers[:] = before
        workers._pool.start()
        os._exit(len(workers._pool.workers))
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert workers._pool.workers == before
    assert all(w._process.poll() is None for w in before)
    cases.check("mean", workers)


@pytest.mark.backend_free
def test_an_error_of_the_users_code(workers):
    class OwnError(Exception):
        pass

    def broken(arrays):
        if len(arrays[1]) == 16:
            raise OwnError("of a client")
        return arrays

    learner = process(workers)
    cohort = DATA.map(broken, same_length=True)
    with pytest.raises(Exception, match="of a client") as caught:
        learner.next(learner.initialize(), cohort)
    notes = "\n".join(caught.value.__notes__)
    assert type(caught.value).__name__ == "OwnError"
    assert "in broken" in notes
    assert "'c18'" in notes
    assert not workers._pool.workers


class TwoArgumentsError(Exception):
    """Python can't make it again from what it keeps of it."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


@pytest.mark.backend_free
@pytest.mark.parametrize(
    "error", [TwoArgumentsError(1, 2), SystemExit("enough")]
)
def test_errors_that_arent_handed_on_as_they_are(error):
    class Fails(shard_runner.ShardRunner):
        def run(self, job):
            raise error

    ours, its = socket.socketpair()
    with ours, its:
        _answer(7, Fails(), None).send(its)
        ticket, _, (received, text) = parcel.receive(ours)
    assert ticket == 7
    assert str(error) in str(received)
    assert "in run" in text
    assert isinstance(received, (RuntimeError, SystemExit))


@pytest.mark.backend_free
def test_who_dies_in_the_middle_of_a_message_is_dead(monkeypatch):
    workers = executors.Processes(1)._pool
    monkeypatch.setattr(workers, "replace", lambda worker: None)
    for length in (5, 12, 20):  # in the header, after it, in the rest
        ours, its = socket.socketpair()
        with its:
            its.sendall(parcel._HEADER.pack(100, 1)[:length].ljust(length))
        dead = types.SimpleNamespace(
            connection=ours, is_ready=True, end=lambda: "how it ended"
        )
        with ours:
            assert [e.error for e in workers._heard(dead)] == ["how it ended"]


@pytest.mark.backend_free
def test_who_is_stopped_can_be_given_work_and_is_replaced(monkeypatch):
    executor = executors.Processes(1)
    workers = executor._pool
    workers.start()
    (stopped,) = workers.workers
    os.kill(stopped.process_id, signal.SIGSTOP)
    try:
        # As much as goes through the socket, for more than one shard.
        parts = np.zeros(parcel._SMALL // 2, np.uint8)
        sent = {number: parcel.Parcel(parts) for number in range(3)}
        for ticket in range(2):
            stopped.run(ticket, parts, sent, [])
        monkeypatch.setattr(processes, "_SILENCE", 0.1)
        workers._num_workers = 0
        (event,) = workers.wait(None)
        assert (event.worker, event.ticket) == (stopped, None)
        zoo.assert_matches("it was stopped, and .* by SIGKILL", event.error)
    finally:
        assert "ended by SIGKILL" in stopped.end()
    assert not workers.workers


@pytest.mark.backend_free
def test_workers_that_cant_begin(monkeypatch):
    monkeypatch.setattr(
        multiprocessing.spawn, "get_executable", lambda: "false"
    )
    executor = executors.Processes(2)
    learner = cases.process("mean", executor)
    for _ in range(2):  # it counts anew
        with pytest.raises(
            RuntimeError, match=r"4 workers have ended before.*with status 1"
        ):
            cases.rounds(learner, cases.clients())
        assert not executor._pool.workers


@pytest.mark.backend_free
def test_nothing_is_kept_for_those_that_are_gone():
    workers = executors.Processes(1)._pool
    workers._num_workers = 0
    program = shard_runner.Program(process("auto").program, executors.Auto())
    crew = pool.Crew(workers, program)
    del program
    for _ in range(2):
        crew.begin([np.zeros(10)])
    assert len(workers.kept) == 2
    del crew
    gc.collect()
    assert not workers.kept
    # Data outlive those who train on them.
    workers.number_of(DATA.source)
    gone = weakref.ref(workers)
    del workers
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="of JAX alone")
def test_workers_compute_as_precisely():
    import jax

    assert "JAX_DEFAULT_MATMUL_PRECISION" not in environment(1)
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        settings = environment(1)
    finally:
        jax.config.update("jax_default_matmul_precision", None)
    assert settings["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"
    assert settings["JAX_ENABLE_X64"] == "False"


@pytest.mark.backend_free
def test_an_optimizer_with_a_schedule_of_ones_own():
    class Half(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.5

        def get_config(self):
            return {}

    there = parcel.unpickled(parcel.pickled(keras.optimizers.SGD(Half())))
    assert float(there.learning_rate) == 0.5


class Scaled(keras.Model):
    """Without a `get_config`, and `**kwargs`."""

    def __init__(self, units=1, scale=2.0):
        super().__init__()
        self.scale = scale
        self.dense = keras.layers.Dense(units)
        self.norm = keras.layers.BatchNormalization()

    def call(self, x, training=False):
        return self.scale * self.norm(self.dense(x), training=training)


@pytest.mark.backend_free
def test_a_model_of_ones_own_without_a_get_config():
    x, y = zoo.line(8)

    def sent(**arguments):
        model = Scaled(**arguments)
        model(x)
        model.norm.trainable = False
        model.compile("sgd", "mse")
        learner = fl.FederatedAveraging(model, executor="sequential")
        learner.build(zoo.spec_of((x, y)))
        there = shard_runner.Program(learner.program, learner.executor)
        return model, parcel.unpickled(parcel.pickled(there))

    model, there = sent()
    there.bind()
    copied = there.program.model.model
    assert not copied.norm.trainable
    zoo.assert_equal(copied(x), model(x))
    assert "get_config" not in vars(model)
    # Keras keeps no arguments of a model.
    for arguments in ({"scale": 3.0}, {"units": 2}):
        with pytest.raises(
            ValueError, match=r"(?s)make .* again.* a `get_config`"
        ):
            sent(**arguments)[1].bind()


@pytest.mark.backend_free
def test_threads_that_share_workers_take_turns():
    executor, at_work, most = executors.Processes(1), [], []
    executor._pool._num_workers = 0

    def slow(*args):
        at_work.append(args)
        time.sleep(0.1)
        most.append(len(at_work))
        at_work.pop()
        return iter(())

    threads = []
    for _ in range(2):
        learner = process(executor)
        run = learner._run_cohort
        run._dispatcher.run = slow
        args = ([np.zeros(1)], learner.cohort(DATA), [], {}, run.total(1))
        threads.append(threading.Thread(target=run.run_shards, args=args))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1]


@pytest.mark.backend_free
def test_what_cant_go_to_a_worker(workers):
    lock = threading.Lock()

    def loss(y_true, y_pred):
        with lock:
            return own_loss(y_true, y_pred)

    learner = process(workers)
    learner.model.compile("sgd", loss)
    learner = fl.FederatedAveraging(learner.model, executor=workers)
    with pytest.raises(TypeError, match=r"the model.*can't be pickled.*lock"):
        learner.next(learner.initialize(), DATA)


@pytest.mark.backend_free
def test_arguments():
    with pytest.raises(ValueError, match="`num_workers`"):
        executors.Processes(0)
    with pytest.raises(ValueError, match="`threads_per_worker`"):
        executors.Processes(1, 0)
    inner = attacks.AttackedExecutor(attacks.SignFlip(), [])
    with pytest.raises(ValueError, match="the other way round"):
        process(executors.Processes(1, executor=inner))
    assert isinstance(executors.get("processes"), executors.Processes)
    for made in (executors.Processes(2), executors.Devices(["cpu:0"])):
        for copied in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert copied == made
            assert copied._turn is not made._turn


SCRIPT = """
    import time
    import numpy as np, keras, fedlearn as fl

    def loss(y_true, y_pred):
        return keras.losses.mean_squared_error(y_true, y_pred)

    def slow(client):
        time.sleep(60)
        return client

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", loss)
    data = fl.FederatedDataset.from_clients(
        {str(i): (np.ones((4, 2)), np.ones((4, 1))) for i in range(4)}
    )
    executor = fl.executors.Processes(1)
    process = fl.FederatedAveraging(model, executor=executor)
    process.fit(data, rounds=1, verbose=0)
    print(*[w.process_id for w in executor._pool.workers], flush=True)
    process.fit(data.map(slow, same_length=True), rounds=1, verbose=0)
"""


@pytest.mark.integration
@pytest.mark.backend_free
@pytest.mark.parametrize("end", ["SIGINT", "SIGKILL"])
def test_a_script_leaves_no_process(end):
    """Without `if __name__ == "__main__"`, and with a loss of its own."""
    driver = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        worker = int(driver.stdout.readline())
        time.sleep(1.0)  # in the second run
        # Workers ignore what a terminal sends to all of its processes.
        os.kill(worker, signal.SIGINT)
        driver.send_signal(getattr(signal, end))
        _, errors = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert ("KeyboardInterrupt" in errors) == (end == "SIGINT")
    deadline = time.monotonic() + 20
    while _is_there(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _is_there(worker)


def _is_there(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True
