"""Least squares at clients who differ, whose optimum NumPy knows."""

import keras
import numpy as np

from tests import zoo

SIZES = (8, 5, 12, 7)


def _client(rng, size, i):
    x = rng.normal(size=(size, 3)) * np.array([1.0, 0.5, 1.5])
    y = x @ (2 * rng.normal(size=3)) + i + 0.3 * rng.normal(size=size)
    return x.astype("float32"), y[:, None].astype("float32")


_RNG = np.random.default_rng(0)
CLIENTS = {str(i): _client(_RNG, n, i) for i, n in enumerate(SIZES)}


def model(rate=0.05, momentum=0.0, **kwargs):
    built = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(1, kernel_initializer="zeros", name="line"),
        ]
    )
    built.compile(keras.optimizers.SGD(rate, momentum=momentum), "mse")
    return built


def flat(arrays):
    """Kernel and bias as one vector."""
    return np.concatenate([np.ravel(np.asarray(a)) for a in arrays])


def with_ones(x):
    return np.c_[x, np.ones(len(x))].astype("float64")


def gradient(w, x, y):
    x = with_ones(x)
    return 2 * x.T @ (x @ w - y.ravel()) / len(x)


def loss(w, x, y):
    return np.mean((with_ones(x) @ w - y.ravel()) ** 2)


def optimum():
    """Of the mean over clients of their mean squared errors."""
    parts = [(with_ones(x), y) for x, y in CLIENTS.values()]
    a = sum(x.T @ x / len(x) for x, _ in parts)
    b = sum(x.T @ y.ravel() / len(x) for x, y in parts)
    return np.linalg.solve(a, b)


FULL_BATCH = {"batch_size": 100, "epochs": 5, "shuffle": False}
EVERYONE = tuple(CLIENTS)
SOME = [("0", "1", "2"), ("3", "1")] * 3


def run(process, cohorts, state=None, clients=CLIENTS):
    """A round for each of `cohorts`, which are ids; state and metrics."""
    state = process.initialize(seed=1) if state is None else state
    for cohort in cohorts:
        state, metrics = process.next(state, {i: clients[i] for i in cohort})
    return state, metrics


def assert_resumes(process, tmp_path):
    """A state that was saved leads to the same bits as one that wasn't."""
    state, _ = run(process, SOME[:2])
    process.save_state(state, tmp_path / "state")
    loaded = process.load_state(tmp_path / "state")
    one, two = (run(process, SOME[:2], s)[0] for s in (state, loaded))
    zoo.assert_equal(two.trainable, one.trainable)
    zoo.assert_equal(two.algorithm, one.algorithm)
    for i in one.client_states:
        zoo.assert_equal(two.client_states[i], one.client_states[i])


def trained(
    weights,
    data,
    rate,
    batch_size=100,
    epochs=5,
    momentum=0.0,
    corrected=lambda g, y, rows: g,
):
    """A client's weights after its steps of SGD, by NumPy."""
    (x, y), velocity = data, 0.0
    for _ in range(epochs):
        for at in range(0, len(y), batch_size):
            rows = slice(at, at + batch_size)
            g = corrected(gradient(weights, x[rows], y[rows]), weights, rows)
            velocity = momentum * velocity - rate * g
            weights = weights + velocity
    return weights
