"""The three programs of `core.py` in TensorFlow Federated 0.87.

`core.py --tff PYTHON` runs it, by the Python of an environment in which
`tensorflow-federated` is; it needs nothing of ours. It is given a folder with
two of the programs as `to_federated_language` writes them, and checks that
they give there what TFF's own give.
"""

import json
import os
import pathlib
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import computation_pb2

F = np.float32
READINGS = tff.FederatedType(F, tff.CLIENTS)
NUMBER = tff.FederatedType(F, tff.SERVER)
SHAPES = ((20, 16), (16,), (16, 3), (3,))
WEIGHTS = [tff.TensorType(F, shape) for shape in SHAPES]
DATA = tff.StructType(
    [
        ("x", tff.TensorType(F, (20, 20))),
        ("y", tff.TensorType(np.int32, (20,))),
    ]
)


@tff.federated_computation(READINGS)
def average(readings):
    return tff.federated_mean(readings)


@tff.tensorflow.computation(F, F)
def exceeds(reading, threshold):
    return tf.cast(reading > threshold, tf.float32)


@tff.federated_computation(READINGS, NUMBER)
def share_above(readings, threshold):
    sent = tff.federated_broadcast(threshold)
    return tff.federated_mean(tff.federated_map(exceeds, (readings, sent)))


@tff.tensorflow.computation(WEIGHTS, F, DATA)
def train(weights, rate, data):
    weights = list(weights)
    for _ in range(5):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            hidden = tf.nn.relu(data["x"] @ weights[0] + weights[1])
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                data["y"], hidden @ weights[2] + weights[3]
            )
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, weights)
        weights = [
            w - rate * g for w, g in zip(weights, gradients, strict=True)
        ]
    return weights, tf.cast(tf.shape(data["y"])[0], tf.float32)


@tff.federated_computation(
    tff.FederatedType(WEIGHTS, tff.SERVER),
    NUMBER,
    tff.FederatedType(DATA, tff.CLIENTS),
)
def averaging(model, rate, data):
    sent = tff.federated_broadcast(model), tff.federated_broadcast(rate)
    trained = tff.federated_map(train, (*sent, data))
    return tff.federated_mean(trained[0], trained[1])


def median(seconds, call):
    """Milliseconds."""
    call()
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return round(statistics.median(times), 2)


def check(folder):
    readings = [F(20), F(21), F(25)]
    for name, own, args in (
        ("average", average, [readings]),
        ("share_above", share_above, [readings, F(20.5)]),
    ):
        data = pathlib.Path(folder, f"{name}.pb").read_bytes()
        written = tff.framework.deserialize_computation(
            computation_pb2.Computation.FromString(data)
        )
        types = str(written.type_signature), str(own.type_signature)
        assert types[0] == types[1], types
        assert written(*args) == own(*args)


def main(seconds):
    rng = np.random.default_rng(0)
    for num_clients in (3, 1000, 10_000):
        x = list(rng.normal(20, 3, num_clients).astype(F))
        for name, call in (
            ("average", lambda x=x: average(x)),
            ("share_above", lambda x=x: share_above(x, 20.5)),
        ):
            yield name, num_clients, median(seconds, call)
    start = [rng.normal(0, 0.1, shape).astype(F) for shape in SHAPES]
    for num_clients in (10, 100, 1000):
        clients = [
            {
                "x": rng.normal(size=(20, 20)).astype(F),
                "y": rng.integers(0, 3, 20).astype("int32"),
            }
            for _ in range(num_clients)
        ]
        call = lambda c=clients: averaging(start, 0.1, c)  # noqa: E731
        yield "averaging", num_clients, median(seconds, call)


if __name__ == "__main__":
    check(sys.argv[2])
    for line in main(float(sys.argv[1])):
        print(json.dumps(line), flush=True)
