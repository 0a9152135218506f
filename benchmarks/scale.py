"""What more workers cost and bring: `python benchmarks/scale.py WHAT`.

`workers`: 1,000 clients of logistic regression a round, in one process and on
two workers, in turns.

`shards`: a round whose clients do nothing but send back as many bytes as they
were sent, on two workers that are processes; what a shard costs.

`population`: rounds of more and more clients, of a population of 100,000, on
two workers; seconds, and the memory of the process that drives them.

`soak`: rounds without end, on two workers, with the memory, open files and
shared blocks of all processes every now and then; `--plot FILE` draws it.

`ray`: as `shards`, on two workers of Ray, beside the same bytes without
fedlearn: a `ray.put`, a call for each shard, a `ray.get` of each result, and
their sum. What is between the two is fedlearn's own: pickling, dispatch,
copies between NumPy and the backend.

Each line of output is JSON.
"""

import argparse
import json
import os
import pathlib
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import fedlearn as fl
from fedlearn import backend
from fedlearn.executors.executor import Run, Shard
from fedlearn.messages.update import Update

SIZES = (10_000, 1_000_000, 40_000_000)


class Echo(fl.executors.Executor):
    """Sends back what was sent; a client a shard."""

    def bind(self, program):
        return _Echo(program)


class _Echo(Run):
    def shards(self, cohort):
        return [Shard([i]) for i in range(len(cohort))]

    def run_shard(self, broadcast, cohort, seeds, plan=""):
        counts = np.int32([len(cohort), 1, 0])
        return Update(list(broadcast.trainable), [], *counts)


def seconds(call, rounds):
    """Of some calls, without the first."""
    call()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def fedlearn_round(size, executor, num_shards):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    process = fl.FederatedAveraging(model, executor=executor)
    one = (np.zeros((1, 1), "float32"), np.zeros((1, 2), "float32"))
    data = fl.FederatedDataset.from_clients(
        {f"{i}": one for i in range(num_shards)}
    )
    received = process.receive(process.broadcast(process.initialize()))
    weights = [np.ones(size, "float32")]
    received = received._replace(trainable=weights)
    run, cohort = executor.bind(process.program), process.cohort(data)
    return lambda: backend.to_numpy(
        run(received, cohort, [0] * num_shards).summand
    )


def bare_round(size, num_shards):
    import ray

    class Worker:
        def echo(self, references):
            return [a.copy() for a in ray.get(references[0])]

    workers = [ray.remote(Worker).options(num_cpus=0).remote() for _ in "ab"]
    weights = [np.ones(size, "float32")]

    def one_round():
        sent = ray.put(weights)
        waiting = [
            workers[i % 2].echo.remote([sent]) for i in range(num_shards)
        ]
        total = 0
        while waiting:
            (done,), waiting = ray.wait(waiting)
            total = total + ray.get(done)[0]
        return total

    return one_round


def milliseconds(times):
    """The median, the least and the most."""
    values = (statistics.median(times), min(times), max(times))
    return [round(1000 * value, 1) for value in values]


def ray_overhead(rounds=9, num_shards=8):
    start = time.perf_counter()
    executor = fl.executors.Ray(num_workers=2, executor=Echo())
    seconds(fedlearn_round(1, executor, 2), 0)
    yield {"start_with_first_round_s": round(time.perf_counter() - start, 1)}
    for size in SIZES:
        bare = seconds(bare_round(size, num_shards), rounds)
        ours = seconds(fedlearn_round(size, executor, num_shards), rounds)
        yield {
            "parameters": size,
            "shards": num_shards,
            "bare_ms": milliseconds(bare),
            "fedlearn_ms": milliseconds(ours),
        }
    executor.close()


def logistic_process(executor):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((784,)), keras.layers.Dense(10, "softmax")]
    )
    model.compile(
        keras.optimizers.SGD(0.1),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return fl.FederatedAveraging(
        model, client=fl.LocalTraining(batch_size=20), executor=executor
    )


def logistic_clients(num_clients, smallest, largest, num_features=784):
    rng = np.random.default_rng(0)
    sizes = rng.integers(smallest, largest + 1, num_clients)
    x = rng.normal(size=(sizes.sum(), num_features)).astype("float32")
    y = rng.integers(0, 10, sizes.sum()).astype("int32")
    ids = np.repeat([f"{i:06}" for i in range(num_clients)], sizes)
    return fl.FederatedDataset.from_arrays(x, y, ids)


def workers(rounds=7):
    data = logistic_clients(1000, 20, 120)
    executors = {
        "one process": "auto",
        "2 workers": fl.executors.Processes(2),
    }
    runs, first, times = {}, {}, {name: [] for name in executors}
    for name, executor in executors.items():
        process = logistic_process(executor)
        start = time.perf_counter()
        state, _ = process.next(process.initialize(), data)
        first[name] = time.perf_counter() - start
        runs[name] = process, state
    for _ in range(rounds):
        for name, (process, state) in runs.items():
            start = time.perf_counter()
            state, _ = process.next(state, data)
            times[name].append(time.perf_counter() - start)
            runs[name] = process, state
    for name in executors:
        yield {
            "executor": name,
            "clients": len(data),
            "first_round_s": round(first[name], 2),
            "ms": milliseconds(times[name]),
        }
    one, two = (times[name] for name in executors)
    ratios = [a / b for a, b in zip(one, two, strict=True)]
    yield {
        "times_as_fast": round(statistics.median(ratios), 2),
        "lowest": round(min(ratios), 2),
        "highest": round(max(ratios), 2),
    }


def shards(rounds=7, num_shards=8):
    executor = fl.executors.Processes(2, executor=Echo())
    for size in SIZES:
        call = fedlearn_round(size, executor, num_shards)
        times = seconds(call, rounds)
        yield {
            "parameters": size,
            "shards": num_shards,
            "ms_a_shard": milliseconds([t / num_shards for t in times]),
        }
    executor.close()


def population(rounds=4):
    data = logistic_clients(100_000, 5, 15, num_features=32)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((32,)), keras.layers.Dense(10, "softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    executor = fl.executors.Processes(2)
    process = fl.FederatedAveraging(model, executor=executor)
    state, _ = process.next(process.initialize(), data.sample(100, seed=0))
    for num_clients in (1250, 2500, 5000, 10_000):
        times = []
        for i in range(rounds):
            start = time.perf_counter()
            clients = data.sample(num_clients, seed=i)
            state, _ = process.next(state, clients)
            times.append(time.perf_counter() - start)
        yield {
            "population": len(data),
            "clients": num_clients,
            "first_ms": round(1000 * times[0]),
            "ms": milliseconds(times[1:]),
            "driver_mb": resident_mb("self"),
            "workers_mb": [resident_mb(p) for p in children()],
        }
    executor.close()


def soak(num_rounds, minutes, plot):
    data = logistic_clients(200, 10, 30, num_features=32)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((32,)),
            keras.layers.Dense(32, "relu"),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    model.compile(
        "sgd", "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    executor = fl.executors.Processes(2)
    process = fl.FederatedAveraging(model, executor=executor)
    start, found, done = time.perf_counter(), [], 0
    while done < num_rounds or time.perf_counter() - start < 60 * minutes:
        process.fit(data, 100, clients_per_round=20, verbose=0)
        done += 100
        found.append(
            {
                "rounds": done,
                "minutes": round((time.perf_counter() - start) / 60, 1),
                "driver_mb": resident_mb("self"),
                "workers_mb": [resident_mb(p) for p in children()],
                "files": [open_files(p) for p in ("self", *children())],
                "shared_blocks": len(os.listdir("/dev/shm")),
            }
        )
        yield found[-1]
    executor.close()
    if plot is not None:
        draw(found, plot)


def draw(found, file):
    import matplotlib.pyplot as plt

    rounds = [f["rounds"] for f in found]
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(7, 5), sharex=True, layout="constrained"
    )
    top.plot(rounds, [f["driver_mb"] for f in found], label="driver")
    for i in range(2):
        values = [f["workers_mb"][i] for f in found]
        top.plot(rounds, values, label=f"worker {i + 1}")
    most = max(max(f["driver_mb"], *f["workers_mb"]) for f in found)
    top.set(ylabel="resident memory, MB", ylim=(0, 1.2 * most))
    top.legend(loc="lower right")
    for i, name in enumerate(("driver", "worker 1", "worker 2")):
        bottom.plot(rounds, [f["files"][i] for f in found], label=name)
    bottom.set(xlabel="round", ylabel="open files", ylim=(0, None))
    minutes = found[-1]["minutes"]
    figure.suptitle(f"{rounds[-1]:,} rounds in {minutes:.0f} minutes")
    figure.savefig(file, dpi=110)


def children():
    path = pathlib.Path(f"/proc/self/task/{os.getpid()}/children")
    return path.read_text().split()


def resident_mb(process):
    for line in pathlib.Path(f"/proc/{process}/status").read_text().split("\n"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    raise ValueError(f"Linux says nothing of the memory of {process}.")


def open_files(process):
    return len(os.listdir(f"/proc/{process}/fd"))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    kinds = {
        "workers": workers,
        "shards": shards,
        "population": population,
        "ray": ray_overhead,
    }
    parser.add_argument("what", choices=[*kinds, "soak"])
    parser.add_argument("--rounds", type=int, default=10_000, help="of `soak`")
    parser.add_argument("--minutes", type=float, default=30, help="of `soak`")
    parser.add_argument("--plot", help="a file for the picture of `soak`")
    args = parser.parse_args()
    if args.what == "soak":
        lines = soak(args.rounds, args.minutes, args.plot)
    else:
        lines = kinds[args.what]()
    for line in lines:
        print(json.dumps({"backend": backend.name, **line}), flush=True)


if __name__ == "__main__":
    main()
