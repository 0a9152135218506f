"""What becomes of BatchNormalization's statistics: three choices, measured.

MNIST by its writers (836), 50 of them a round, batch 20, one epoch, SGD 0.1,
a CNN of 5,410 weights with two BatchNormalization layers; with the mean and
with `PrivateMean`; and the same CNN with GroupNormalization::

    python benchmarks/batch_statistics.py

Loss and accuracy on the writers' test images, of the server's model and, for
`statistics="local"`, of those writers that took part, each with its own
statistics. One line of JSON for each row.
"""

import argparse
import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import real_data
from keras import layers

import fedlearn as fl

CLIENTS = 50


def cnn(normalization):
    keras.utils.set_random_seed(0)

    def norm():
        if normalization == "group":
            return layers.GroupNormalization(4)
        return layers.BatchNormalization(momentum=0.9)

    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 5, strides=2, use_bias=False),
            norm(),
            layers.ReLU(),
            layers.Conv2D(16, 3, strides=2, use_bias=False),
            norm(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def run(args, train, test, normalization, statistics, noise):
    aggregator = None
    if noise:
        aggregator = fl.aggregators.PrivateMean(
            noise_multiplier=noise, clients_per_round=CLIENTS
        )
    row = {
        "normalization": normalization,
        "statistics": statistics,
        "noise": noise,
    }
    try:
        process = fl.FederatedAveraging(
            cnn(normalization),
            client=fl.LocalTraining(batch_size=20, statistics=statistics),
            aggregator=aggregator,
        )
    except ValueError as error:
        print(json.dumps({**row, "refused": str(error)[:60]}), flush=True)
        return
    sampler = fl.samplers.Uniform(train, CLIENTS, seed=args.seed)
    state = process.initialize(args.seed)
    for round_num in range(args.rounds):
        cohort = train.select(sampler.sample(round_num))
        state, _ = process.next(state, cohort)

    def tell(name, metrics):
        row[f"{name}_loss"] = round(metrics["loss"], 3)
        row[f"{name}_accuracy"] = round(metrics["accuracy"], 3)

    known = set(state.client_states)
    tell("server", process.evaluate(state, _renamed(test)))
    if statistics == "local":
        seen = test.select([i for i in test.client_ids if i in known])
        tell("own", process.evaluate(state, seen))
        row["writers_seen"] = len(seen)
    smallest = [
        float(np.min(keras.ops.convert_to_numpy(value)))
        for value, variable in zip(
            state.non_trainable,
            process.model.non_trainable_variables,
            strict=True,
        )
        if "variance" in variable.name
    ]
    row["smallest_variance"] = min(smallest, default=None)
    print(json.dumps(row), flush=True)


def _renamed(data):
    """All clients as one that nobody has seen."""
    x, y = data.pooled()
    return {"everybody": (x, y)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    real_data.add_argument(parser)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--noise", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    train, test = real_data.mnist_by_writer(args.data)
    for noise in (0.0, args.noise):
        for statistics in ("average", "local", "frozen"):
            run(args, train, test, "batch", statistics, noise)
        run(args, train, test, "group", "average", noise)


if __name__ == "__main__":
    main()
