"""Kills workers at random moments of a run, and compares its bits.

Runs of logistic regression on 60 clients a round, each with the next of KINDS,
go on until so many kills have hit a worker that lived; the weights after each
run of 10 rounds must be those that a process alone comes to::

    python benchmarks/kills.py --kills 50
    python benchmarks/kills.py --kills 50 --executor ray

Kills that find no worker (all are starting) aren't counted, and there is at
most one a round. Prints one line of JSON: kills, rounds run, and how many runs
of 10 rounds differed: 0.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import psutil

import fedlearn as fl

ROUNDS = 10


NUM_CLIENTS = 60


def aggregators():
    """By name, of what clients send and the server adds in their own ways."""
    noisy = {"noise_multiplier": 0.5, "clients_per_round": NUM_CLIENTS}
    sparse = fl.encoders.ErrorFeedback([fl.encoders.TopK(0.1)])
    rounded = [fl.encoders.StochasticQuantization(8)]
    return {
        "mean": fl.aggregators.Mean(),
        "private mean": fl.aggregators.PrivateMean(
            "adaptive", **noisy, encoders=rounded
        ),
        "secure sum": fl.aggregators.SecureSum(
            value_range=1.0, clients_per_round=NUM_CLIENTS
        ),
        "median": fl.aggregators.Median(),
        "error feedback": fl.aggregators.Mean([sparse]),
    }


KINDS = [*aggregators(), "scaffold"]


def learner(kind, executor):
    model = fl.models.logistic_regression(input_shape=(784,), seed=0)
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss="sparse_categorical_crossentropy",
    )
    client = fl.LocalTraining(batch_size=20, epochs=3)
    if kind == "scaffold":
        return fl.algorithms.Scaffold(
            model, client, population=NUM_CLIENTS, executor=executor
        )
    aggregator = aggregators()[kind]
    return fl.FederatedAveraging(
        model, client, aggregator=aggregator, executor=executor
    )


def weights(process, data, begins=lambda: None):
    state = process.initialize()
    for _ in range(ROUNDS):
        begins()
        state, _ = process.next(state, data)
    return [keras.ops.convert_to_numpy(w) for w in state.trainable]


def living(executor):
    """The processes of workers that have started."""
    if isinstance(executor, fl.executors.Processes):
        return [w.process_id for w in executor._pool.workers if w.is_ready]
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            # Ray writes there what an actor does.
            title = process.cmdline()[:1]
            if title in (["ray::_Actor"], ["ray::_Actor.run"]):
                found.append(process.pid)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--executor", choices=["processes", "ray"], default="processes"
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=float, default=4.0)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    sizes = rng.integers(10, 120, NUM_CLIENTS)
    data = fl.FederatedDataset.from_clients(
        {
            f"c{i:03}": (
                rng.standard_normal((n, 784), dtype="float32"),
                rng.integers(0, 10, n),
            )
            for i, n in enumerate(sizes)
        }
    )
    expected = {kind: weights(learner(kind, "auto"), data) for kind in KINDS}
    executor = fl.executors.get(args.executor, num_workers=args.workers)
    processes = {kind: learner(kind, executor) for kind in KINDS}
    hits = in_round = 0
    ends = threading.Event()

    def begins():
        nonlocal in_round
        in_round = 0

    def kill():
        nonlocal hits, in_round
        moments = random.Random(args.seed)
        while not ends.wait(moments.uniform(0.0, args.every)):
            ready = living(executor)
            # Three that die of the same clients are an error.
            if not ready or in_round or hits >= args.kills:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(moments.choice(ready), signal.SIGKILL)
                hits, in_round = hits + 1, 1

    threading.Thread(target=kill, daemon=True).start()
    began, runs, different = time.monotonic(), 0, 0
    while hits < args.kills:
        if time.monotonic() - began > args.seconds:
            break
        kind = KINDS[runs % len(KINDS)]
        found = weights(processes[kind], data, begins)
        runs += 1
        different += any(
            a.tobytes() != b.tobytes()
            for a, b in zip(found, expected[kind], strict=True)
        )
    ends.set()
    executor.close()
    print(
        json.dumps(
            {
                "backend": keras.backend.backend(),
                "executor": args.executor,
                "kills": hits,
                "rounds": runs * ROUNDS,
                "runs_that_differed": different,
                "seconds": round(time.monotonic() - began),
            }
        )
    )
    if different or hits < args.kills:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
