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

Asynchronous rounds against synchronous ones, on MNIST by writer, with clients
whose speed has a heavy tail (`conditions.LogNormal`)::

    python benchmarks/algorithms.py --what trips

As many clients are under way in both: all of a round, or FedBuff's
`concurrency`. Prints how many client trips and how much simulated time both
take to a test accuracy.
"""

import argparse
import json
import time

import keras
import numpy as np
import real_data
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


def dense(rate):
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(
                64,
                "relu",
                kernel_initializer=keras.initializers.GlorotUniform(1),
            ),
            keras.layers.Dense(
                10,
                "softmax",
                kernel_initializer=keras.initializers.GlorotUniform(2),
            ),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.SGD(rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


class Reached(keras.callbacks.Callback):
    """Stops where a target is reached."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def on_epoch_end(self, epoch, logs):
        if logs.get("val_accuracy", 0.0) >= self.target:
            self.model.stop_training = True


def trips(data, target, concurrency, buffer_size, rate, seed):
    """What synchronous rounds and FedBuff take to a target."""
    train, test = real_data.mnist_by_writer(data)
    client = fl.LocalTraining(batch_size=20)
    durations = fl.conditions.LogNormal(sigma=1.0)
    found = {}
    for name in ("synchronous", "FedBuff"):
        buffered = name == "FedBuff"
        if buffered:
            process = A.FedBuff(
                dense(rate),
                client,
                buffer_size=buffer_size,
                concurrency=concurrency,
                durations=durations,
            )
            arguments = {
                "validation_freq": max(concurrency // buffer_size // 2, 1)
            }
        else:
            process = A.FedAvg(
                dense(rate),
                client,
                aggregator=fl.aggregators.Mean(weighting="uniform"),
            )
            sampler = fl.samplers.Uniform(train, concurrency, seed=seed)
            arguments = {"sampler": sampler}
        history = process.fit(
            train,
            rounds=2000 if buffered else 400,
            validation_data=test,
            callbacks=[Reached(target)],
            verbose=0,
            seed=seed,
            **arguments,
        )
        rounds = len(history.epoch)
        if buffered:
            done = history.history["client_trips"][-1]
            seconds = history.history["seconds"][-1]
        else:
            done = concurrency * rounds
            seconds = sum(
                max(
                    durations.seconds(i, fl.seeds.fold(seed, t, i))
                    for i in sampler.sample(t)
                )
                for t in range(rounds)
            )
        found[name] = {
            "accuracy": round(history.history["val_accuracy"][-1], 4),
            "server_steps": rounds,
            "client_trips": int(done),
            "seconds": round(seconds, 1),
        }
        if buffered:
            staleness = np.mean(history.history["staleness"])
            found[name]["mean_staleness"] = round(float(staleness), 2)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", choices=["time", "trips"], default="time")
    real_data.add_argument(parser)
    parser.add_argument("--target", type=float, default=0.93)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--buffer_size", type=int, default=10)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workload", choices=["emnist-cnn", "small"], default="small"
    )
    parser.add_argument("--names", nargs="*", help="of algorithms; default all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=1)
    flags = parser.parse_args()
    if flags.what == "trips":
        names = ("target", "concurrency", "buffer_size", "rate", "seed")
        given = {name: getattr(flags, name) for name in names}
        facts = {"what": "trips", "backend": keras.backend.backend(), **given}
        print(json.dumps({**facts, **trips(flags.data, **given)}))
        return
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
