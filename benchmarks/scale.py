"""What more workers cost and bring: `python benchmarks/scale.py ray`.

`ray`: a round whose clients do nothing but send back as many bytes as they
were sent, on two workers of Ray, beside the same bytes without fedlearn: a
`ray.put`, a call for each shard, a `ray.get` of each result, and their sum.
What is between the two is fedlearn's own: pickling, dispatch, copies between
NumPy and the backend.
"""

import argparse
import json
import os
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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["ray"])
    parser.parse_args()
    for line in ray_overhead():
        print(json.dumps({"backend": backend.name, **line}), flush=True)


if __name__ == "__main__":
    main()
