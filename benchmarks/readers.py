"""Reading clients from disk: fedlearn against TensorFlow Federated.

Both read the same file, `mnist_by_writer.sqlite.lzma`: fedlearn from what it
converts it to once, TFF from the unpacked SQLite file, which is how it reads
EMNIST. A client is read when its images and labels are NumPy arrays. ::

    python benchmarks/readers.py --tff-python PATH

`--tff-python` is the interpreter of an environment with TensorFlow Federated
(0.87 was measured); without it only fedlearn is. Each reader runs in a
process of its own, on the same clients in the same random order. *Cold* is
with the file's pages dropped from the system's cache (Linux), *warm* with
all of it in there.

Prints one line of JSON: seconds to convert, seconds to open, clients a
second, and peak resident MB of each process.
"""

import argparse
import json
import lzma
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time

FILE = "mnist_by_writer.sqlite.lzma"
SPLIT = "digits_only_train"


def drop_cached_pages(path):
    """Makes the next read of a file one from the disk."""
    if not hasattr(os, "posix_fadvise"):
        return
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def peak_mb():
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def shuffled(client_ids, clients):
    order = sorted(client_ids)
    random.Random(0).shuffle(order)
    return order[:clients]


def rate(read, client_ids):
    """Clients a second, and how many examples they had."""
    start = time.perf_counter()
    examples = sum(len(read(client_id)) for client_id in client_ids)
    return len(client_ids) / (time.perf_counter() - start), examples


def results(read, path, client_ids, opened):
    drop_cached_pages(path)
    cold, examples = rate(read, client_ids)
    warm = max(rate(read, client_ids)[0] for _ in range(3))
    return {
        "open_s": round(opened, 4),
        "cold": round(cold, 1),
        "warm": round(warm, 1),
        "examples": examples,
        "peak_mb": peak_mb(),
    }


def convert(source, cache):
    from fedlearn.datasets import emnist

    base = peak_mb()
    start = time.perf_counter()
    emnist.load_data(source=source, cache_dir=cache)
    seconds = time.perf_counter() - start
    size = sum(p.stat().st_size for p in pathlib.Path(cache).rglob("*.h5"))
    return {
        "convert_s": round(seconds, 1),
        "peak_mb": peak_mb(),
        "imported_mb": base,
        "file_mb": round(size / 1e6),
    }


def read_fedlearn(source, cache, clients):
    from fedlearn.datasets import emnist

    start = time.perf_counter()
    train, _ = emnist.load_data(source=source, cache_dir=cache)
    opened = time.perf_counter() - start
    (path,) = pathlib.Path(cache).rglob(f"{SPLIT}.h5")
    order = shuffled(train.client_ids, clients)
    return results(lambda i: train[i][1], path, order, opened)


def read_tff(path, clients):
    import collections

    import numpy as np
    import tensorflow as tf
    import tensorflow_federated as tff

    spec = collections.OrderedDict(
        label=tf.TensorSpec((), tf.int32),
        pixels=tf.TensorSpec((28, 28), tf.float32),
    )
    load = tff.simulation.datasets.load_and_parse_sql_client_data
    start = time.perf_counter()
    data = load(path, spec, split_name=SPLIT)
    opened = time.perf_counter() - start
    order = shuffled(data.client_ids, clients)

    def read(client_id):
        dataset = data.create_tf_dataset_for_client(client_id)
        batches = list(dataset.batch(1000).as_numpy_iterator())
        np.concatenate([batch["pixels"] for batch in batches])
        return np.concatenate([batch["label"] for batch in batches])

    return results(read, path, order, opened)


def run(python, *arguments):
    command = [python, __file__, "--case", *map(str, arguments)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


CASES = {
    "convert": convert,
    "fedlearn": lambda *a: read_fedlearn(*a[:2], int(a[2])),
    "tff": lambda path, clients: read_tff(path, int(clients)),
}


def main():
    if "--case" in sys.argv:
        name, *arguments = sys.argv[sys.argv.index("--case") + 1 :]
        print(json.dumps(CASES[name](*arguments)))
        return
    import real_data

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tff-python", help="its environment's interpreter")
    parser.add_argument("--clients", type=int, default=836)
    parser.add_argument(
        "--tff-clients",
        type=int,
        default=100,
        help="how many clients TFF reads, which is slow",
    )
    real_data.add_argument(parser)
    args = parser.parse_args()
    source = pathlib.Path(args.data, FILE)
    with tempfile.TemporaryDirectory() as folder:
        found = {"convert": run(sys.executable, "convert", source, folder)}
        found["fedlearn"] = run(
            sys.executable, "fedlearn", source, folder, args.clients
        )
        if args.tff_python:
            plain = pathlib.Path(folder, "plain.sqlite")
            start = time.perf_counter()
            with lzma.open(source) as packed, open(plain, "wb") as file:
                shutil.copyfileobj(packed, file)
            seconds = time.perf_counter() - start
            found["tff"] = run(args.tff_python, "tff", plain, args.tff_clients)
            found["tff"]["unpack_s"] = round(seconds, 1)
            for kind in ("cold", "warm"):
                found[f"{kind}_ratio"] = round(
                    found["fedlearn"][kind] / found["tff"][kind], 1
                )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
