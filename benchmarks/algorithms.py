"""What federated algorithms take, beside federated averaging.

Each round of an algorithm takes turns with one of FedAvg, with the same
clients, examples and local steps, in one process, so that a machine whose
speed drifts slows both::

    KERAS_BACKEND=tensorflow python benchmarks/algorithms.py --what time
    KERAS_BACKEND=jax python benchmarks/algorithms.py --workload small

The workloads are those of `speed.py`. An algorithm that looks at the examples
first, or takes two gradients of a batch, has more to do by its definition.

Prints one line of JSON: for each algorithm the median over the rounds of its
seconds (of the clock, and of all cores) divided by FedAvg's in the same turn.
"""

import argparse
import json
import time

import keras
import numpy as np
from speed import Workload

import fedlearn as fl

A = fl.algorithms


def algorithms(workload):
    """Each by its name, from a model and further arguments."""
    ids, count = workload.dataset.client_ids, workload.population
    return {
        "FedAvg": A.FedAvg,
        "FedProx": A.FedProx,
        "FedNova": A.FedNova,
        "FedExP": A.FedExP,
        "SCAFFOLD": lambda *a, **k: A.Scaffold(*a, population=count, **k),
        "FedDyn": lambda *a, **k: A.FedDyn(*a, population=count, **k),
        "FedPer": lambda *a, **k: A.FedPer(*a, personal=is_bias, **k),
        "MimeLite": A.MimeLite,
        "Mime": A.Mime,
        "q-FedAvg": A.QFedAvg,
        "AFL": lambda *a, **k: A.AgnosticFedAvg(*a, domains=ids, **k),
    }


def is_bias(path):
    return path.endswith("bias")


class Timed:
    """A process whose rounds are timed."""

    def __init__(self, make, workload, epochs):
        self.workload = workload
        self.process = make(
            workload.model(),
            fl.LocalTraining(batch_size=workload.batch, epochs=epochs),
        )
        self.state = self.process.initialize()

    def __call__(self, round_num):
        chosen = sorted(self.workload.cohort_of(round_num))
        cohort = self.workload.dataset.select([f"c{i:04}" for i in chosen])
        before = time.perf_counter(), time.process_time()
        self.state, _ = self.process.next(self.state, cohort)
        [np.asarray(w) for w in self.state.trainable]
        after = time.perf_counter(), time.process_time()
        return np.subtract(after, before)


def times(name, names, rounds, epochs):
    workload = Workload(name)
    makers = algorithms(workload)
    chosen = names or [n for n in makers if n != "FedAvg"]
    plain = Timed(makers["FedAvg"], workload, epochs)
    found = {}
    for other in chosen:
        timed = Timed(makers[other], workload, epochs)
        for warm in range(2):
            plain(warm), timed(warm)
        ratios = [timed(r) / plain(r) for r in range(2, rounds + 2)]
        wall, cpu = np.median(ratios, axis=0)
        found[other] = {"time": round(wall, 2), "cpu_time": round(cpu, 2)}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", choices=["time"], default="time")
    parser.add_argument(
        "--workload", choices=["emnist-cnn", "small"], default="small"
    )
    parser.add_argument("--names", nargs="*", help="of algorithms; default all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=1)
    flags = parser.parse_args()
    facts = {
        "what": flags.what,
        "workload": flags.workload,
        "backend": keras.backend.backend(),
        "epochs": flags.epochs,
        "rounds": flags.rounds,
    }
    found = times(flags.workload, flags.names, flags.rounds, flags.epochs)
    print(json.dumps({**facts, "times_fedavg": found}))


if __name__ == "__main__":
    main()
