"""Least squares at clients who differ, whose optimum NumPy knows."""

import keras
import numpy as np

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


def optimum():
    """Of the mean over clients of their mean squared errors."""
    parts = [(with_ones(x), y) for x, y in CLIENTS.values()]
    a = sum(x.T @ x / len(x) for x, _ in parts)
    b = sum(x.T @ y.ravel() / len(x) for x, y in parts)
    return np.linalg.solve(a, b)
