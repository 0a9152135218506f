"""A data set of EMNIST's size: converted, opened, sampled and trained.

Makes a file in TensorFlow Federated's format with as many clients and
examples as EMNIST has (3,400; 671,585 for training), of random pixels, since
only their number matters here, and goes through what a user does with it::

    python benchmarks/emnist_size.py

The file takes 2.4 GB in the folder `--folder` (a temporary one by default).
Each step runs in a process of its own. Prints one line of JSON: seconds and
peak resident MB of the conversion; seconds to open and milliseconds a client;
peak resident MB of opening, sampling and training `--rounds` rounds of 10
clients on the CNN for EMNIST. The goals: conversion under 500 MB, opening
under 0.3 s, a client under 1 ms, training under 1.5 GB.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CLIENTS = 3_400
EXAMPLES = {"all_train": 671_585, "all_test": 77_483}


def peak_mb():
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def sizes(total):
    """Sizes that vary as EMNIST's do, from some 20 to 400; they add up."""
    import numpy as np

    rng = np.random.default_rng(0)
    weights = np.clip(rng.lognormal(0, 0.4, CLIENTS), 0.1, 2.1)
    counts = np.maximum(1, (weights / weights.sum() * total).astype(int))
    counts[: total - counts.sum()] += 1
    return counts


def write(path):
    """The file; one client's pixels are in memory at a time."""
    import numpy as np

    import fedlearn as fl

    for split, total in EXAMPLES.items():
        counts = sizes(total)

        def client(k, counts=counts, split=split):
            rng = np.random.default_rng([k, len(split)])
            n = counts[k]
            pixels = rng.integers(0, 256, (n, 784), dtype=np.uint8)
            return {
                "label": rng.integers(0, 62, n),
                "pixels": pixels / np.float32(255),
            }

        ids = {f"f{k:04}": k for k in range(CLIENTS)}
        keys = fl.FederatedDataset.from_clients(
            {i: {"k": np.full(1, k)} for i, k in ids.items()}
        )
        clients = keys.map(lambda stored, f=client: f(int(stored["k"][0])))
        clients.to_tff_sqlite(path, split)
    return {"file_mb": round(os.path.getsize(path) / 1e6)}


def convert(path, cache):
    from fedlearn.datasets import emnist

    start = time.perf_counter()
    emnist.load_data(only_digits=False, source=path, cache_dir=cache)
    seconds = time.perf_counter() - start
    files = sum(p.stat().st_size for p in pathlib.Path(cache).rglob("*.h5"))
    return {
        "convert_s": round(seconds),
        "convert_peak_mb": peak_mb(),
        "converted_mb": round(files / 1e6),
    }


def train(path, cache, rounds):
    import keras

    import fedlearn as fl

    rounds = int(rounds)
    start = time.perf_counter()
    data, _ = fl.datasets.emnist.load_data(
        only_digits=False, source=path, cache_dir=cache
    )
    opened = time.perf_counter() - start
    sampler = fl.samplers.Uniform(data, 100)
    chosen = sampler.sample(10**6)
    for client_id in chosen:  # the disk's part, once
        data[client_id]
    start = time.process_time()
    for client_id in chosen:
        data[client_id]
    each = (time.process_time() - start) / len(chosen)
    opened_mb = peak_mb()
    model = fl.models.emnist_cnn(num_classes=62, seed=0)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    process = fl.FederatedAveraging(
        model, client=fl.LocalTraining(batch_size=20)
    )
    start = time.perf_counter()
    process.fit(data, rounds=rounds, clients_per_round=10, verbose=0)
    return {
        "open_s": round(opened, 3),
        "client_ms": round(1000 * each, 3),
        "opened_peak_mb": opened_mb,
        "rounds": rounds,
        "train_s": round(time.perf_counter() - start),
        "train_peak_mb": peak_mb(),
    }


CASES = {"write": write, "convert": convert, "train": train}


def run(name, *arguments):
    command = [sys.executable, __file__, "--case", name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    if "--case" in sys.argv:
        name, *arguments = sys.argv[sys.argv.index("--case") + 1 :]
        print(json.dumps(CASES[name](*arguments)))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where there is room for 4 GB")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = pathlib.Path(folder, "emnist_all.sqlite")
        found = run("write", path)
        found |= run("convert", path, folder)
        found |= run("train", path, folder, args.rounds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
