"""What clients keep, on disk: peak memory, and what a checkpoint writes.

836 clients each keep 1.2 M float32 numbers, 4 GB together: the residuals of
error feedback of a dense model. Each takes part once, 11 in a round, saved
after every tenth; then 11 take part again, and it is saved once more::

    python benchmarks/client_states.py
    python benchmarks/client_states.py --clients 20 --weights 1000  # a try

Prints one line of JSON: peak resident memory, what is kept, and what was
written last.
"""

import argparse
import json
import os
import resource
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def measure(num_clients, num_weights, per_round, folder):
    """Runs it: what is printed."""
    import keras
    import numpy as np

    import fedlearn as fl

    inputs = 100
    model = keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(num_weights // (inputs + 2)),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(1e-4), "mse")
    rng = np.random.default_rng(0)
    data = fl.FederatedDataset.from_clients(
        {
            f"c{i:04}": (
                rng.standard_normal((4, inputs), dtype="float32"),
                np.ones((4, 1), "float32"),
            )
            for i in range(num_clients)
        }
    )
    kept = fl.encoders.ErrorFeedback([fl.encoders.TopK(0.1)])
    process = fl.FederatedAveraging(
        model,
        client=fl.LocalTraining(batch_size=4),
        aggregator=fl.aggregators.Mean([kept]),
        executor="sequential",
    )
    sampler = fl.samplers.RoundRobin(data, per_round)
    rounds = -(-num_clients // per_round)
    path = os.path.join(folder, "state")
    state = process.initialize()
    # As `fit` does with a `checkpoint_dir`.
    kept_there = state.client_states.kept_in(f"{path}.clients")
    state = state._replace(client_states=kept_there)
    for round_num in range(rounds):
        cohort = data.select(sampler.sample(round_num))
        state, _ = process.next(state, cohort)
        if round_num % 10 == 9:
            process.save_state(state, path)
    process.save_state(state, path)
    before = _files(f"{path}.clients")
    state, _ = process.next(state, data.select(sampler.sample(rounds)))
    started = time.perf_counter()
    process.save_state(state, path)
    seconds = time.perf_counter() - started
    after = _files(f"{path}.clients")
    written = after.items() - before.items()
    again, first = process.load_state(path), data.client_ids[0]
    for one, other in zip(
        keras.tree.flatten(again.client_states[first]),
        keras.tree.flatten(state.client_states[first]),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    return {
        "backend": keras.backend.backend(),
        "clients": len(state.client_states),
        "kept_mb": round(sum(size for size, _ in after.values()) / 2**20),
        "peak_mb": round(_peak()),
        "last_save_files": len(written),
        "last_save_mb": round(sum(size for _, (size, _) in written) / 2**20, 1),
        "last_save_seconds": round(seconds, 2),
    }


def _files(folder):
    """Size and time of each file, by its name."""
    found = {}
    for entry in os.scandir(folder):
        about = entry.stat()
        found[entry.name] = about.st_size, about.st_mtime_ns
    return found


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=836)
    parser.add_argument("--weights", type=int, default=1_200_000)
    parser.add_argument("--per_round", type=int, default=11)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.getcwd()) as folder:
        found = measure(args.clients, args.weights, args.per_round, folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
