"""Models of float64, and of both float32 and float64, in whole rounds."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators as a
from fedlearn import encoders as e
from tests import zoo

DTYPES = {
    "float64": ("float64", "float64"),
    "mixed": ("float32", "float64"),
}

# How far a round moves the weights at most: each of 8 clients by a norm of 1,
# or as far as the longest honest update, and noise.
AGGREGATORS = {
    "clip": (lambda: a.Mean([e.Clip(1.0)], "uniform"), 1.0),
    "adaptive": (lambda: a.PrivateMean(noise_multiplier=0.1, **_ROUND), 0.3),
    "tree": (
        lambda: a.Mean([e.Clip(1.0), e.TreeNoise(0.1)], "uniform", 8.0),
        1.5,
    ),
    "secure_sum": (lambda: a.SecureSum([e.Clip(1.0)], bits=16, **_ROUND), 1.1),
    "skellam": (
        lambda: a.Mean([e.Skellam(0.1, 1.0, 8, bits=24)], "uniform", 8.0),
        1.5,
    ),
    "krum": (lambda: a.Krum(1), 1.5),
    "geometric_median": (lambda: a.GeometricMedian(), 1.5),
    "centered_clipping": (lambda: a.CenteredClipping(), 1.5),
    "norm_bounding": (lambda: a.NormBounding(1.0), 1.0),
}
_ROUND = {"clients_per_round": 8}


@pytest.fixture(autouse=True)
def floatx():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    with zoo.floats("float64"):
        yield
    keras.config.set_floatx(before)


def model_of(dtypes):
    first, second = DTYPES[dtypes]
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(2, dtype=first),
            keras.layers.Dense(1, dtype=second),
        ]
    )
    zoo.set_weights(model)
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    return model


def cohort(last):
    """Eight clients of which the last one's labels are of some size."""
    rng = np.random.default_rng(0)
    clients = [
        (rng.normal(size=(4, 3)), rng.normal(size=(4, 1))) for _ in range(8)
    ]
    x, y = clients[-1]
    return [*clients[:-1], (x, last * y)]


@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("name", AGGREGATORS)
def test_a_huge_finite_update_is_bounded(name, dtypes):
    make, reach = AGGREGATORS[name]
    process = fl.FederatedAveraging(
        model_of(dtypes), aggregator=make(), executor="sequential"
    )
    start = process.initialize()
    # Half of float32's range, where a part of the model has that.
    size = 1e59 if dtypes == "float64" else 1e25
    state, metrics = process.next(start, cohort(size))
    assert metrics["num_rejected"] == 0
    moved = [
        new - old
        for new, old in zip(
            zoo.numpy(state.trainable), zoo.numpy(start.trainable), strict=True
        )
    ]
    assert [m.dtype.name for m in moved[::2]] == list(DTYPES[dtypes])
    assert 0 < np.sqrt(sum(np.sum(m.astype(float) ** 2) for m in moved)) < reach


def test_float64_without_64_bits_is_float32():
    if keras.backend.backend() != "jax":
        pytest.skip("JAX holds float64 in 32 bits unless it is told otherwise")
    import jax

    keras.config.set_floatx("float32")
    truncated = pytest.warns(UserWarning, match="truncated to dtype float32")
    with jax.enable_x64(False), truncated:
        spec = fl.FederatedAveraging(model_of("float64")).update_spec
    assert {s.dtype for s in spec} == {"float32"}
