import keras
import numpy as np
import pytest

from fedlearn.optimizers import Yogi


class SlowYogi:
    """Algorithm 2 of Zaheer et al. 2018, one number at a time."""

    def __init__(self, w, rate, beta_1, beta_2, epsilon, start):
        self.w = [float(x) for x in w]
        self.m = [0.0] * len(w)
        self.v = [start] * len(w)
        self.constants = rate, beta_1, beta_2, epsilon

    def apply(self, gradient):
        rate, beta_1, beta_2, epsilon = self.constants
        for i, g in enumerate(gradient):
            self.m[i] = beta_1 * self.m[i] + (1 - beta_1) * g
            sign = np.sign(self.v[i] - g * g)
            self.v[i] = self.v[i] - (1 - beta_2) * sign * g * g
            self.w[i] -= rate * self.m[i] / (self.v[i] ** 0.5 + epsilon)


def numpy(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.parametrize(
    ("rate", "beta_1", "beta_2", "epsilon", "start"),
    [
        (0.01, 0.9, 0.999, 1e-3, 1e-6),
        (0.1, 0.0, 0.9, 1e-2, 0.0),
        (1.0, 0.5, 0.5, 1e-1, 1.0),
    ],
)
def test_equals_the_slow_one(rate, beta_1, beta_2, epsilon, start):
    rng = np.random.default_rng(0)
    w = rng.normal(size=6)
    variable = keras.Variable(w.reshape(2, 3), dtype="float32")
    fast = Yogi(rate, beta_1, beta_2, epsilon, start)
    slow = SlowYogi(w, rate, beta_1, beta_2, epsilon, start)
    for step in range(20):
        # Large at first, then small, then zero: both signs of v - g^2.
        scale = 0.0 if step > 17 else 10.0 ** -(step // 6)
        gradient = scale * rng.normal(size=6)
        fast.apply(
            [keras.ops.array(gradient.reshape(2, 3), "float32")], [variable]
        )
        slow.apply(gradient)
        np.testing.assert_allclose(
            numpy(variable).ravel(), slow.w, rtol=2e-5, atol=2e-6
        )


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


def test_config_round_trip():
    optimizer = Yogi(
        learning_rate=0.5,
        beta_1=0.8,
        beta_2=0.95,
        epsilon=0.1,
        initial_accumulator_value=0.2,
        weight_decay=0.01,
        clipnorm=3.0,
    )
    config = keras.optimizers.serialize(optimizer)
    assert config["registered_name"] == "fedlearn>Yogi"
    copy = keras.optimizers.deserialize(config)
    assert isinstance(copy, Yogi)
    assert copy.get_config() == optimizer.get_config()


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


def test_trains_under_fit_and_is_saved_with_the_model(tmp_path):
    model, x, y = regression()
    model.compile(Yogi(0.1), loss="mse")
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


@pytest.mark.parametrize(
    "kwargs",
    [
        {"beta_1": 1.0},
        {"beta_2": -0.1},
        {"epsilon": 0.0},
        {"initial_accumulator_value": -1.0},
    ],
)
def test_arguments_out_of_range(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        Yogi(**kwargs)
