"""Seconds a round, beside the floor: the same steps and nothing around them.

The floor is one compiled function that runs the round's minibatch steps on
data that is ready on the device: no sampling, no gathering, no metrics, no
optimizer object, no aggregator. A round of the floor and one of fedlearn's
take turns in one process, so that a machine whose speed drifts slows both::

    KERAS_BACKEND=tensorflow python benchmarks/speed.py --workload emnist-cnn
    KERAS_BACKEND=jax python benchmarks/speed.py --workload small

* emnist-cnn: 10 clients a round of 100 images of 28 x 28, 62 classes, batch
  20, a CNN of 1.2 M parameters. The floor loops over clients (TensorFlow).
* small: 100 clients a round of 20 examples of 784 floats, 10 classes, batch
  10, logistic regression. The floor on TensorFlow loops over clients, on JAX
  it is a `vmap` over them.

Prints one line of JSON.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

import fedlearn as fl

RATE = 0.1


class Workload:
    """The data and the model of one workload."""

    def __init__(self, name):
        cnn = name == "emnist-cnn"
        self.shape = (28, 28, 1) if cnn else (784,)
        self.classes = 62 if cnn else 10
        self.population, self.cohort = (100, 10) if cnn else (1000, 100)
        self.examples, self.batch = (100, 20) if cnn else (20, 10)
        self.steps = self.examples // self.batch
        rng = np.random.default_rng(0)
        size = (self.population, self.examples)
        x = rng.normal(size=(*size, *self.shape)).astype("float32")
        y = rng.integers(0, self.classes, size).astype("int32")
        self.x, self.y = x, y
        self.dataset = fl.FederatedDataset.from_clients(
            {f"c{i:04}": (x[i], y[i]) for i in range(self.population)}
        )

    def model(self):
        hidden = []
        if len(self.shape) == 3:
            hidden = [
                layers.Conv2D(32, 3, activation="relu"),
                layers.Conv2D(64, 3, activation="relu"),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dense(128, activation="relu"),
            ]
        model = keras.Sequential(
            [keras.Input(self.shape), *hidden, layers.Dense(self.classes)]
        )
        model.compile(
            optimizer=keras.optimizers.SGD(RATE),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return model

    def cohort_of(self, round_num):
        rng = np.random.default_rng([1, round_num])
        return rng.choice(self.population, self.cohort, replace=False)


def tensorflow_floor(workload, model):
    import tensorflow as tf

    loss = model.loss
    size, batch = workload.cohort, workload.batch

    @tf.function(autograph=False)
    def one_round(start, x, y):
        def client(k, total):
            def step(j, weights):
                rows = slice(j * batch, (j + 1) * batch)
                with tf.GradientTape() as tape:
                    tape.watch(weights)
                    out, _ = model.stateless_call(
                        weights, [], x[k, rows], training=True
                    )
                    value = loss(y[k, rows], out)
                grads = tape.gradient(value, weights)
                moved = [
                    w - RATE * g for w, g in zip(weights, grads, strict=True)
                ]
                return j + 1, moved

            _, weights = tf.while_loop(
                lambda j, _: j < workload.steps, step, [0, start]
            )
            moved = [
                t + w - s for t, w, s in zip(total, weights, start, strict=True)
            ]
            return k + 1, moved

        zeros = [tf.zeros_like(w) for w in start]
        _, total = tf.while_loop(lambda k, _: k < size, client, [0, zeros])
        return [s + t / size for s, t in zip(start, total, strict=True)]

    weights = [tf.identity(v.value) for v in model.trainable_variables]
    data = [
        [
            tf.constant(a[workload.cohort_of(r)])
            for a in (workload.x, workload.y)
        ]
        for r in range(4)
    ]

    def run(round_num):
        nonlocal weights
        weights = one_round(weights, *data[round_num % 4])
        [w.numpy() for w in weights]

    return run


def jax_floor(workload, model):
    import jax

    loss = model.loss
    steps = (workload.cohort, workload.steps, workload.batch)

    def value(weights, x, y):
        out, _ = model.stateless_call(weights, [], x, training=True)
        return loss(y, out)

    def client(weights, x, y):
        def step(local, batch):
            grads = jax.grad(value)(local, *batch)
            moved = [w - RATE * g for w, g in zip(local, grads, strict=True)]
            return moved, None

        return jax.lax.scan(step, weights, (x, y))[0]

    @jax.jit
    def one_round(weights, x, y):
        moved = jax.vmap(client, (None, 0, 0))(weights, x, y)
        return [w.mean(0) for w in moved]

    weights = [v.value for v in model.trainable_variables]
    data = []
    for r in range(4):
        ids = workload.cohort_of(r)
        x = workload.x[ids].reshape(*steps, *workload.shape)
        y = workload.y[ids].reshape(steps)
        data.append((jax.device_put(x), jax.device_put(y)))

    def run(round_num):
        nonlocal weights
        weights = one_round(weights, *data[round_num % 4])
        jax.block_until_ready(weights)

    return run


def fedlearn_round(workload, model, executor):
    process = fl.FederatedAveraging(
        model,
        client=fl.LocalTraining(batch_size=workload.batch),
        executor=executor,
    )
    state = process.initialize(seed=0)
    ids = workload.dataset.client_ids

    def run(round_num):
        nonlocal state
        chosen = [ids[i] for i in workload.cohort_of(round_num)]
        cohort = workload.dataset.select(chosen)
        state, _ = process.next(state, cohort)

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workload", choices=["emnist-cnn", "small"], default="small"
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--executor", default="auto")
    args = parser.parse_args()
    backend = keras.backend.backend()
    if backend == "jax" and args.workload == "emnist-cnn":
        parser.error("XLA on CPU can't loop over convolutions: no JAX floor")
    workload = Workload(args.workload)
    make = tensorflow_floor if backend == "tensorflow" else jax_floor
    rounds = {
        "floor": make(workload, workload.model()),
        "fedlearn": fedlearn_round(workload, workload.model(), args.executor),
    }
    times = {name: [] for name in rounds}
    cpu = {name: [] for name in rounds}
    for round_num in range(args.rounds + 3):
        for name, run in rounds.items():
            started = time.perf_counter(), time.process_time()
            run(round_num)
            times[name].append(time.perf_counter() - started[0])
            cpu[name].append(time.process_time() - started[1])
    warm = {name: np.array(t[3:]) for name, t in times.items()}
    warm_cpu = {name: np.array(t[3:]) for name, t in cpu.items()}
    print(
        json.dumps(
            {
                "workload": args.workload,
                "backend": backend,
                "rounds": args.rounds,
                "floor_s": round(float(np.median(warm["floor"])), 5),
                "fedlearn_s": round(float(np.median(warm["fedlearn"])), 5),
                "ratio": round(
                    float(np.median(warm["fedlearn"] / warm["floor"])), 3
                ),
                "ratio_cpu": round(
                    float(np.median(warm_cpu["fedlearn"] / warm_cpu["floor"])),
                    3,
                ),
                "first_round_s": round(times["fedlearn"][0], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
