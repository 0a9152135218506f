"""The federated core: milliseconds a call, and what tracing and files cost.

Average temperature and the share above a threshold for 3, 1,000 and 10,000
clients; federated averaging of a small dense model (20 examples, 5 steps, 387
weights) beside the same program written for the backend alone, in turns; 400
tensors of 64 x 64 traced and written::

    python benchmarks/core.py [--tff PYTHON]

Prints a line of JSON for each part; times are medians. PYTHON is that of an
environment with `tensorflow-federated`, which then runs the same programs
(`core_tff.py`).
"""

import argparse
import contextlib
import gc
import json
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import ops

from fedlearn import backend, core, executors
from fedlearn.core import CLIENTS, SERVER, FederatedType
from fedlearn.core.local_computation import form
from fedlearn.core.map_sum import artifacts
from fedlearn.core.program_bytes import encode

F = "float32"
READINGS = FederatedType(F, CLIENTS)
NUMBER = FederatedType(F, SERVER)


@core.federated_computation(READINGS)
def average(readings):
    return core.federated_mean(readings)


@core.federated_computation(READINGS, NUMBER)
def share_above(readings, threshold):
    sent = core.federated_broadcast(threshold)
    above = core.federated_map(
        lambda r, t: ops.cast(r > t, F), (readings, sent)
    )
    return core.federated_mean(above)


def in_turns(seconds, **calls):
    """Median milliseconds of each, one call of each after another."""
    times = {name: [] for name in calls}
    for call in calls.values():
        call()
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, times.values())) < 5:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {n: round(statistics.median(t), 4) for n, t in times.items()}


def scalars(seconds):
    for num_clients in (3, 1000, 10_000):
        x = np.random.default_rng(0).normal(20, 3, num_clients).astype(F)
        yield {
            "clients": num_clients,
            **in_turns(
                seconds,
                average=lambda x=x: average(x),
                share_above=lambda x=x: share_above(x, 20.5),
                numpy=lambda x=x: (x > 20.5).mean(),
            ),
        }


def averaging(seconds):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((20,)),
            keras.layers.Dense(16, "relu"),
            keras.layers.Dense(3),
        ]
    )
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def loss(weights, x, y):
        return loss_fn(y, model.stateless_call(weights, [], x)[0]), ()

    def train(weights, rate, x, y):
        def step(_, weights):
            gradient = backend.value_and_grad(loss)
            _, grads = gradient(list(weights), x, y)
            return [w - rate * g for w, g in zip(weights, grads, strict=True)]

        size = ops.cast(ops.shape(y)[0], F)
        return backend.loop(5, step, list(weights)), size

    weights = core.to_type(model.trainable_variables)
    data = core.StructType({"x": (F, ("n", 20)), "y": ("int32", ("n",))})

    @core.federated_computation(
        FederatedType(weights, SERVER), NUMBER, FederatedType(data, CLIENTS)
    )
    def round_of(model, rate, data):
        sent = core.federated_broadcast(model), core.federated_broadcast(rate)
        trained, size = core.federated_map(
            lambda w, r, d: train(w, r, d["x"], d["y"]), (*sent, data)
        )
        return core.federated_mean(trained, size)

    @backend.jit
    def direct(weights, rate, x, y):
        trained, size = backend.vmap(lambda x, y: train(weights, rate, x, y))(
            x, y
        )
        total = ops.sum(size)

        def mean(w):
            factor = ops.reshape(size, (-1, *[1] * (len(w.shape) - 1)))
            return ops.sum(w * factor, axis=0) / total

        return [mean(w) for w in trained]

    start = model.get_weights()
    rng = np.random.default_rng(0)
    for num_clients in (10, 100, 1000):
        x = rng.normal(size=(num_clients, 20, 20)).astype(F)
        y = rng.integers(0, 3, (num_clients, 20)).astype("int32")
        given = {"x": x, "y": y}
        arrays = [
            ops.convert_to_tensor(a) for a in (*start, np.float32(0.1), x, y)
        ]

        def plain(arrays=arrays):
            return backend.to_numpy(direct(arrays[:4], *arrays[4:]))

        def core_(given=given):
            return round_of(start, 0.1, given)

        found = np.abs(plain()[0] - core_()[0]).max()
        times = in_turns(seconds, core=core_, direct=plain)
        if num_clients == 1000:
            times |= in_turns(seconds, **on_executors(core_))
        ratio = round(times["core"] / times["direct"], 3)
        yield {
            "federated averaging of": num_clients,
            **times,
            "ratio": ratio,
            "difference": float(found),
        }


def on_executors(call):
    """It in 32 blocks, in this process and in two of a thread each."""

    def on(executor):
        def run():
            with core.executor(executor):
                return call()

        return run

    two = executors.Processes(2)
    return {"blocks": on("sequential"), "processes": on(two), "alone": call}


def large():
    many = FederatedType([(F, (64, 64))] * 400, SERVER)
    gc.disable()  # the graphs made so far take it a second to go through
    start = time.perf_counter()

    @core.federated_computation(many, READINGS)
    def unpacked(model, x):
        sent = core.federated_broadcast(model)
        return core.federated_mean(core.federated_zip(list(sent)))

    traced = time.perf_counter() - start
    types = [core.TensorType(F, (64, 64))] * 400 + [core.TensorType(F)]
    start = time.perf_counter()
    form.trace(
        lambda *arrays: tuple(v + arrays[-1] for v in arrays[:-1]), types
    )
    by_backend = time.perf_counter() - start
    start = time.perf_counter()

    @core.federated_computation(many, READINGS)
    def mapped(model, x):
        moved = core.federated_map(
            lambda w, x: [v + x for v in w],
            (core.federated_broadcast(model), x),
        )
        return core.federated_mean(moved)

    with_function = time.perf_counter() - start
    gc.enable()
    data = encode(mapped.program)
    size = sum(len(f.artifact(k)) for f, k in set(artifacts(mapped.program)))
    yield {
        "400 tensors": "seconds to trace",
        "operators": round(traced, 3),
        "with a local computation": round(with_function, 3),
        "of which the backend's tracing": round(by_backend, 3),
        "bytes": len(data),
        "bytes over artifacts": round(len(data) / size, 3),
    }


def beside_tff(python, seconds, ours):
    """TFF's milliseconds a call, and how many times ours that is."""
    script = pathlib.Path(__file__).with_name("core_tff.py")
    kept = ("PATH", "HOME", "LANG")
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile("w+") as told,
    ):
        for program in (average, share_above):
            file = pathlib.Path(folder, f"{program.__name__}.pb")
            file.write_bytes(program.to_federated_language())
        process = subprocess.Popen(
            [python, script, str(seconds), folder],
            stdout=told,
            env={k: os.environ[k] for k in kept if k in os.environ},
            start_new_session=True,
        )
        try:
            status = process.wait(timeout=600)
        finally:  # TFF leaves its worker behind
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if status:
            raise SystemExit(f"TFF's programs ended with {status}.")
        told.seek(0)
        for program, clients, time_of_tff in map(json.loads, told):
            ratio = time_of_tff / ours[program, clients]
            yield {
                "program": program,
                "clients": clients,
                "tff": time_of_tff,
                "times ours": round(ratio, 1),
            }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--tff", metavar="PYTHON")
    args = parser.parse_args()
    if args.tff and backend.name != "tensorflow":
        parser.error("TFF runs TensorFlow's graphs: KERAS_BACKEND=tensorflow.")
    ours = {}

    def show(line):
        print(json.dumps({"backend": backend.name, **line}), flush=True)

    for line in scalars(args.seconds):
        for program in ("average", "share_above"):
            ours[program, line["clients"]] = line[program]
        show(line)
    for line in averaging(args.seconds):
        ours["averaging", line["federated averaging of"]] = line["core"]
        show(line)
    for line in large():
        show(line)
    if args.tff:
        for line in beside_tff(args.tff, args.seconds, ours):
            show(line)


if __name__ == "__main__":
    main()
