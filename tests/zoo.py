"""Tiny models with weights from NumPy, and data, for the tests of the core.

Both backends start from the same numbers. The processes here are shared by
all tests of a session, because compiling is what costs: their methods are
pure, and only `fit` changes anything (`process.state`, the model's weights).
"""

import contextlib
import functools
import re

import keras
import numpy as np
from keras import layers, ops

import fedlearn as fl
from fedlearn import backend


@contextlib.contextmanager
def floats(dtype):
    """Where a dtype exists: JAX has float64 only if it is told so."""
    if dtype != "float64" or backend.name != "jax":
        yield
        return
    import jax

    with jax.enable_x64(True):
        yield


def set_weights(model, seed=0):
    """Gives a model weights that don't depend on the backend."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if not keras.backend.is_float_dtype(variable.dtype):
            continue
        value = 0.5 * rng.normal(size=variable.shape)
        if variable.name in ("moving_variance", "gamma"):
            value = 0.5 + np.abs(value)
        variable.assign(value.astype("float32"))
    return model


def numpy(values):
    """Copies of backend arrays or Keras variables on the host."""
    return [
        np.array(ops.convert_to_numpy(getattr(v, "value", v)), copy=True)
        for v in values
    ]


def weights_of(model):
    """Copies of all weights and statistics of a model, without its seeds."""
    return numpy(v for v in model.variables if _is_weight(v))


def weights_in(process, state):
    """`weights_of` for the weights in a process's state, in that order."""
    model = process.functional_model.model
    values = {
        id(v): a
        for v, a in [
            *zip(model.trainable_variables, state.trainable, strict=True),
            *zip(
                model.non_trainable_variables, state.non_trainable, strict=True
            ),
        ]
    }
    return numpy(values[id(v)] for v in model.variables if _is_weight(v))


def _is_weight(variable):
    return keras.backend.is_float_dtype(variable.dtype)


def assert_close(actual, expected, rtol=1e-5, atol=1e-6):
    """Compares two lists of arrays."""
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def assert_equal(actual, expected):
    """Compares two pytrees bit by bit."""
    keras.tree.assert_same_structure(actual, expected)
    actual, expected = map(keras.tree.flatten, (actual, expected))
    for a, b in zip(numpy(actual), numpy(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def fit(model, data, eagerly=None, **kwargs):
    """`model.fit`; returns the last epoch's metrics.

    Compiling takes longer than running eagerly on TensorFlow, and on JAX
    where a model has but few operations.
    """
    if eagerly is None:
        eagerly = keras.backend.backend() == "tensorflow"
    model.run_eagerly = eagerly
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    history = model.fit(
        x, y, sample_weight=sample_weight, verbose=0, **kwargs
    ).history
    return {name: values[-1] for name, values in history.items()}


def assert_same_metrics(metrics, expected, rtol=1e-5, atol=1e-6):
    """Compares training metrics of a round with Keras's, names included."""
    counts = {
        "num_clients",
        "num_examples",
        "num_rejected",
        "bytes_up",
        "bytes_down",
    }
    assert set(metrics) - counts == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(
            metrics[name], value, rtol=rtol, atol=atol, err_msg=name
        )


def points(num_examples, seed=0):
    """Points in four dimensions, of three classes."""
    rng = np.random.default_rng([seed, num_examples])
    x = rng.normal(size=(num_examples, 4)).astype("float32")
    y = (x[:, 0] > 0).astype("int32") + (x[:, 1] > 0.5)
    return x, y.astype("int32")


def line(num_examples, seed=0):
    """Points in three dimensions, and a noisy linear function of them."""
    rng = np.random.default_rng([seed, num_examples, 1])
    x = rng.normal(size=(num_examples, 3)).astype("float32")
    noise = 0.1 * rng.normal(size=num_examples)
    y = x @ np.array([1.0, -2.0, 0.5]) + noise
    return x, y[:, None].astype("float32")


def classifier(optimizer=None, **kwargs):
    """Two dense layers with BatchNormalization between them."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, activation="tanh"),
            layers.BatchNormalization(momentum=0.9),
            layers.Dense(3),
        ]
    )
    kwargs.setdefault("metrics", ["accuracy"])
    model.compile(
        optimizer=optimizer or keras.optimizers.SGD(0.1, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **kwargs,
    )
    return set_weights(model)


def regression(optimizer=None, **kwargs):
    """Linear regression, whose gradient NumPy can tell (`gradient`)."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile(
        optimizer=optimizer or keras.optimizers.SGD(0.1), loss="mse", **kwargs
    )
    return set_weights(model)


def gradient(weights, data):
    """Of the mean squared error of `regression`."""
    (kernel, bias), (x, y) = weights, data
    error = x @ kernel + bias - y
    return [2 * x.T @ error / len(x), 2 * error.mean(axis=0)]


RAGGED = (8, 1, 0, 9, 7)
"""Numbers of examples: full batches of 8, and smaller ones."""


def clients(sizes=RAGGED, make=points):
    """A data set with a client of each size."""
    return fl.FederatedDataset.from_clients(
        {f"client_{i}": make(n, seed=i) for i, n in enumerate(sizes)}
    )


def spec_of(data):
    """What `process.build` takes, for a client's arrays."""
    return tuple(keras.KerasTensor(a.shape[1:], a.dtype.name) for a in data)


@functools.cache
def classifier_process(executor="sequential"):
    """Two shuffled epochs in batches of 8, with BatchNormalization."""
    return fl.FederatedAveraging(
        classifier(),
        client=fl.LocalTraining(batch_size=8, epochs=2, max_steps=3),
        executor=executor,
    )


@functools.cache
def regression_process():
    """Linear regression, batches of 4 in the order of the examples."""
    return fl.FederatedAveraging(
        regression(),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        executor="sequential",
    )


def assert_matches(pattern, text):
    """Finds a pattern in a text, and shows both if it isn't there."""
    assert re.search(pattern, text), f"{pattern!r} isn't in {text!r}"
