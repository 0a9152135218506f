"""Peak memory: over rounds, and by the number of clients in a round.

Each case runs in a process of its own, on the small workload (logistic
regression on 784 floats, 20 examples a client)::

    python benchmarks/memory.py

* 100 against 2,000 clients in every round, of the same population of 2,000,
  so that the data is the same;
* after 50 rounds against after 1,000, of 100 clients.

Prints one line of JSON with peak resident memory in MB.
"""

import argparse
import json
import os
import resource
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def measure(clients, rounds):
    """Runs one case in this process: MB after 50 rounds, and at the end."""
    import keras
    import numpy as np

    import fedlearn as fl

    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 20, 784), dtype="float32")
    y = rng.integers(0, 10, (2000, 20))
    dataset = fl.FederatedDataset.from_clients(
        {f"c{i:04}": (x[i], y[i]) for i in range(2000)}
    )
    model = fl.models.logistic_regression(input_shape=(784,), seed=0)
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    process = fl.FederatedAveraging(
        model, client=fl.LocalTraining(batch_size=10)
    )
    sampler = fl.samplers.Uniform(dataset, clients)
    state = process.initialize()
    early = None
    for round_num in range(rounds):
        cohort = dataset.select(sampler.sample(round_num))
        state, _ = process.next(state, cohort)
        if round_num + 1 == min(50, rounds):
            early = _peak()
    print(json.dumps({"early": early, "end": _peak()}))


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _case(clients, rounds):
    command = [sys.executable, __file__, "--case", str(clients), str(rounds)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=1000)
    args = parser.parse_args()
    if args.case:
        measure(*args.case)
        return
    few, many = _case(100, 10)["end"], _case(2000, 10)["end"]
    long = _case(100, args.rounds)
    print(
        json.dumps(
            {
                "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
                "clients_100_mb": round(few),
                "clients_2000_mb": round(many),
                "clients_ratio": round(many / few, 3),
                "rounds_50_mb": round(long["early"]),
                f"rounds_{args.rounds}_mb": round(long["end"]),
                "rounds_ratio": round(long["end"] / long["early"], 3),
            }
        )
    )


if __name__ == "__main__":
    main()
