"""Encoders compress the download too."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import backend
from fedlearn.encoders import (
    Chain,
    Drive,
    HadamardRotation,
    PowerSGD,
    RandomMask,
    TopK,
    UniformQuantization,
)
from fedlearn.messages import wire
from tests import zoo

CHAINS = {
    "drive": [Drive()],
    "mask": [RandomMask(0.5)],
    "power": [PowerSGD(1)],
    "rotated": [HadamardRotation(64), UniformQuantization(8)],
    "top": [TopK(0.2)],
}


def model():
    built = keras.Sequential([keras.Input((30,)), keras.layers.Dense(20)])
    built.compile(keras.optimizers.SGD(0.1), "mse")
    return built


@pytest.mark.parametrize("name", CHAINS)
def test_clients_are_sent_what_can_be_decoded_of_the_bytes(name):
    encoders = CHAINS[name]
    process = fl.FederatedAveraging(
        model(), broadcast_encoders=encoders, executor="sequential"
    )
    state = process.initialize(seed=3)
    broadcast = process.broadcast(state)
    spec = [keras.KerasTensor(w.shape, w.dtype) for w in state.trainable]
    chain = Chain(encoders).build(spec)

    def encode(weights, seed):
        params = chain.params(chain.init(), seed)
        return chain.encode(list(weights), params, seed)[0], params

    seed = broadcast.trainable["seed"]
    encoded, params = backend.jit(encode)(state.trainable, seed)
    sent = wire.pack(backend.to_numpy(encoded))
    assert sent == wire.pack(broadcast.trainable["encoded"])
    expected = zoo.numpy(backend.jit(chain.decode)(wire.unpack(sent), params))
    received = process.receive(broadcast)
    for a, b in zip(zoo.numpy(received.trainable), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    # Smaller than 620 floats are.
    assert len(sent) < 0.8 * 4 * 620


def test_updates_are_relative_to_what_was_decoded():
    """A client that learns nothing has an update of 0, not of what the
    download lost; the server keeps its whole weights."""
    still = model()
    still.compile(keras.optimizers.SGD(0.0), "mse")
    process = fl.FederatedAveraging(
        still, broadcast_encoders=CHAINS["drive"], executor="sequential"
    )
    state = process.initialize()
    x = np.ones((2, 30), "float32")
    after, metrics = process.next(state, [(x, x[:, :20])] * 2)
    broadcast = process.broadcast(state)
    sent = zoo.numpy(process.receive(broadcast).trainable)
    whole = zoo.numpy(state.trainable)
    assert any(
        abs(a - b).max() > 0.01 for a, b in zip(sent, whole, strict=True)
    )
    zoo.assert_equal(after.trainable, state.trainable)
    # Trained from the decoded weights: their loss, and not the server's.
    loss = ((x @ sent[0] + sent[1] - x[:, :20]) ** 2).mean()
    assert metrics["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert metrics["bytes_down"] == 2 * len(wire.pack(broadcast.sent))
