"""Statistics of layers: averaged, kept at the client, left as they are."""

import keras
import numpy as np
import pytest
from keras import layers

import fedlearn as fl
from fedlearn import aggregators, encoders
from tests import zoo

EXACT = (aggregators.Mean, lambda: aggregators.Mean([encoders.Eden(1)]))


def private(clients_per_round=2):
    return aggregators.PrivateMean(
        0.1, noise_multiplier=5.0, clients_per_round=clients_per_round
    )


def compiled(*stack):
    model = keras.Sequential([keras.Input((3,)), *stack, layers.Dense(1)])
    zoo.set_weights(model)
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    return model


def normalized():
    """A model with an adapted layer and a frozen one."""
    norm = layers.Normalization()
    frozen = keras.Sequential([layers.Dense(3), layers.BatchNormalization()])
    frozen.trainable = False
    model = compiled(norm, frozen)
    norm.adapt(100 + 1e-3 * zoo.line(50)[0])
    return model


def live(momentum=0.5):
    return compiled(layers.BatchNormalization(momentum=momentum))


def process_of(model, aggregator=None, executor="sequential", **client):
    return fl.FederatedAveraging(
        model,
        client=fl.LocalTraining(batch_size=4, shuffle=False, **client),
        aggregator=aggregator,
        executor=executor,
    )


def cohort(sizes=(8, 4), scale=1.0):
    clients = {}
    for i, size in enumerate(sizes):
        x, y = zoo.line(size, seed=i)
        clients[f"client_{i}"] = (scale * (x + i), y)
    return clients


def statistics_of(process, state):
    positions = process.functional_model.roles.state
    return zoo.numpy(state.non_trainable[i] for i in positions)


# What training doesn't change.


@pytest.mark.parametrize("make", [*EXACT, private])
def test_what_nobody_trains_stays_bit_by_bit(make, tmp_path):
    model = normalized()
    before = zoo.weights_of(model)
    process = process_of(model, make())
    assert len(process.update_spec) == len(model.trainable_variables) == 2
    state = process.initialize()
    x = 100 + 1e-3 * zoo.line(6)[0]
    data = {k: (100 + 1e-3 * a, y) for k, (a, y) in cohort().items()}
    process.fit(data, rounds=2, verbose=0)
    state = process.state
    zoo.assert_equal(
        zoo.numpy(state.non_trainable),
        zoo.numpy(process.initialize().non_trainable),
    )
    unchanged = [
        np.array_equal(a, b)
        for a, b in zip(before, zoo.weights_of(model), strict=True)
    ]
    assert unchanged.count(False) == 2  # the last layer's kernel and bias
    assert_all_predict_the_same(process, state, x, tmp_path)


def assert_all_predict_the_same(process, state, x, folder):
    """The model in memory, a copy, and the files of both."""
    expected = zoo.numpy([process.model(x)])[0]
    assert np.isfinite(expected).all()
    models = [process.get_model(state)]
    for number, model in enumerate([process.model, models[0]]):
        path = folder / f"{number}.keras"
        model.save(path)
        models.append(keras.models.load_model(path))
    for model in models:
        zoo.assert_close(zoo.numpy([model(x)]), [expected])


def test_what_stays_is_no_part_of_the_bytes():
    heavy = compiled(
        layers.Dense(500, trainable=False), layers.Dense(1), layers.Dense(1)
    )
    process = process_of(heavy)
    _, metrics = process.next(process.initialize(), [zoo.line(4)])
    trained = sum(w.nbytes for w in zoo.numpy(heavy.trainable_variables))
    assert trained < metrics["bytes_up"] < trained + 400
    assert trained < metrics["bytes_down"] < trained + 400


@pytest.mark.slow
@pytest.mark.backend_free
def test_a_frozen_application_is_left_alone(tmp_path):
    base = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, include_top=False, pooling="avg"
    )
    base.trainable = False
    model = keras.Sequential([base, layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    process = process_of(model, private())
    assert len(process.update_spec) == 2
    x = np.random.default_rng(0).uniform(size=(8, 32, 32, 3))
    x = x.astype("float32")
    before = zoo.weights_of(base)
    data = {i: (x, x[:, 0, 0, :1]) for i in "ab"}
    process.fit(data, rounds=1, verbose=0)
    zoo.assert_equal(zoo.weights_of(base), before)
    assert_all_predict_the_same(process, process.state, x, tmp_path)


# What it does change: averaged.


@pytest.mark.parametrize("weighting", ["num_examples", "uniform"])
def test_the_average_is_the_weighted_mean_of_what_clients_have(weighting):
    process = process_of(live(), aggregators.Mean(weighting=weighting))
    start, clients = process.initialize(), cohort()
    alone = [
        statistics_of(process, process.next(start, {i: data})[0])
        for i, data in clients.items()
    ]
    state, _ = process.next(start, clients)
    weights = [8 / 12, 4 / 12] if weighting == "num_examples" else [0.5, 0.5]
    expected = [
        weights[0] * a + weights[1] * b for a, b in zip(*alone, strict=True)
    ]
    zoo.assert_close(statistics_of(process, state), expected)


def test_a_variance_never_falls_below_zero(tmp_path):
    """Constant features have no variance, however it is averaged."""
    model = live(momentum=1e-7)
    clients = {
        str(n): (np.full((n, 3), n, "float32"), np.ones((n, 1), "float32"))
        for n in (4, 12, 28, 44)
    }
    process = process_of(model)
    process.fit(clients, rounds=3, verbose=0)
    _, variance = statistics_of(process, process.state)
    assert (variance >= 0).all()
    assert variance.max() < 1e-6
    assert_all_predict_the_same(
        process, process.state, clients["4"][0], tmp_path
    )


def test_a_lossy_encoder_leaves_statistics_exact():
    exact, lossy = (process_of(live(), make()) for make in EXACT)
    results = [p.next(p.initialize(), cohort()) for p in (exact, lossy)]
    zoo.assert_close(
        statistics_of(lossy, results[1][0]),
        statistics_of(exact, results[0][0]),
    )
    values = sum(w.nbytes for w in statistics_of(lossy, results[1][0]))
    assert results[1][1]["bytes_up"] > 2 * values


def test_a_client_without_examples_has_nothing_to_say():
    process = process_of(live())
    start, (data, _) = process.initialize(), cohort().values()
    empty = tuple(a[:0] for a in data)
    one, _ = process.next(start, {"a": data})
    two, _ = process.next(start, {"a": data, "b": empty})
    zoo.assert_close(statistics_of(process, two), statistics_of(process, one))
    none, _ = process.next(start, {"b": empty})
    zoo.assert_equal(
        statistics_of(process, none), statistics_of(process, start)
    )


@pytest.mark.parametrize(
    "rule", [aggregators.Median(), aggregators.Krum(0), aggregators.Krum(1)]
)
def test_side_by_side_it_is_the_median(rule):
    process = process_of(live(), rule)
    start = process.initialize()
    clients = cohort((8, 8, 8, 8, 8))
    clients["client_4"] = (1e6 * clients["client_4"][0], clients["client_4"][1])
    plain = process_of(live())
    alone = [
        statistics_of(plain, plain.next(plain.initialize(), {i: data})[0])
        for i, data in clients.items()
    ]
    state, _ = process.next(start, clients)
    expected = [
        np.median(values, axis=0) for values in zip(*alone, strict=True)
    ]
    zoo.assert_close(statistics_of(process, state), expected, rtol=1e-4)


def test_too_few_clients_leave_a_rules_statistics_alone():
    process = process_of(live(), aggregators.Krum(1))
    start, clients = process.initialize(), cohort((8, 8, 8, 8, 8))
    for i in range(3):
        clients[f"client_{i}"] = (np.full((8, 3), np.nan), np.ones((8, 1)))
    state, metrics = process.next(start, clients)
    assert metrics["num_aggregated"] == 0
    zoo.assert_equal(
        statistics_of(process, state), statistics_of(process, start)
    )


REFUSED = {
    "noise": private,
    "a share of noise": lambda: aggregators.Mean(
        [
            encoders.DistributedDiscreteGaussian(
                1.0, norm=1.0, clients_per_round=2
            )
        ],
        weighting="uniform",
        denominator=2,
    ),
    "noise at the client": lambda: aggregators.Mean(
        [encoders.Clip(1.0), encoders.LocalGaussianNoise(1.0)]
    ),
    "a secure sum": lambda: aggregators.SecureSum(
        clients_per_round=2, value_range=1.0
    ),
    "a bounded sum": lambda: aggregators.NormBounding(1.0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_averaged_is_refused_with_the_ways_out(name):
    with pytest.raises(
        ValueError,
        match=r"\(BatchNormalization\) can't be averaged.*'frozen'.*'local'.*"
        "GroupNormalization",
    ):
        process_of(live(), REFUSED[name]())
    for choice in ("local", "frozen"):
        process_of(live(), REFUSED[name](), statistics=choice)
    process_of(normalized(), REFUSED[name]())


# Kept at the client.


def with_statistics(model, values):
    model.layers[0].moving_mean.assign(values[0])
    model.layers[0].moving_variance.assign(values[1])
    return model


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
@pytest.mark.parametrize(
    "links", [(), (encoders.ErrorFeedback([encoders.TopK(1.0)]),)]
)
def test_each_client_goes_on_with_its_own(executor, links):
    """Against `fit` of a model for each client, with averaged weights."""
    process = process_of(
        live(),
        aggregators.Mean(links, weighting="uniform"),
        executor,
        statistics="local",
    )
    clients = cohort((8, 8))
    models = [live() for _ in clients]
    state = process.initialize()
    for _ in range(2):
        state, _ = process.next(state, clients)
        for model, data in zip(models, clients.values(), strict=True):
            zoo.fit(model, data, batch_size=4, shuffle=False)
        mean = [
            np.mean(values, axis=0)
            for values in zip(
                *(zoo.numpy(m.trainable_variables) for m in models),
                strict=True,
            )
        ]
        for model in models:
            for variable, value in zip(
                model.trainable_variables, mean, strict=True
            ):
                variable.assign(value)
    zoo.assert_close(zoo.numpy(state.trainable), mean)
    for model, (client_id, (x, y)) in zip(models, clients.items(), strict=True):
        own = state.client_states[client_id].personal
        expected = zoo.numpy(model.non_trainable_variables)
        zoo.assert_close(own, expected)
        copy = process.get_model(state, client=client_id)
        zoo.assert_close(zoo.weights_of(copy), zoo.weights_of(model))
        found = process.evaluate(state, {client_id: (x, y)})["loss"]
        model.run_eagerly = True
        assert found == pytest.approx(model.evaluate(x, y, verbose=0), 1e-5)


def test_a_client_that_was_never_seen_gets_the_servers(tmp_path):
    process = process_of(live(), private(), statistics="local")
    start = process.initialize()
    process.fit(cohort(), rounds=2, verbose=0)
    state = process.state
    zoo.assert_equal(
        statistics_of(process, state), statistics_of(process, start)
    )
    x, y = zoo.line(6)
    found = process.evaluate(state, {"new": (x, y)}, per_client=True)
    expected = float(np.mean((zoo.numpy([process.model(x)])[0] - y) ** 2))
    assert found["loss"] == pytest.approx(expected, 1e-5)
    assert found["per_client"]["new"]["loss"] == found["loss"]
    assert_all_predict_the_same(process, state, x, tmp_path)

    path = tmp_path / "state"
    process.save_state(state, path)
    loaded = process.load_state(path)
    zoo.assert_equal(loaded.client_states, state.client_states)
    one, other = (process.next(s, cohort())[0] for s in (state, loaded))
    zoo.assert_equal(one.trainable, other.trainable)


def test_the_halves_pass_own_statistics_in_and_out():
    process = process_of(live(), statistics="local")
    state, data = process.initialize(), zoo.line(8)
    broadcast = process.broadcast(state)
    update, kept = process.client_update(broadcast, data, 1, ())
    again, more = process.client_update(broadcast, data, 1, kept)
    assert np.abs(more.personal[0] - kept.personal[0]).max() > 1e-3
    # Batch statistics are what training uses, so the weights are the same.
    zoo.assert_close(
        keras.tree.flatten(again.summand), keras.tree.flatten(update.summand)
    )
    # Of an update that isn't finite nothing is kept.
    x, y = data
    _, same = process.client_update(broadcast, (x * np.nan, y), 1, kept)
    zoo.assert_equal(same.personal, kept.personal)


# Left as they are.


class Still(layers.BatchNormalization):
    """Uses its statistics in training, as in inference."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)


def test_left_as_they_are_they_are_used_in_training_too():
    process = process_of(live(), statistics="frozen")
    start, data = process.initialize(), zoo.line(8)
    state, metrics = process.next(start, {"a": data})
    model = compiled(Still())
    expected = zoo.fit(model, data, batch_size=4, shuffle=False)
    zoo.assert_close(zoo.weights_in(process, state), zoo.weights_of(model))
    zoo.assert_same_metrics(metrics, expected)
    zoo.assert_equal(state.non_trainable, start.non_trainable)
    # Training and inference are the same function of the examples.
    one = process_of(live(), statistics="frozen", max_steps=1)
    x, y = (a[:4] for a in data)
    loss = one.evaluate(start, [(x, y)])["loss"]
    assert one.next(start, [(x, y)])[1]["loss"] == pytest.approx(loss, 1e-5)


def test_left_as_they_are_an_example_stands_alone():
    dp = fl.clients.ExampleDP(1.0, 1.0, batches="shuffled")
    for choice in ("average", "local"):
        with pytest.raises(ValueError, match="statistics='frozen'"):
            process_of(live(), dp=dp, statistics=choice)
    process = process_of(live(), dp=dp, statistics="frozen")
    start = process.initialize()
    state, _ = process.next(start, cohort())
    zoo.assert_equal(state.non_trainable, start.non_trainable)
    assert len(process.update_spec) == 4


def test_a_choice_that_is_none():
    with pytest.raises(ValueError, match="'average', 'local' or 'frozen'"):
        fl.LocalTraining(statistics="keep")
    client = fl.LocalTraining(statistics="local")
    config = client.get_config()
    assert fl.LocalTraining.from_config(config).statistics == "local"
