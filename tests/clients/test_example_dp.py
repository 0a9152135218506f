import functools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers, ops

import fedlearn as fl
from fedlearn import backend
from fedlearn.clients import ExampleDP, private_trainer
from fedlearn.clients.private_trainer import PrivateTrainer
from fedlearn.clients.program import seed_words
from fedlearn.executors.sequential import Steps
from fedlearn.runs.run_privacy import RunPrivacy
from tests import zoo

RATE = 0.1
NOISE = 3.0


def process_of(dp, model=None, executor="sequential", privacy=None, **kwargs):
    kwargs = {"batch_size": 4, "epochs": 2, **kwargs}
    return fl.FederatedAveraging(
        model or zoo.regression(keras.optimizers.SGD(RATE)),
        client=fl.LocalTraining(dp=dp, **kwargs),
        executor=executor,
        privacy=privacy,
    )


@functools.cache
def private_process():
    """Poisson batches of 4 with clip norm 1 and noise, compiled once."""
    return process_of(ExampleDP(1.0, NOISE), executor="auto")


def after(process, clients):
    """Weights and metrics after one round."""
    state, metrics = process.next(process.initialize(), clients)
    return zoo.numpy(state.trainable), metrics


def expected_round(weights, data, batches, noises, clip_norm, batch_size):
    """DP-SGD on linear regression in NumPy, example by example."""
    weights = [np.asarray(w, np.float64) for w in weights]
    for positions, noise in zip(batches, noises, strict=True):
        total = [np.zeros_like(w) for w in weights]
        for i in positions:
            grads = zoo.gradient(weights, [a[i : i + 1] for a in data])
            norm = np.sqrt(sum((g**2).sum() for g in grads))
            if np.isfinite(norm):
                scale = min(1.0, clip_norm / norm)
                total = [
                    t + scale * g for t, g in zip(total, grads, strict=True)
                ]
        weights = [
            w - RATE * (t + z) / batch_size
            for w, t, z in zip(weights, total, noise, strict=True)
        ]
    return weights


# What a step computes.


def test_a_round_is_dp_sgd_as_written_in_numpy():
    # By the executor, with batches of many lengths and one NaN.
    process = private_process()
    x, y = zoo.line(13)
    x[5, 1] = np.nan
    state = process.initialize(seed=3)
    seed = process.client_seed(state, "a")
    program = process.program
    batches = program.batches(13, seed)
    assert len(batches) == 8
    assert len({len(b) for b in batches}) > 2
    assert any(5 in b for b in batches)
    words = seed_words(seed)
    noises = []
    for step in range(8):
        unit = NOISE * ops.convert_to_numpy(
            private_trainer._normal(words, step, 4)
        )
        noises.append([unit[:3, None], unit[3:]])
    weights = zoo.numpy(state.trainable)
    expected = expected_round(weights, (x, y), batches, noises, 1.0, 4)
    new, metrics = process.next(state, {"a": (x, y)})
    zoo.assert_close(new.trainable, expected, rtol=1e-4, atol=1e-5)
    assert np.isnan(metrics["loss"])  # bounded, and not silent
    assert metrics["num_rejected"] == 0


def test_without_noise_and_clip_it_is_plain_training():
    # With all that is outside the clip: regularizers, proximal.
    def model():
        model = keras.Sequential(
            [
                keras.Input((4, 4, 1)),
                layers.Conv2D(2, 3, kernel_regularizer="l2"),
                layers.GroupNormalization(2),
                layers.Flatten(),
                layers.Dense(3),
            ]
        )
        model.compile(
            keras.optimizers.SGD(0.05, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            weighted_metrics=["accuracy"],
        )
        return zoo.set_weights(model)

    rng = np.random.default_rng(0)
    client = (
        rng.normal(size=(7, 4, 4, 1)).astype("float32"),
        rng.integers(0, 3, 7).astype("int32"),
        rng.uniform(0.5, 2.0, 7).astype("float32"),
    )
    results = [
        after(process_of(dp, model(), proximal=0.3), [client])
        for dp in (None, ExampleDP(1e6, 0.0, batches="shuffled"))
    ]
    (plain, plain_metrics), (private, private_metrics) = results
    zoo.assert_close(private, plain, rtol=1e-4, atol=1e-5)
    for name, value in plain_metrics.items():
        assert private_metrics[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize("num_rows", [0, 3])
def test_rows_that_are_not_real_change_nothing(num_rows):
    trainer, broadcast, carry = started(private_process())
    data = zoo.line(num_rows)
    padded = [
        np.concatenate([a, np.full((4, *a.shape[1:]), np.nan, "float32")])
        for a in data
    ]
    short = backend.jit(trainer.step)(
        broadcast, carry, tuple(map(tensor, data))
    )
    long = backend.jit(trainer.step)(
        broadcast, carry, tuple(map(tensor, padded)), num_rows
    )
    zoo.assert_close(short.variables.trainable, long.variables.trainable)
    zoo.assert_close(short.variables.metrics, long.variables.metrics)
    if not num_rows:  # noise alone
        unit = private_trainer._normal(carry.seed, 0, 4)
        moved = [
            a - b
            for a, b in zip(
                zoo.numpy(short.variables.trainable),
                zoo.numpy(carry.variables.trainable),
                strict=True,
            )
        ]
        flat = np.concatenate([m.ravel() for m in moved])
        expected = -RATE * NOISE / 4 * ops.convert_to_numpy(unit)
        np.testing.assert_allclose(flat, expected, rtol=1e-3, atol=1e-6)


def tensor(array):
    return ops.convert_to_tensor(array)


def started(process, seed=0):
    program = process.program
    process.cohort([zoo.line(2)]).read(0)  # makes the metrics
    broadcast = process.receive(process.broadcast(process.initialize()))
    return program, broadcast, program.start(broadcast, seed_words(seed))


def moved_by_an_outlier():
    """How far one example moves a step, over the norm it is clipped to."""
    process = process_of(ExampleDP(0.5, 0.0, batches="shuffled"))
    trainer, broadcast, carry = started(process)
    step = backend.jit(trainer.step)
    x, y = zoo.line(4)
    weights = zoo.numpy(carry.variables.trainable)
    y = x @ weights[0] + weights[1] + 1e-3  # the others are nearly fitted
    away = y.copy()
    away[2] += 1e3
    kernel, bias = [
        a - b
        for a, b in zip(
            *(
                zoo.numpy(
                    step(
                        broadcast, carry, (tensor(x), tensor(labels))
                    ).variables.trainable
                )
                for labels in (y, away)
            ),
            strict=True,
        )
    ]
    norm = np.sqrt((kernel**2).sum() + (bias**2).sum())
    return norm / (RATE * 0.5 / 4)


def test_an_example_moves_a_step_by_the_clip_norm_and_a_bug_by_more(
    monkeypatch,
):
    assert 0.9 < moved_by_an_outlier() < 1.01

    def clips_the_mean(grads, real, clip_norm):
        mean = [ops.mean(g, axis=0, keepdims=True) for g in grads]
        one = private_trainer_clipped_sum(mean, real[:1], clip_norm)
        return [grads[0].shape[0] * g for g in one]

    private_trainer_clipped_sum = private_trainer.clipped_sum
    monkeypatch.setattr(private_trainer, "clipped_sum", clips_the_mean)
    assert moved_by_an_outlier() > 3.5


def test_clipped_sum_leaves_out_what_is_not_finite():
    rows = [[3.0, 4.0], [np.nan, 1.0], [1e30, 0.0], [0.0, 0.1], [9.0, 9.0]]
    real = np.array([True, True, True, True, False])
    (total,) = private_trainer.clipped_sum(
        [tensor(np.array(rows, "float32"))], tensor(real), 1.0
    )
    np.testing.assert_allclose(zoo.numpy([total])[0], [0.6, 0.9], rtol=1e-5)


# Noise.


def test_noise_is_the_same_on_every_backend_and_normal():
    first = ops.convert_to_numpy(private_trainer._normal(seed_words(1), 0, 6))
    recorded = [0.053872, -1.524712, -1.299189, 0.11544, 0.020503, 0.572289]
    np.testing.assert_allclose(first, recorded, rtol=1e-4, atol=1e-6)
    size = 40_000
    draws = {
        (seed, step): ops.convert_to_numpy(
            private_trainer._normal(seed_words(seed), step, size)
        )
        for seed, step in ((0, 0), (0, 1), (2**40, 0))
    }
    for values in draws.values():
        assert abs(values.mean()) < 5 / np.sqrt(size)
        assert abs(values.std() - 1) < 5 / np.sqrt(2 * size)
        assert abs((values**4).mean() - 3) < 5 * np.sqrt(96 / size)
    correlations = np.corrcoef(list(draws.values()))
    assert np.abs(correlations - np.eye(3)).max() < 5 / np.sqrt(size)


@pytest.mark.statistical
def test_the_noise_of_a_round_is_that_of_the_accounting():
    # Gradients are zero here: what the server sees of a round is noise.
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(1500, kernel_initializer="zeros")]
    )
    model.compile(keras.optimizers.SGD(RATE), loss="mse")
    dp = ExampleDP(clip_norm=2.0, noise_multiplier=1.5)
    process = process_of(dp, model, batch_size=5, epochs=1)
    data = (np.ones((20, 3), "float32"), np.zeros((20, 1500), "float32"))
    state = process.initialize()
    total, _ = process.next(state, {"a": data})
    one = flat(total)
    steps, of_a_step = 4, RATE * 1.5 * 2.0 / 5
    # The noise of one step makes gradients for the next, but tiny ones.
    assert one.std() == pytest.approx(of_a_step * np.sqrt(steps), rel=0.05)
    both, _ = process.next(state, {"a": data, "b": data})
    assert flat(both).std() == pytest.approx(
        of_a_step * np.sqrt(steps / 2), rel=0.05
    )
    later, _ = process.next(total, {"a": data})
    change = flat(later) - one
    assert abs(np.corrcoef(change, one)[0, 1]) < 0.1


def flat(state):
    return np.concatenate([w.ravel() for w in zoo.numpy(state.trainable)])


def test_secure_noise_is_new_each_time_and_seeded_noise_is_not():
    process, data = private_process(), {"a": zoo.line(9)}
    state = process.initialize(seed=5)
    again = process.next(state, data)[0]
    zoo.assert_equal(process.next(state, data)[0], again)
    secure = process_of(
        ExampleDP(1.0, NOISE), privacy=fl.privacy.Privacy(secure_noise=True)
    )
    seeds = {secure.client_seed(state, "a") for _ in range(5)}
    assert len(seeds) == 5
    assert len({process.client_seed(state, "a") for _ in range(5)}) == 1


def test_each_example_drops_units_of_its_own():
    model = keras.Sequential(
        [
            keras.Input((30,)),
            layers.Dropout(0.5),
            layers.Dense(1, kernel_initializer="zeros", use_bias=False),
        ]
    )
    model.compile(keras.optimizers.SGD(1.0), loss="mse")
    process = process_of(ExampleDP(1e6, 0.0), model, batch_size=8, epochs=1)
    trainer = process.program
    data = (np.ones((8, 30), "float32"), np.ones((8, 1), "float32"))
    process.cohort([data]).read(0)
    broadcast = process.receive(process.broadcast(process.initialize()))
    carry = trainer.start(broadcast, seed_words(7))
    batch = tuple(map(tensor, data))
    step = backend.jit(trainer.step)
    steps = [step(broadcast, carry, batch)]
    # Where each unit was kept: 2 for each example out of 8, times the rate.
    kept = [zoo.numpy(steps[0].variables.trainable)[0].ravel() / (2 * 2 / 8)]
    np.testing.assert_allclose(kept[0], np.round(kept[0]), atol=1e-4)
    assert len(set(np.round(kept[0]))) > 3  # 0 and 8 if all dropped the same
    fresh = steps[0]._replace(
        variables=steps[0].variables._replace(
            trainable=carry.variables.trainable
        )
    )
    second = step(broadcast, fresh, batch)
    assert not np.allclose(
        zoo.numpy(second.variables.trainable)[0].ravel() / (2 * 2 / 8), kept[0]
    )


# The loop.

DATA = zoo.clients((9, 5, 0, 12), make=zoo.line)


SAMPLER = fl.samplers.Uniform(DATA, 2, seed=1)


def fit(rounds, **kwargs):
    process = private_process()
    fresh = process.initialize(seed=4)
    kwargs = {"verbose": 0, "initial_state": fresh, **kwargs}
    history = process.fit(DATA, rounds, sampler=SAMPLER, seed=4, **kwargs)
    return process.state, history


def guarantee():
    sizes = {i: DATA.num_examples(i) for i in DATA}
    client = fl.LocalTraining(batch_size=4, epochs=2, dp=ExampleDP(1.0, NOISE))
    return fl.privacy.ExampleGuarantee(client, sizes, SAMPLER)


@pytest.mark.backend_free
def test_fit_logs_epsilon_and_goes_on_as_if_it_had_never_stopped(tmp_path):
    state, history = fit(3)
    expected = [guarantee().epsilon(t) for t in (1, 2, 3)]
    assert history.history["epsilon_example"] == expected
    assert "epsilon" not in history.history
    assert history.privacy_example == guarantee().statement(3)
    assert not hasattr(history, "privacy")
    fit(2, checkpoint_dir=tmp_path)
    resumed, continued = fit(3, checkpoint_dir=tmp_path)
    zoo.assert_equal(resumed, state)
    assert continued.history == history.history


@pytest.mark.backend_free
def test_a_budget_for_examples_stops_training(capsys):
    middle = (guarantee().epsilon(2) + guarantee().epsilon(3)) / 2
    budget = fl.callbacks.PrivacyBudget(middle, unit="example")
    _, history = fit(5, callbacks=[budget], verbose=2)
    assert len(history.history["epsilon_example"]) == 2
    assert "epsilon" not in history.history
    assert budget.statement == history.privacy_example
    printed = capsys.readouterr().out
    assert printed.count("for one example of a client (zero-out") == 1
    assert "Privacy(secure_noise=True) draws from the operating" in printed
    assert "outside the guarantee" in printed
    with pytest.raises(ValueError, match="to one client, only to one example"):
        fit(5, callbacks=[fl.callbacks.PrivacyBudget(9.0, unit="client")])


@pytest.mark.backend_free
def test_both_guarantees_are_told(capsys):
    process = fl.FederatedAveraging(
        zoo.regression(keras.optimizers.SGD(RATE)),
        client=fl.LocalTraining(batch_size=4, dp=ExampleDP(1.0, NOISE)),
        aggregator=fl.aggregators.PrivateMean(
            clip_norm=1.0, noise_multiplier=2.0, clients_per_round=4
        ),
    )
    history = process.fit(DATA, 1, verbose=2)
    assert (
        0 < history.history["epsilon"][0] != history.history["epsilon_example"]
    )
    printed = capsys.readouterr().out
    assert f"Privacy: {history.privacy}." in printed
    assert f"Privacy: {history.privacy_example}." in printed
    both = fl.callbacks.PrivacyBudget(1.0)
    with pytest.raises(ValueError, match="unit='client' or unit='example'"):
        process.fit(DATA, 1, verbose=0, callbacks=[both])


@pytest.mark.backend_free
def test_without_noise_there_is_no_epsilon():
    process = process_of(ExampleDP(1.0, 0.0, batches="shuffled"))
    assert not RunPrivacy(process, DATA, None).guarantees
    assert RunPrivacy(process_of(ExampleDP(1.0, 1.0)), DATA, None).guarantees


# Batches.


def batches(num_examples, seed=0, **kwargs):
    trainer = object.__new__(PrivateTrainer)  # without a model: draws only
    trainer.config = fl.LocalTraining(dp=ExampleDP(1.0, 1.0), **kwargs)
    trainer.dp = trainer.config.dp
    return trainer.batches(num_examples, seed)


@pytest.mark.backend_free
@given(st.integers(0, 40), st.integers(1, 50), st.integers(1, 3))
def test_the_number_of_poisson_batches_is_not_drawn(n, size, epochs):
    drawn = batches(n, batch_size=size, epochs=epochs)
    assert len(drawn) == epochs * -(-n // size)
    for positions in drawn:
        assert positions.dtype == np.int32
        assert (np.diff(positions) > 0).all()
        if size >= n:  # then everyone is in every batch
            assert len(positions) == n
    assert len(batches(n, batch_size=size, epochs=3, max_steps=2)) <= 2


@pytest.mark.backend_free
def test_poisson_batches_have_the_right_length_on_average():
    drawn = [
        b for seed in range(300) for b in batches(50, seed=seed, batch_size=5)
    ]
    lengths = np.array([len(b) for b in drawn])
    # 3,000 binomial draws of mean 5 and variance 4.5.
    assert abs(lengths.mean() - 5) < 5 * np.sqrt(4.5 / 3000)
    assert lengths.var() == pytest.approx(4.5, rel=0.15)
    counts = np.bincount(np.concatenate(drawn), minlength=50)
    assert abs(counts - 300).max() < 5 * np.sqrt(300)
    assert batches(50, seed=1, batch_size=5)[0].tolist() == drawn[10].tolist()


def test_no_drawn_row_is_left_out_where_lengths_are_rounded():
    process = process_of(ExampleDP(1.0, 1.0), batch_size=30)
    steps = Steps(process.program, process.program.step)
    lengths = [steps._size(n, ()) for n in range(100)]
    assert all(length >= max(n, 1) for n, length in enumerate(lengths))
    assert all(length - n <= 8 for n, length in enumerate(lengths))
    assert len(set(lengths)) == 13


# What is refused, and configuration.


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"clip_norm": 0.0}, "`clip_norm` must be a finite number above 0"),
        (
            {"clip_norm": float("inf")},
            "`clip_norm` must be a finite number above 0",
        ),
        (
            {"clip_norm": "adaptive"},
            "`clip_norm` must be a finite number above 0",
        ),
        (
            {"noise_multiplier": -1.0},
            "`noise_multiplier` must be .* at least 0",
        ),
        ({"noise_multiplier": float("nan")}, "`noise_multiplier` must be"),
        ({"batches": "uniform"}, "'poisson' or 'shuffled'"),
    ],
)
def test_arguments_out_of_range(arguments, match):
    with pytest.raises(ValueError, match=match):
        ExampleDP(**{"clip_norm": 1.0, "noise_multiplier": 1.0, **arguments})


@pytest.mark.backend_free
def test_config_round_trip():
    dp = ExampleDP(0.5, 2.0, "shuffled")
    client = fl.LocalTraining("adam", batch_size=3, dp=dp)
    copy = fl.LocalTraining.from_config(client.get_config())
    assert copy.get_config() == client.get_config()
    assert copy.dp.get_config() == dp.get_config()
    assert (
        fl.LocalTraining.from_config(fl.LocalTraining().get_config()).dp is None
    )


@pytest.mark.backend_free
def test_local_training_refuses_what_contradicts():
    with pytest.raises(TypeError, match=r"`dp` must be a .*ExampleDP"):
        fl.LocalTraining(dp=1.0)
    with pytest.raises(ValueError, match="drawn at random, but shuffle=False"):
        fl.LocalTraining(shuffle=False, dp=ExampleDP(1.0, 1.0))
    ordered = fl.LocalTraining(
        shuffle=False, dp=ExampleDP(1.0, 1.0, batches="shuffled")
    )
    assert ordered.num_steps(33) == 2


def test_the_vectorized_executor_is_refused():
    with pytest.raises(ValueError, match=r"random lengths.*sequential"):
        process_of(ExampleDP(1.0, 1.0), executor="vectorized")


class _AddsLoss(layers.Layer):
    def call(self, x):
        self.add_loss(ops.var(x))
        return x


class _OwnLoss(keras.Sequential):
    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs)


def _model(*between, cls=keras.Sequential, loss="mse", optimizer="sgd"):
    model = cls([keras.Input((3,)), *between, layers.Dense(1)])
    model.compile(optimizer, loss=loss)
    return model


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: _model(layers.BatchNormalization()), "GroupNormalization"),
        (lambda: _model(_AddsLoss()), "calls `add_loss`"),
        (lambda: _model(cls=_OwnLoss), "overrides `compute_loss`"),
        (
            lambda: _model(loss=keras.losses.MeanSquaredError(reduction="sum")),
            "reduction 'sum', so it is no mean",
        ),
        (
            lambda: _model(
                optimizer=keras.optimizers.LossScaleOptimizer(
                    keras.optimizers.SGD()
                )
            ),
            "LossScaleOptimizer follows",
        ),
    ],
)
def test_models_whose_examples_do_not_stand_alone(make, match):
    with pytest.raises(ValueError, match=match):
        process_of(ExampleDP(1.0, 1.0), make())


def test_statistics_that_do_not_change_are_taken():
    frozen = layers.BatchNormalization(trainable=False)
    known = layers.Normalization(mean=0.5, variance=2.0)
    adapted = layers.Normalization()
    adapted.adapt(np.arange(12.0, dtype="float32").reshape(4, 3))
    process = process_of(ExampleDP(1.0, 1.0), _model(frozen, known, adapted))
    before = process.initialize()
    after, metrics = process.next(before, DATA)
    assert metrics["num_rejected"] == 0
    zoo.assert_equal(after.non_trainable, before.non_trainable)
    assert np.any(
        ops.convert_to_numpy(after.trainable[-2])
        != ops.convert_to_numpy(before.trainable[-2])
    )


def test_a_second_gradient_of_a_batch_is_refused():
    class Twice(fl.algorithms.Algorithm):
        def corrected(self, local, carry, gradients):
            values = carry.variables, carry.optimizer
            more, _ = local.gradient(carry.variables.trainable, *values)
            return [a + b for a, b in zip(gradients, more, strict=True)]

    for dp in (None, ExampleDP(1.0, 1.0)):
        process = fl.LearningProcess(
            zoo.regression(),
            client=fl.LocalTraining(batch_size=4, dp=dp),
            algorithm=Twice(),
        )
        state = process.initialize()
        if dp is None:
            process.next(state, [zoo.line(8)])
            continue
        with pytest.raises(ValueError, match="Twice takes two gradients"):
            process.next(state, [zoo.line(8)])
