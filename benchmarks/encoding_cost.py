"""What privacy and compression together add to a round.

A round of `emnist-cnn` (see `speed.py`; 1.2 M parameters) with a plain mean,
and one whose clients clip, rotate and quantize to 8 bits, and whose server
adds noise, take turns in one process. What the second takes longer, of what
the first takes, is the cost::

    KERAS_BACKEND=tensorflow python benchmarks/encoding_cost.py --rounds 20

CPU seconds of all threads count, since a busy machine stretches wall time.
Prints one line of JSON. `--parts` also times the links one by one, compiled
alone, as shares of the plain round.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import ops
from speed import Workload

import fedlearn as fl
from fedlearn import backend

NUM_WARM_UP = 3


def links():
    return [
        fl.encoders.Clip(1.0),
        fl.encoders.GaussianNoise(0.1),
        fl.encoders.HadamardRotation(),
        fl.encoders.UniformQuantization(8),
    ]


def make_process(workload, encoders, executor):
    aggregator = fl.aggregators.Mean(
        encoders, weighting="uniform", denominator=workload.cohort
    )
    return fl.FederatedAveraging(
        workload.model(),
        client=fl.LocalTraining(batch_size=workload.batch),
        aggregator=aggregator,
        executor=executor,
    )


class Rounds:
    """Rounds of one process; how long each took."""

    def __init__(self, workload, process):
        self.workload, self.process = workload, process
        self.state = process.initialize(seed=0)
        self.cpu, self.wall = [], []

    def run(self, round_num):
        ids = self.workload.dataset.client_ids
        chosen = [ids[i] for i in self.workload.cohort_of(round_num)]
        cohort = self.workload.dataset.select(chosen)
        started = time.process_time(), time.perf_counter()
        self.state, _ = self.process.next(self.state, cohort)
        backend.to_numpy(self.state.trainable)
        self.cpu.append(time.process_time() - started[0])
        self.wall.append(time.perf_counter() - started[1])


def cpu_seconds(fn, args, repeats):
    """The median of one call's CPU seconds."""
    times = []
    for _ in range(repeats + 2):
        started = time.process_time()
        for leaf in keras.tree.flatten(fn(*args)):
            if hasattr(leaf, "block_until_ready"):
                leaf.block_until_ready()
        times.append(time.process_time() - started)
    return float(np.median(times[2:]))


def part_seconds(process, num_clients, repeats):
    """CPU seconds a round of what the encoders add, piece by piece."""
    spec = process.update_spec
    rng = np.random.default_rng(0)
    update = [
        ops.convert_to_tensor(rng.normal(size=s.shape).astype("float32"))
        for s in spec
    ]
    seed = ops.convert_to_tensor(np.array([3, 4], np.int32))
    aggregator = process.aggregator
    state = aggregator.init()
    all_params = aggregator.params(state, seed)
    parts, value = {}, update
    links = aggregator.chain.encoders
    for link, params in zip(links, all_params, strict=True):
        if isinstance(link, fl.encoders.Noise):
            continue
        encode = backend.jit(lambda v, p, s, e=link: e.encode(v, p, s)[0])
        arguments = value, params, seed
        seconds = cpu_seconds(encode, arguments, repeats)
        parts[f"{type(link).__name__}.encode"] = num_clients * seconds
        value = encode(*arguments)
    one = ops.ones(())

    @backend.jit
    def whole(value, params, seed):
        message, _ = aggregator.encode(value, params, seed, ())
        return aggregator.summand(message, one, params)

    arguments = update, all_params, seed
    seconds = cpu_seconds(whole, arguments, repeats)
    parts["clients: all, and decoded up to the sum"] = num_clients * seconds
    total = whole(*arguments)
    parts["server: draw"] = cpu_seconds(
        lambda: aggregator.draw(state, rng), (), repeats
    )
    noise = aggregator.draw(state, rng)
    parts["server: finish"] = cpu_seconds(
        backend.jit(aggregator.finish),
        (state, total, all_params, noise),
        repeats,
    )
    return parts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--executor", default="auto")
    parser.add_argument("--parts", action="store_true")
    args = parser.parse_args()
    workload = Workload("emnist-cnn")
    ways = {
        name: Rounds(workload, make_process(workload, encoders, args.executor))
        for name, encoders in {"plain": [], "encoded": links()}.items()
    }
    for round_num in range(args.rounds + NUM_WARM_UP):
        for rounds in ways.values():
            rounds.run(round_num)
    cpu = {n: np.array(r.cpu[NUM_WARM_UP:]) for n, r in ways.items()}
    wall = {n: np.array(r.wall[NUM_WARM_UP:]) for n, r in ways.items()}
    extra = (cpu["encoded"] - cpu["plain"]) / cpu["plain"]
    result = {
        "backend": keras.backend.backend(),
        "rounds": args.rounds,
        "plain_cpu_s": round(float(np.median(cpu["plain"])), 4),
        "encoded_cpu_s": round(float(np.median(cpu["encoded"])), 4),
        "plain_s": round(float(np.median(wall["plain"])), 4),
        "encoded_s": round(float(np.median(wall["encoded"])), 4),
        "extra_of_plain": round(float(np.median(extra)), 3),
        "extra_quartiles": np.quantile(extra, [0.25, 0.75]).round(3).tolist(),
    }
    if args.parts:
        seconds = part_seconds(ways["encoded"].process, workload.cohort, 10)
        result["parts_of_plain"] = {
            name: round(s / result["plain_cpu_s"], 4)
            for name, s in seconds.items()
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
