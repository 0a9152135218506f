import keras
import numpy as np
import pytest
from keras import layers, ops

import fedlearn as fl
from fedlearn.clients.program import seed_words
from fedlearn.executors import auto
from fedlearn.executors.executor import ended, partial_sum
from tests import zoo

# Batches of 8, two epochs, at most three steps: single examples, last batches
# of 1 and 5, none at all, and clients whose steps are cut short.
SIZES = (1, 8, 9, 16, 0, 13)
EXECUTORS = (
    "sequential",
    "vectorized",
    # Which is one of the others.
    pytest.param("auto", marks=pytest.mark.backend_free),
)


@pytest.fixture(scope="module")
def cohort():
    return zoo.clients(SIZES)


@pytest.fixture(scope="module")
def by_hand(cohort):
    """Each client alone with Keras's own training, and the average of all."""
    process = zoo.classifier_process()
    state = process.initialize(seed=1)
    weights = zoo.weights_in(process, state)
    total = [np.zeros(w.shape) for w in weights]
    metrics = {"loss": 0.0, "accuracy": 0.0}
    steps = 0
    for i in cohort.client_ids:
        model = zoo.classifier()
        model.run_eagerly = keras.backend.backend() == "tensorflow"
        x, y = cohort[i]
        seed = process.client_seed(state, i)
        batches = process.program.batches(len(x), seed)
        for positions in batches:
            logs = model.train_on_batch(
                x[positions], y[positions], return_dict=True
            )
            for name in metrics:
                metrics[name] += len(positions) * float(logs[name])
            steps += len(positions)
        for t, after, w in zip(
            total, zoo.weights_of(model), weights, strict=True
        ):
            t += len(x) * (after - w)
    mean = [w + t / sum(SIZES) for w, t in zip(weights, total, strict=True)]
    return mean, {name: value / steps for name, value in metrics.items()}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_ragged_cohort_equals_each_client_alone(executor, cohort, by_hand):
    process = zoo.classifier_process(executor)
    state, metrics = process.next(process.initialize(seed=1), cohort)
    weights, expected = by_hand
    zoo.assert_close(zoo.weights_in(process, state), weights, rtol=2e-5)
    zoo.assert_same_metrics(metrics, expected)
    assert metrics["num_clients"] == len(SIZES)
    assert metrics["num_examples"] == sum(SIZES)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_same_round_twice_gives_the_same_bits(executor, cohort):
    process = zoo.classifier_process(executor)
    state = process.initialize(seed=1)
    one, other = (process.next(state, cohort) for _ in range(2))
    zoo.assert_equal(one, other)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_client_with_nan_is_left_out(executor, cohort):
    process = zoo.classifier_process(executor)
    state = process.initialize(seed=1)
    x, y = cohort["client_3"]
    data = {i: cohort[i] for i in cohort.client_ids}
    data["client_3"] = (np.full_like(x, np.nan), y)
    after, metrics = process.next(state, data)
    assert metrics["num_rejected"] == 1
    assert np.isfinite(metrics["loss"])

    del data["client_3"]
    known = zoo.classifier_process()
    expected, expected_metrics = known.next(state, data)
    zoo.assert_close(
        zoo.weights_in(process, after), zoo.weights_in(process, expected)
    )
    assert metrics["loss"] == pytest.approx(expected_metrics["loss"], rel=1e-5)


class Eager(fl.executors.Executor):
    """Uncompiled, on the last client first: what a third party may write."""

    def bind(self, program):
        def one(broadcast, client, seed):
            words = ops.convert_to_tensor(seed_words(seed))
            carry = program.start(broadcast, words)
            for positions in program.batches(client.num_examples, seed):
                batch = tuple(
                    ops.convert_to_tensor(a[positions]) for a in client.data
                )
                carry = program.step(broadcast, carry, batch)
            count = ops.convert_to_tensor(np.int32(client.num_examples))
            sums, kept, sent = ended(
                program, broadcast, carry, count, words, client.state
            )
            return partial_sum(program, sums, [client.id], [kept], [sent])

        def run(broadcast, cohort, seeds):
            order = range(len(cohort))[::-1]
            return sum(one(broadcast, cohort.read(i), seeds[i]) for i in order)

        return run


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
def test_each_client_draws_for_itself(executor):
    x, y = zoo.line(4)
    model = keras.Sequential(
        [keras.Input(x.shape[1:]), layers.GaussianNoise(1.0), layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    process = fl.FederatedAveraging(
        model, fl.LocalTraining(batch_size=4, shuffle=False), executor=executor
    )
    state = process.initialize()
    broadcast = process.broadcast(state)
    # Nothing but what the layer draws tells them apart.
    data = fl.FederatedDataset.from_clients({"a": (x, y), "b": (x, y)})
    one, other, both = (
        process.cohort_update(state, broadcast, c)
        for c in (data.select(["a"]), data.select(["b"]), data)
    )
    total, one, other, both = (
        zoo.numpy(keras.tree.flatten(update.summand))
        for update in (one + other, one, other, both)
    )
    zoo.assert_close(both, total)
    assert any(
        np.abs(a - b).max() > 1e-3 for a, b in zip(one, other, strict=True)
    )


def test_an_executor_of_a_third_party_plugs_in():
    cohort = zoo.clients((4, 8), make=zoo.line)
    process = fl.FederatedAveraging(
        zoo.regression(),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        executor=Eager(),
    )
    state, metrics = process.next(process.initialize(), cohort)
    known = zoo.regression_process()
    expected, expected_metrics = known.next(known.initialize(), cohort)
    zoo.assert_close(zoo.numpy(state.trainable), zoo.numpy(expected.trainable))
    assert metrics == pytest.approx(expected_metrics, rel=1e-5)


def test_lanes_in_blocks_equal_lanes_at_once():
    cohort = zoo.clients((4,) * 5, make=zoo.line)
    known = zoo.regression_process()
    expected, _ = known.next(known.initialize(), cohort)
    process = fl.FederatedAveraging(
        zoo.regression(),
        client=known.client,
        executor=fl.executors.Vectorized(max_lanes=2),
    )
    state, _ = process.next(process.initialize(), cohort)
    zoo.assert_close(zoo.numpy(state.trainable), zoo.numpy(expected.trainable))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_round_is_the_sum_of_its_shards_run_anywhere(executor):
    """Shards of another instance, last first, from parts of the cohort."""
    sizes = (3, 70, 0, 9, *[5] * 70)
    process, elsewhere = (
        fl.FederatedAveraging(
            zoo.regression(), fl.LocalTraining(batch_size=4), executor=executor
        )
        for _ in range(2)
    )
    state = process.initialize()
    broadcast = process.broadcast(state)
    clients = zoo.clients(sizes, make=zoo.line)
    clients = [clients[i] if len(clients[i][0]) else ([], []) for i in clients]
    expected = process.cohort_update(state, broadcast, clients)

    cohort = elsewhere.cohort(clients)
    seeds = [process.client_seed(state, i) for i in cohort.ids]
    run = elsewhere.executor.bind(elsewhere.program)
    shards = run.shards(cohort)
    positions = [i for shard in shards for i in shard.positions]
    assert sorted(positions) == list(range(len(sizes)))
    assert 1 < len(shards) <= 64
    total = run.total(len(shards))
    for number, shard in list(enumerate(shards))[::-1]:
        total.add(
            run.run_shard(
                elsewhere.receive(broadcast),
                cohort.part(shard.positions),
                [seeds[i] for i in shard.positions],
                shard.plan,
            ),
            number,
        )
    zoo.assert_equal(total.result(), expected)


def test_a_shard_that_cant_be_vectorised_changes_no_other(monkeypatch):
    """Clients of unlike shapes can't share lanes; those after them can."""
    model = keras.Sequential(
        [
            keras.Input((None, 1)),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    process = fl.FederatedAveraging(
        zoo.set_weights(model), fl.LocalTraining(batch_size=4), executor="auto"
    )

    def client(num_examples, length):
        x, y = zoo.line(num_examples)
        return np.repeat(x[:, :1, None], length, axis=1), y

    clients = [client(8, 5), *[client(8, 7)] * 4, *[client(16, 5)] * 5]
    run = process.executor.bind(process.program)
    cohort, tried = process.cohort(clients), []
    real = run._runs["vectorized"].run_shard

    def vectorized(broadcast, clients, seeds):
        tried.append(len(clients))
        return real(broadcast, clients, seeds)

    monkeypatch.setattr(run._runs["vectorized"], "run_shard", vectorized)
    state = process.initialize()
    received = process.receive(process.broadcast(state))
    for _ in range(2):
        run(received, cohort, list(range(10)))
    assert tried == [5, 5, 5]  # the first one is tried once


def test_too_little_memory_is_an_error_and_no_other_plan(monkeypatch):
    """Or the machine would decide on bits. Errors are the backend's own."""

    def runs_out(*_):
        if keras.backend.backend() == "tensorflow":  # asks for ten seconds
            import tensorflow as tf

            raise tf.errors.ResourceExhaustedError(None, None, "OOM")
        ops.zeros((2**46,))

    process = fl.FederatedAveraging(
        zoo.regression(), fl.LocalTraining(batch_size=4), executor="auto"
    )
    runs = process._run_cohort._runs
    monkeypatch.setattr(runs["vectorized"], "_run_block", runs_out)
    monkeypatch.setattr(runs["sequential"], "run_shard", None)
    clients = zoo.clients((4,) * 10, make=zoo.line)
    with pytest.raises(
        MemoryError, match=r"for 10 clients at once.*max_lanes=5"
    ):
        process.next(process.initialize(), clients)


@pytest.mark.parametrize("cores", [1, 4])
def test_long_rounds_of_many_clients_bring_one_hint(cores, monkeypatch, capsys):
    monkeypatch.setattr(auto, "_LONG", 0.0)
    monkeypatch.setattr(auto, "num_cores", lambda: cores)
    auto._hint.cache_clear()
    process = fl.FederatedAveraging(
        zoo.regression(), fl.LocalTraining(batch_size=4), executor="auto"
    )
    state = process.initialize()
    for _ in range(4):
        process.next(state, zoo.clients((4, 8) * 10, make=zoo.line))
    told = capsys.readouterr().err
    pays = cores > 1 and keras.backend.backend() == "tensorflow"
    assert told.count("executor='processes'") == int(pays)


@pytest.mark.parametrize(
    ("first", "batch_size", "backends"),
    [
        (layers.Dense(3), 8, ["jax", "tensorflow"]),
        # A heavy step, of 12 multiplications a row.
        (layers.Dense(3), 200_000, ["tensorflow"]),
        (layers.GRU(2), 8, ["jax"]),
        (layers.Conv1D(2, 2), 8, []),
    ],
    ids=["light", "heavy", "recurrent", "convolution"],
)
def test_what_auto_takes_in_lanes(first, batch_size, backends):
    model = keras.Sequential([keras.Input((2, 2)), first])
    model.compile("sgd", "mse")
    client = fl.LocalTraining(batch_size=batch_size)
    process = fl.FederatedAveraging(model, client, executor="auto")
    plan = process.executor.plan(process.program)
    in_lanes = keras.backend.backend() in backends
    assert plan.startswith("Vectorized" if in_lanes else "Sequential")


def test_too_few_lanes():
    with pytest.raises(ValueError, match="`max_lanes` must be a whole"):
        fl.executors.Vectorized(max_lanes=0)


def test_names_and_instances():
    get = fl.executors.get
    assert isinstance(get("sequential"), fl.executors.Sequential)
    assert isinstance(get("vectorized"), fl.executors.Vectorized)
    assert isinstance(get("auto"), fl.executors.Auto)
    assert get("devices") == fl.executors.Devices()
    executor = Eager()
    assert get(executor) is executor


@pytest.mark.parametrize(
    ("identifier", "error", "match"),
    [
        ("ray_", ValueError, r"there is no 'ray_'.*auto.*vectorized"),
        (None, TypeError, "`executor` must be a fedlearn"),
        (Eager, TypeError, "Make an instance of it"),
    ],
)
def test_what_is_no_executor(identifier, error, match):
    with pytest.raises(error, match=match):
        fl.executors.get(identifier)


@pytest.mark.parametrize("sizes", [[5], [7, 8, 6]])
def test_lanes_that_were_added_are_not_stacked(sizes):
    class Stack(fl.aggregators.RobustRule):
        def aggregate(self, value, weight):
            return [keras.ops.min(keras.ops.abs(v), axis=0) for v in value]

    rng = np.random.default_rng(0)
    clients = [
        (rng.normal(size=(n, 2)).astype("float32"), np.ones((n, 1), "float32"))
        for n in sizes
    ]
    totals = {}
    for executor in ("sequential", "vectorized"):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.set_weights([np.full((2, 1), 0.5), np.zeros(1)])
        model.compile("sgd", "mse")
        process = fl.FederatedAveraging(
            model,
            client=fl.LocalTraining(batch_size=4),
            aggregator=Stack(),
            executor=executor,
        )
        state, _ = process.next(process.initialize(), clients)
        totals[executor] = [
            keras.ops.convert_to_numpy(w) for w in state.trainable
        ]
    for a, b in zip(*totals.values(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
        assert np.abs(a).max() > 0
