import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn.optimizers import FedAdagrad, FedAdam, FedYogi, Yogi
from tests import zoo

ALL = [FedAdagrad, FedAdam, FedYogi, Yogi]


def second_moment(cls, v, delta, beta_2):
    """Algorithm 2 of Reddi et al. 2021, one number."""
    if cls is FedAdagrad:
        return v + delta**2
    if cls is FedAdam:
        return beta_2 * v + (1 - beta_2) * delta**2
    return v - (1 - beta_2) * delta**2 * np.sign(v - delta**2)


class Slow:
    """The same algorithm's server, one number at a time, in float64."""

    def __init__(self, cls, x, rate, beta_1, beta_2, tau, start):
        self.x = [float(value) for value in x]
        self.m = [0.0] * len(x)
        self.v = [start] * len(x)
        self.cls = cls
        self.constants = rate, beta_1, beta_2, tau

    def apply(self, update):
        rate, beta_1, beta_2, tau = self.constants
        for i, delta in enumerate(np.ravel(update)):
            self.m[i] = beta_1 * self.m[i] + (1 - beta_1) * delta
            self.v[i] = second_moment(self.cls, self.v[i], delta, beta_2)
            self.x[i] += rate * self.m[i] / (self.v[i] ** 0.5 + tau)


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def make(cls, rate, beta_1, beta_2, tau, start=None):
    betas = {"beta_1": beta_1}
    if cls is not FedAdagrad:
        betas["beta_2"] = beta_2
    return cls(rate, epsilon=tau, initial_accumulator_value=start, **betas)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize(
    ("rate", "beta_1", "beta_2", "tau", "start"),
    [
        (0.01, 0.9, 0.999, 1e-3, 1e-6),
        (0.1, 0.0, 0.9, 1e-2, 0.0),
        (1.0, 0.5, 0.5, 1e-1, 1.0),
    ],
)
def test_equals_the_slow_one(cls, rate, beta_1, beta_2, tau, start):
    rng = np.random.default_rng(0)
    w = rng.normal(size=6)
    variable = keras.Variable(w.reshape(2, 3), dtype="float32")
    fast = make(cls, rate, beta_1, beta_2, tau, start)
    slow = Slow(cls, w, rate, beta_1, beta_2, tau, start)
    for step in range(20):
        # Large at first, then small, then zero: both signs of v - g^2.
        scale = 0.0 if step > 17 else 10.0 ** -(step // 6)
        gradient = scale * rng.normal(size=6)
        fast.apply(
            [keras.ops.array(gradient.reshape(2, 3), "float32")], [variable]
        )
        slow.apply(-gradient)
        np.testing.assert_allclose(
            numpy(variable).ravel(), slow.x, rtol=2e-5, atol=2e-6
        )


@pytest.mark.parametrize("cls", ALL)
def test_at_the_server_over_several_rounds(cls):
    # Each client takes one step on all its examples, so the mean update is
    # the pooled gradient times the clients' rate.
    data = list(zoo.clients((3, 9, 4), make=zoo.line).values())
    pooled = tuple(
        np.concatenate([client[i] for client in data]) for i in range(2)
    )
    model = zoo.regression(keras.optimizers.SGD(0.05))
    optimizer = make(cls, 0.03, 0.9, 0.99, 1e-3)
    process = fl.FederatedAveraging(
        model,
        client=fl.LocalTraining(batch_size=9, shuffle=False),
        server_optimizer=optimizer,
        executor="sequential",
    )
    state = process.initialize()
    weights = zoo.numpy(state.trainable)
    slow = [
        Slow(cls, w.ravel(), 0.03, 0.9, 0.99, 1e-3, 1e-3**2) for w in weights
    ]
    for _ in range(6):
        state, _ = process.next(state, data)
        gradients = zoo.gradient(weights, pooled)
        for one, gradient in zip(slow, gradients, strict=True):
            one.apply(-0.05 * np.asarray(gradient, np.float64))
        weights = [
            np.reshape(one.x, w.shape).astype("float32")
            for one, w in zip(slow, weights, strict=True)
        ]
        zoo.assert_close(zoo.numpy(state.trainable), weights, rtol=1e-4)
    assert not optimizer.built  # what is given is a recipe


def test_adam_of_the_paper_is_not_kerass():
    # The first step from v = 0 is (1 - beta_1) / sqrt(1 - beta_2) times the
    # rate; with Keras's bias correction it is the rate.
    for optimizer, step in (
        (FedAdam(1.0, 0.9, 0.999, 1e-8, 0.0), 0.1 / 0.001**0.5),
        (keras.optimizers.Adam(1.0, 0.9, 0.999, 1e-8), 1.0),
    ):
        w = keras.Variable(np.zeros(1, np.float32))
        optimizer.apply([keras.ops.full((1,), 0.5)], [w])
        np.testing.assert_allclose(numpy(w), [-step], rtol=1e-5)


def test_second_moment_starts_where_told_and_stays_positive():
    w = keras.Variable(np.zeros(3, np.float32))
    optimizer = Yogi(initial_accumulator_value=0.25)
    optimizer.build([w])
    np.testing.assert_allclose(numpy(optimizer._velocities[0]), [0.25] * 3)
    for g in (0.5, 1e-3, 0.4, 0.6, 0.0):
        optimizer.apply([keras.ops.full((3,), g)], [w])
        assert (numpy(optimizer._velocities[0]) > 0).all()


def test_a_small_gradient_after_a_large_one():
    # What sets Yogi apart from Adam: v forgets g = 1 by 1e-3 * g^2 a step,
    # not by 1e-3 * v.
    w = keras.Variable(np.zeros(1, np.float32))
    optimizer = Yogi(initial_accumulator_value=1.0)
    for _ in range(10):
        optimizer.apply([keras.ops.full((1,), 0.01)], [w])
    np.testing.assert_allclose(
        numpy(optimizer._velocities[0]), [1 - 10 * 1e-3 * 1e-4], rtol=1e-6
    )


@pytest.mark.parametrize("cls", ALL)
def test_starts_at_epsilon_squared_by_default(cls):
    w = keras.Variable(np.zeros(2, np.float32))
    optimizer = cls(epsilon=0.5)
    optimizer.build([w])
    np.testing.assert_allclose(numpy(optimizer._velocities[0]), [0.25, 0.25])


@pytest.mark.backend_free
@pytest.mark.parametrize("cls", ALL)
def test_config_round_trip(cls):
    optimizer = make(cls, 0.5, 0.8, 0.95, 0.1, 0.2)
    optimizer = cls.from_config(
        {**optimizer.get_config(), "weight_decay": 0.01, "clipnorm": 3.0}
    )
    config = keras.optimizers.serialize(optimizer)
    assert config["registered_name"] == f"fedlearn>{cls.__name__}"
    assert config["config"]["initial_accumulator_value"] == 0.2
    assert config["config"]["clipnorm"] == 3.0
    copy = keras.optimizers.deserialize(config)
    assert type(copy) is cls
    assert copy.get_config() == optimizer.get_config()


@pytest.mark.backend_free
def test_schedule_survives_the_round_trip():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    copy = Yogi.from_config(Yogi(schedule).get_config())
    assert copy._learning_rate.get_config() == schedule.get_config()


def regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 5)).astype(np.float32)
    y = x @ np.arange(5, dtype=np.float32)[:, None]
    model = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(1, kernel_initializer="zeros")]
    )
    return model, x, y


@pytest.mark.parametrize("cls", ALL)
def test_trains_under_fit_and_is_saved_with_the_model(cls, tmp_path):
    model, x, y = regression()
    model.compile(cls(1.0 if cls is FedAdagrad else 0.1), loss="mse")
    history = model.fit(x, y, batch_size=16, epochs=30, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] / 100
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for a, b in zip(
        model.optimizer.variables, loaded.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(numpy(a), numpy(b))


def test_weight_decay_is_applied():
    w = keras.Variable(np.ones(2, np.float32))
    Yogi(0.1, weight_decay=0.5).apply([keras.ops.zeros((2,))], [w])
    np.testing.assert_allclose(numpy(w), [0.95, 0.95], rtol=1e-6)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    "kwargs",
    [
        {"beta_1": 1.0},
        {"beta_2": -0.1},
        {"epsilon": 0.0},
        {"initial_accumulator_value": -1.0},
    ],
)
@pytest.mark.parametrize("cls", ALL)
def test_arguments_out_of_range(cls, kwargs):
    if cls is FedAdagrad and "beta_2" in kwargs:
        with pytest.raises(ValueError, match="beta_2"):  # Keras's own
            cls(**kwargs)
        return
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        cls(**kwargs)
