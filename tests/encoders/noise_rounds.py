"""Rounds of `Mean` without a process, for the tests of clips and noise."""

import keras
import numpy as np
from keras import ops

from fedlearn import backend
from fedlearn.encoders import noise_grid

SPEC = [
    keras.KerasTensor((50, 20), "float32"),
    keras.KerasTensor((), "float32"),
    keras.KerasTensor((0, 3), "float32"),
]


def updates(num_clients, spec=SPEC, scale=1.0, seed=0):
    """Normal updates: for each variable, an array with clients first."""
    rng = np.random.default_rng(seed)
    return [
        (scale * rng.normal(size=(num_clients, *s.shape))).astype("float32")
        for s in spec
    ]


def encode_all(encoder, values, params=(), seed=0):
    """`encode` compiled and mapped over clients; NumPy arrays."""
    rng = np.random.default_rng(seed)
    seeds = rng.integers(2**31, size=(len(values[0]), 2), dtype=np.int32)

    def run(values, seeds):
        return backend.vmap(lambda v, s: encoder.encode(v, params, s))(
            values, seeds
        )

    encoder = encoder.build([keras.KerasTensor(v.shape[1:]) for v in values])
    values = [ops.convert_to_tensor(v) for v in values]
    return backend.to_numpy(
        backend.jit(run)(values, ops.convert_to_tensor(seeds))
    )


def compiled_round(mean):
    """A round of an aggregator as a compiled function.

    Returns:
        `run(state, values, rng) -> (aggregate, state, metrics)`, where
        `values` are as `updates` makes them; the aggregate and the metrics
        come as NumPy arrays.
    """

    def summands(params, values, seeds):
        def one(value, seed):
            message, _ = mean.encode(value, params, seed, ())
            return mean.summand(message, ops.ones((), "float32"), params)

        return backend.vmap(one)(values, seeds)

    @backend.jit
    def step(state, values, seeds, noise):
        params = mean.params(state, ops.zeros((2,), "int32"))
        parts = summands(params, values, seeds)
        total = keras.tree.map_structure(lambda a: ops.sum(a, axis=0), parts)
        return mean.finish(state, total, params, noise)

    def run(state, values, rng):
        seeds = rng.integers(2**31, size=(len(values[0]), 2), dtype=np.int32)
        values = [ops.convert_to_tensor(v) for v in values]
        noise = mean.draw(state, rng)
        value, state, metrics = step(
            state, values, ops.convert_to_tensor(seeds), noise
        )
        return backend.to_numpy(value), state, backend.to_numpy(metrics)

    return run


def round_of(mean, values, rng):
    """The first round."""
    mean = mean.build(SPEC)
    return compiled_round(mean)(mean.init(), values, rng)


def flat(value):
    """All numbers of an update, one after another, float64."""
    return np.concatenate([np.ravel(v) for v in value]).astype(float)


def deviations(noise):
    """Drawn noise, in units of its deviation."""
    return flat(noise["steps"]) / noise_grid.STEPS_PER_DEVIATION


def assert_std(samples, expected):
    """That independent normal samples of mean 0 have a deviation.

    The estimate's own deviation is `expected / sqrt(2 n)`; five of them are
    exceeded once in 1.7 million tests.
    """
    samples = np.ravel(samples)
    actual = np.sqrt(np.mean(samples**2))
    margin = 5 * expected / np.sqrt(2 * len(samples))
    assert abs(actual - expected) < margin, (actual, expected, margin)


class UnitVectors:
    """Stands for a generator: draw `k` of `n` is the k-th unit vector.

    What is linear in what is drawn then shows its weights.
    """

    def __init__(self, num_draws):
        self.rows = iter(np.eye(num_draws))

    def standard_normal(self, shape):
        row = next(self.rows)
        assert shape == row.shape
        return row.copy()


def noises(encoder, num_rounds, rng, spec=None):
    """The noise of each round in units of its deviation, one row a round."""
    if spec is None:
        spec = [keras.KerasTensor((num_rounds,), "float32")]
    encoder = encoder.build(spec)
    state, rows = encoder.init(), []
    for _ in range(num_rounds):
        noise = encoder.draw(state, rng)
        state, _ = encoder.update(state, (), noise)
        rows.append(deviations(noise))
    return np.array(rows)
