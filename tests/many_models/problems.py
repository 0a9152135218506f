"""Small classifiers, and clients for them."""

import keras
import numpy as np


def classifier(seed, width=4, metrics=("accuracy",)):
    initializer = keras.initializers.RandomNormal
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(
                width,
                "relu",
                kernel_initializer=initializer(stddev=1.0, seed=seed),
            ),
            keras.layers.Dense(
                3,
                "softmax",
                kernel_initializer=initializer(stddev=1.0, seed=seed + 100),
                name="head",
            ),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.1),
        "sparse_categorical_crossentropy",
        metrics=list(metrics),
    )
    return model


def clients_of(sizes, seed=0):
    """Clients of so many examples, by id: the largest of three features."""
    rng = np.random.default_rng(seed)
    clients = {}
    for i, size in enumerate(sizes):
        x = rng.normal(size=(size, 4)).astype("float32") + rng.normal() / 2
        clients[f"client {i}"] = (
            x,
            np.argmax(x[:, :3], axis=1).astype("int32"),
        )
    return clients
