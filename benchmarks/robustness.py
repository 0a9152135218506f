"""Attacks against aggregation rules: accuracy of all pairs.

A small task (the digits of scikit-learn, or with `--data` MNIST by writer),
the same malicious clients in every round that draws them::

    python benchmarks/robustness.py
    python benchmarks/robustness.py --attacks sign_flip --rules mean median

Each row is a rule, each column an attack; "none" is the rule without one.
Prints a table in Markdown and a line of JSON, and with `--speed` how long the
rules take on 100 updates of a million parameters (4 GB of memory).
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import real_data
from keras import ops

import fedlearn as fl
from fedlearn import aggregators, attacks, backend

NUM_CLASSES = 10
TARGET = 7

ATTACKS = {
    "none": None,
    "label_flip": None,
    "sign_flip": attacks.SignFlip(4.0),
    "backdoor": attacks.Scaling(10.0),
    "gaussian": attacks.GaussianNoise(1.0),
    "little_is_enough": attacks.LittleIsEnough(1.0),
    "inner_product": attacks.InnerProduct(4.0),
}


def rules(num_clients, fraction):
    """Each rule, told how many malicious clients a round may have."""
    most = max(1, round(fraction * num_clients))
    return {
        "mean": aggregators.Mean(weighting="uniform"),
        "median": aggregators.Median(),
        "trimmed_mean": aggregators.TrimmedMean(min(fraction + 0.1, 0.45)),
        "krum": aggregators.Krum(most),
        "multi_krum": aggregators.Krum(
            most, num_selected=num_clients - 2 * most - 2
        ),
        "bulyan": aggregators.Bulyan(min(most, (num_clients - 3) // 4)),
        "geometric_median": aggregators.GeometricMedian(),
        "centered_clipping": aggregators.CenteredClipping(),
        "norm_bounding": aggregators.NormBounding(),
        "outlier_removal": aggregators.OutlierRemoval(2.0),
    }


def load(args):
    if args.data is None:
        return fl.datasets.digits.load_data(num_clients=30, alpha=10.0)
    return real_data.mnist_by_writer(args.data)


def build(shape):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(NUM_CLASSES, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def accuracy(rule, attack, train, test, malicious, args):
    if attack == "label_flip":
        train = attacks.label_flip(train, malicious, NUM_CLASSES)
    if attack == "backdoor":
        train = attacks.backdoor(train, malicious, TARGET)
    executor = "auto"
    if ATTACKS[attack] is not None:
        executor = attacks.AttackedExecutor(ATTACKS[attack], malicious)
    process = fl.FederatedAveraging(
        build(train[train.client_ids[0]][0].shape[1:]),
        client=fl.LocalTraining(batch_size=10, epochs=args.epochs),
        aggregator=rule,
        executor=executor,
    )
    sampler = fl.samplers.Uniform(train, args.clients, seed=args.seed)
    state = process.initialize(args.seed)
    for round_num in range(args.rounds):
        cohort = train.select(sampler.sample(round_num))
        state, _ = process.next(state, cohort)
    found = {"accuracy": process.evaluate(state, test)["accuracy"]}
    if attack == "backdoor":
        # How many examples of other classes are taken for the target's.
        others = test.map(
            lambda c: (c[0][c[1] != TARGET], c[1][c[1] != TARGET])
        )
        stamped = attacks.backdoor(
            others, others.client_ids, TARGET, fraction=1.0
        )
        found["backdoor"] = process.evaluate(state, stamped)["accuracy"]
    return {name: round(100 * value, 1) for name, value in found.items()}


def show(results, names):
    print("| rule | " + " | ".join(names) + " |")
    print("| --- " * (len(names) + 1) + "|")
    for rule, row in results.items():
        cells = []
        for name in names:
            cell = f"{row[name]['accuracy']:.1f}"
            if "backdoor" in row[name]:
                cell += f" ({row[name]['backdoor']:.1f})"
            cells.append(cell)
        print(f"| {rule} | " + " | ".join(cells) + " |")


def speed(names=None, num_clients=100, size=1_000_000):
    """Seconds of each rule: medians of three calls after a first one."""
    rng = np.random.default_rng(0)
    stack = rng.standard_normal((num_clients, size), np.float32)
    total = {
        "value": [ops.convert_to_tensor(stack)],
        "weight": ops.ones(num_clients),
        "stats": (),
    }
    seconds = {}
    for name, rule in rules(num_clients, 0.2).items():
        if rule.reduction == "sum" or name not in (names or [name]):
            continue
        rule = rule.build([keras.KerasTensor((size,), "float32")])
        finish, state = backend.jit(rule.finish), rule.init()
        times = []
        for _ in range(4):
            started = time.perf_counter(), time.process_time()
            backend.to_numpy(finish(state, total, (), ()))
            times.append(
                (
                    time.perf_counter() - started[0],
                    time.process_time() - started[1],
                )
            )
        wall, cpu = np.median(times[1:], axis=0).round(2).tolist()
        seconds[name] = {"wall": wall, "cpu": cpu}
        print(f"{name}: {wall} s, {cpu} s of CPU", flush=True)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of MNIST by writer")
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKS))
    parser.add_argument("--rules", nargs="+", default=None)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--clients", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--fraction", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    if args.speed:
        seconds = speed(args.rules)
        print(json.dumps({"backend": backend.name, "seconds": seconds}))
        return
    train, test = load(args)
    malicious = attacks.choose(train, args.fraction, args.seed)
    table = rules(args.clients, args.fraction)
    results = {}
    for rule in args.rules or table:
        results[rule] = {}
        for attack in args.attacks:
            results[rule][attack] = accuracy(
                table[rule], attack, train, test, malicious, args
            )
            print(rule, attack, results[rule][attack], flush=True)
    show(results, args.attacks)
    settings = {k: v for k, v in vars(args).items() if k != "data"}
    print(
        json.dumps(
            {"backend": backend.name, "settings": settings, "table": results}
        )
    )


if __name__ == "__main__":
    main()
