"""Every algorithm where numbers are float64 unless something else is said."""

import contextlib

import keras
import numpy as np
import pytest

import fedlearn as fl
from tests import zoo
from tests.algorithms import quadratics as q
from tests.algorithms.test_personal_layers import is_bias

A = fl.algorithms


@contextlib.contextmanager
def floatx(dtype):
    policy = keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy(policy)


MADE = {
    "scaffold": lambda m, **k: A.Scaffold(m, population=4, **k),
    "feddyn": lambda m, **k: A.FedDyn(m, alpha=1.0, population=4, **k),
    "fednova": A.FedNova,
    "fedexp": A.FedExP,
    "mime": A.Mime,
    "mimelite": A.MimeLite,
    "qfedavg": A.QFedAvg,
    "agnostic": lambda m, **k: A.AgnosticFedAvg(m, domains=q.EVERYONE, **k),
    "ditto": A.Ditto,
    "apfl": A.APFL,
    "fedrep": lambda m, **k: A.FedRep(m, personal=is_bias, head_steps=2, **k),
    "fedrecon": lambda m, **k: A.FedRecon(m, personal=is_bias, **k),
    "clustered": A.Clustered,
}


def trained(name):
    client = fl.LocalTraining(batch_size=4, epochs=2, shuffle=False)
    model = q.model()
    model.set_weights([np.array([[0.5], [-1.0], [2.0]]), np.zeros(1)])
    process = MADE[name](model, client=client, executor="sequential")
    return q.run(process, q.SOME[:2])[0].trainable


@pytest.mark.parametrize("name", MADE)
def test_it_is_that_of_float32(name):
    expected = q.flat(trained(name))
    with floatx("float64"), zoo.floats("float64"):
        found = q.flat(trained(name))
    assert found.dtype == "float64"
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
