"""Many models at once: lanes, and successive halving, as ratios.

Twenty dense models of 784-200-200-10, trained by writers of MNIST with other
seeds, on writers' test examples: in lanes and one after another, in turns, and
standard errors of differences, paired and not. On the digits: successive
halving on a grid of nine client learning rates, beside training all of them as
long as the best, for some seeds::

    python benchmarks/many_models.py

Prints a line of JSON for each part.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import real_data

import fedlearn as fl

RATES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]


def trained(train, count):
    """A dense model after 20 rounds of 10 writers, by `count` seeds."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(200, "relu"),
            keras.layers.Dense(200, "relu"),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    process = fl.FederatedAveraging(
        model, client=fl.LocalTraining(batch_size=20)
    )
    models = {}
    for seed in range(count):
        state = process.initialize(seed)
        sampler = fl.samplers.Uniform(train, 10, seed=seed)
        for round_num in range(20):
            cohort = train.select(sampler.sample(round_num))
            state, _ = process.next(state, cohort)
        models[str(seed)] = process, state
    return models


def lanes(args):
    train, test = real_data.mnist_by_writer(args.data)
    clients = test.sample(args.clients, seed=0)
    models = trained(train, args.models)
    seconds = {"sequential": [], "vectorized": []}
    means = {}
    for turn in range(args.turns + 1):
        for executor, times in seconds.items():
            started = time.perf_counter()
            found = fl.evaluate_many(models, clients, executor=executor)
            spent = time.perf_counter() - started
            means[executor] = list(found.mean.values())
            if turn:  # the first is warming up
                times.append(spent)
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    errors = []
    for each in (10, 20, 40):
        part = fl.evaluate_many(models, test, each, seed=0)
        told = part.paired("0", "1")
        apart = np.hypot(part.standard_error["0"], part.standard_error["1"])
        errors.append([each, told.standard_error, float(apart)])
    return {
        "part": "lanes",
        "backend": keras.backend.backend(),
        "models": args.models,
        "clients": args.clients,
        "sequential_s": statistics.median(seconds["sequential"]),
        "lanes_s": statistics.median(seconds["vectorized"]),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "largest_difference": float(
            np.max(np.abs(np.subtract(*means.values())))
        ),
        "clients_paired_apart": errors,
    }


def build(learning_rate):
    model = fl.models.digits_cnn(seed=0)
    model.compile(
        keras.optimizers.SGD(learning_rate), "sparse_categorical_crossentropy"
    )
    return model, fl.LocalTraining(batch_size=10)


def halving(args):
    train, _ = fl.datasets.digits.load_data()
    found = []
    for seed in range(args.seeds):
        arguments = {"clients_per_round": 10, "seed": seed, "verbose": 0}
        space = {"learning_rate": RATES}
        # Rungs of 9 for 5 rounds each, and 3 for 15 more.
        part = fl.search(build, space, train, 900, **arguments)
        rounds = part.rungs[-1].rounds
        budget = len(RATES) * rounds * 10
        whole = fl.search(
            build, space, train, budget, method="grid", **arguments
        )
        best = whole.comparison.ranking
        chosen = part.comparison.ranking[0]
        found.append(
            {
                "seed": seed,
                "grid": whole.best["learning_rate"],
                "halving": part.best["learning_rate"],
                "place_in_grid": best.index(chosen) + 1,
                "loss": [whole.comparison.mean[n] for n in (best[0], chosen)],
                "failed": sum(row["failed"] for row in whole.rows),
                "share_of_cost": part.spent / whole.spent,
            }
        )
    return {
        "part": "halving",
        "backend": keras.backend.backend(),
        "rounds": rounds,
        "runs": found,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    real_data.add_argument(parser)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    print(json.dumps(lanes(args)), flush=True)
    if args.seeds:
        print(json.dumps(halving(args)), flush=True)


if __name__ == "__main__":
    main()
