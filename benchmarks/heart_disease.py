"""FLamby's heart disease by hospital: its published accuracy beside ours.

Four hospitals, logistic regression, FLamby's patients, steps, rates and
seeds; 15 rounds of 100 steps of 4 patients at each hospital::

    python benchmarks/heart_disease.py
    python benchmarks/heart_disease.py --methods FedAdam pooled --init keras

`--data` is the folder of `heart_disease/`. Prints a table in Markdown and a
line of JSON.

Source: du Terrail et al., "FLamby", NeurIPS 2022, and its repository
(owkin/FLamby at edacf54): `config_heart_disease.json` for the rates, and
`flamby/results/results_benchmark_fed_heart_disease/heart_seed42.csv` to
`heart_seed46.csv`, of which `PUBLISHED` has the means and deviations.
"""

import argparse
import functools
import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import real_data

import fedlearn as fl
from fedlearn import backend

SITES = fl.datasets.heart_disease.SITES
COLUMNS = fl.datasets.heart_disease.COLUMNS
# Their trainings at one place: `Adam`, and at every place as many epochs.
ALONE = fl.LocalTraining(
    keras.optimizers.Adam(0.001, epsilon=1e-8), batch_size=4, epochs=50
)


def federated(rate, make=fl.FederatedAveraging, proximal=0.0, **arguments):
    # 100 steps are more than one epoch; from round to round theirs go on in
    # the middle of one, where ours begin another.
    client = fl.LocalTraining(
        keras.optimizers.SGD(rate),
        batch_size=4,
        epochs=20,
        max_steps=100,
        proximal=proximal,
    )
    return functools.partial(make, client=client, **arguments)


def is_bias(path):
    return path.endswith("bias")


# FLamby starts the second moments at zero.
START = {"epsilon": 1e-8, "initial_accumulator_value": 0.0}
A = fl.algorithms
# All hospitals take part, so control variates go with FLamby's weights, too.
KEPT = {"population": len(SITES), "aggregator": "mean"}
METHODS = {
    "FedAvg": federated(0.001),
    "FedProx": federated(0.001, proximal=0.01),
    "SCAFFOLD": federated(0.001, A.Scaffold, **KEPT),
    "FedAdam": federated(
        0.01,
        server_optimizer=fl.optimizers.FedAdam(0.01, beta_2=0.999, **START),
    ),
    "FedYogi": federated(
        0.003162,
        server_optimizer=fl.optimizers.FedYogi(0.01, beta_2=0.999, **START),
    ),
    "FedAdagrad": federated(
        0.003162,
        server_optimizer=fl.optimizers.FedAdagrad(
            0.316228, beta_1=0.9, **START
        ),
    ),
    "Keras's Adam": federated(
        0.01, server_optimizer=keras.optimizers.Adam(0.01, epsilon=1e-8)
    ),
    "local": functools.partial(fl.FederatedAveraging, client=ALONE),
    "pooled": functools.partial(fl.FederatedAveraging, client=ALONE),
    # FLamby has none of these; 0.01 is its rate for FedAdam.
    "FedAvg, rate 0.01": federated(0.01),
    "SCAFFOLD, rate 0.01": federated(0.01, A.Scaffold, **KEPT),
    "FedDyn": federated(0.01, A.FedDyn, alpha=0.1, **KEPT),
    "FedNova": federated(0.01, A.FedNova),
    "Ditto": federated(0.01, A.Ditto, strength=0.1),
    "APFL": federated(0.01, A.APFL, alpha=0.5),
    "FedPer, own bias": federated(0.01, A.FedPer, personal=is_bias),
}
# Mean and standard deviation over seeds 42 to 46: by site, and of all 254
# patients. "local" is each hospital's own model on its own patients.
PUBLISHED = {
    "FedAvg": (
        (0.731, 0.719, 0.650, 0.640, 0.706),
        (0.022, 0.033, 0.114, 0.051, 0.010),
    ),
    "FedProx": (
        (0.731, 0.719, 0.650, 0.640, 0.706),
        (0.022, 0.033, 0.114, 0.051, 0.010),
    ),
    "SCAFFOLD": (
        (0.727, 0.719, 0.650, 0.640, 0.704),
        (0.019, 0.033, 0.114, 0.051, 0.011),
    ),
    "FedAdam": (
        (0.752, 0.746, 0.738, 0.667, 0.734),
        (0.017, 0.019, 0.028, 0.044, 0.013),
    ),
    "FedYogi": (
        (0.760, 0.753, 0.738, 0.676, 0.741),
        (0.018, 0.018, 0.028, 0.040, 0.014),
    ),
    "FedAdagrad": (
        (0.760, 0.753, 0.738, 0.676, 0.741),
        (0.018, 0.018, 0.028, 0.040, 0.014),
    ),
    "local": (
        (0.746, 0.746, 0.725, 0.702, 0.737),
        (0.016, 0.006, 0.122, 0.051, 0.011),
    ),
    "pooled": (
        (0.783, 0.764, 0.750, 0.644, 0.750),
        (0.011, 0.000, 0.000, 0.000, 0.004),
    ),
}


def published_start(seed):
    """The weights that PyTorch's `Linear(13, 1)` begins with at a seed.

    They are uniform numbers of 24 bits, from the Mersenne Twister that
    NumPy's `RandomState` has too. FLamby's columns of 0 and 1 come last.
    """
    words = np.random.RandomState(seed).randint(
        2**32, size=len(COLUMNS) + 1, dtype=np.uint32
    )
    bound = len(COLUMNS) ** -0.5
    drawn = (words & 0xFFFFFF) / 2**24 * 2 * bound - bound
    kinds = [c for c in COLUMNS if c.startswith(("cp_", "restecg_"))]
    theirs = [*(c for c in COLUMNS if c not in kinds), *kinds]
    order = [theirs.index(c) for c in COLUMNS]
    return [drawn[order, None], drawn[-1:]]


def build(init, seed):
    model = fl.models.heart_logistic(seed=seed)
    if init == "pytorch":
        model.set_weights(published_start(seed))
    model.compile(
        optimizer="sgd", loss="binary_crossentropy", metrics=["accuracy"]
    )
    return model


def standardized(data):
    """All patients at one place, each column by all their statistics."""
    x, y = data.pooled()
    return ((x - x.mean(0)) / x.std(0, ddof=1)).astype("float32"), y


def run(method, init, seed, train, test, raw):
    """Accuracy by site, and of all patients."""
    make, rounds = METHODS[method], [train] * 15
    if method == "local":
        # A training is the one client of one round.
        own = [
            trained(make, [train.select([site])], init, seed) for site in SITES
        ]
        found = [by_site(process, test)[k] for k, process in enumerate(own)]
    else:
        if method == "pooled":
            rounds = [[standardized(raw)]]
        found = by_site(trained(make, rounds, init, seed), test)
    sizes = [test.num_examples(site) for site in SITES]
    return [*found, float(np.average(found, weights=sizes))]


def trained(make, rounds, init, seed):
    process = make(build(init, seed))
    state = process.initialize(seed)
    for clients in rounds:
        state, _ = process.next(state, clients)
    process.state = state
    return process


def by_site(process, test):
    metrics = process.evaluate(process.state, test, per_client=True)
    return [metrics["per_client"][site]["accuracy"] for site in SITES]


def show(results):
    print("| | | " + " | ".join([*SITES, "all"]) + " |")
    print("| --- " * (len(SITES) + 3) + "|")
    for method, values in results.items():
        ours = np.mean(values, 0), np.std(values, 0, ddof=1)
        rows = {"theirs": PUBLISHED.get(method), "ours": ours}
        for whose, row in rows.items():
            if row is not None:
                cells = [
                    f"{m:.3f} ± {d:.3f}" for m, d in zip(*row, strict=True)
                ]
                print(f"| {method} | {whose} | " + " | ".join(cells) + " |")


def compare(folder, methods, seeds=range(42, 47), init="pytorch"):
    """Prints what methods reach, beside what is published."""
    source = pathlib.Path(folder) / "heart_disease"
    load = fl.datasets.heart_disease.load_data
    train, test = load(source=source, split="flamby")
    raw, _ = load(source=source, split="flamby", normalize=False)
    results = {}
    for method in methods:
        results[method] = [
            run(method, init, seed, train, test, raw) for seed in seeds
        ]
        mean = np.mean(results[method], 0).round(3)
        print(method, mean.tolist(), flush=True)
    show(results)
    print(
        json.dumps(
            {
                "backend": backend.name,
                "init": init,
                "seeds": list(seeds),
                "sites": [*SITES, "all"],
                "accuracy": results,
            }
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    real_data.add_argument(parser)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[42, 43, 44, 45, 46]
    )
    parser.add_argument(
        "--init",
        choices=("pytorch", "keras"),
        default="pytorch",
        help="FLamby's initial weights, or a Keras layer's",
    )
    args = parser.parse_args()
    compare(args.data, args.methods, args.seeds, args.init)


if __name__ == "__main__":
    main()
