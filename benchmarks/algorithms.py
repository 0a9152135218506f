"""What federated algorithms take and reach, beside federated averaging.

Each part is one command, which prints a line of JSON for each result::

    python benchmarks/algorithms.py --what time

`synthetic`, `shards`, `writers` and `reddi` train each algorithm on data of its
paper, with the best hyper-parameters of its grid (by a seed of its own), for
some seeds: `TASKS` has the data, models and grids. `heart` is
`heart_disease.py`.

`time`: each round of an algorithm takes turns with one of FedAvg, with the
same clients, examples and local steps, in one process, so that a machine whose
speed drifts slows both. `--workload` is one of `speed.py`. An algorithm that
looks at the examples first, or takes two gradients of a batch, has more to do
by its definition. Prints, for each algorithm, the median over the rounds of
its seconds (of the clock, and of all cores) divided by FedAvg's in the same
turn.

`trips`: asynchronous rounds against synchronous ones, on MNIST by writer, with
clients whose speed has a heavy tail (`conditions.LogNormal`). As many clients
are under way in both: all of a round, or FedBuff's `concurrency`. Prints how
many client trips and how much simulated time both take to a test accuracy.
"""

import argparse
import functools
import itertools
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import heart_disease
import keras
import numpy as np
import real_data
from speed import Workload

import fedlearn as fl
from fedlearn.algorithms.fednova import NormalizedUpdates

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
        "FedPer": lambda *a, **k: A.FedPer(
            *a, personal=heart_disease.is_bias, **k
        ),
        "MimeLite": A.MimeLite,
        "Mime": A.Mime,
        "q-FedAvg": A.QFedAvg,
        "AFL": lambda *a, **k: A.AgnosticFedAvg(*a, domains=ids, **k),
    }


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


def dense(seed=0, normalized=False):
    """A small net for MNIST, compiled."""
    start = keras.initializers.GlorotUniform
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(64, "relu", True, start(2 * seed + 1), name="hidden"),
            *[layers.BatchNormalization(momentum=0.9)] * normalized,
            layers.Dense(10, "softmax", True, start(2 * seed + 2), name="head"),
        ]
    )
    return compiled(model)


def compiled(model):
    model.compile(
        keras.optimizers.SGD(0.1),
        "sparse_categorical_crossentropy",
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
    client = fl.LocalTraining(keras.optimizers.SGD(rate), batch_size=20)
    durations = fl.conditions.LogNormal(sigma=1.0)
    found = {}
    for name in ("synchronous", "FedBuff"):
        buffered = name == "FedBuff"
        if buffered:
            process = A.FedBuff(
                dense(),
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
                dense(),
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
                    durations.seconds(i, fl.seeds.fold(seed, t, i), None)
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


class Task(NamedTuple):
    """Something to learn, and what learns it.

    Attributes:
        data: From the data's folder and a seed to `(train, test)`.
        model: From a seed to a compiled model.
        client: Arguments of `LocalTraining`.
        per_round: How many clients take part.
        rounds: How many to train, and how many for each of a grid.
        every: So many rounds the server's model is evaluated.
        measure: From process, data, test accuracies by rounds and what to
            fine-tune with to numbers by their names.
        chosen_by: The name of the one that the best of a grid has most of.
        entries: Algorithms by their names.
    """

    data: Callable
    model: Callable
    client: dict[str, Any]
    per_round: int
    rounds: tuple[int, int]
    every: int
    measure: Callable
    chosen_by: str
    entries: "dict[str, Entry]"


class Entry(NamedTuple):
    """An algorithm, its grid, and what of its task is otherwise."""

    make: Callable
    grid: list[dict[str, Any]]
    change: Any = ()
    fine_tune: fl.LocalTraining | None = None


def grid(**axes):
    """All combinations."""
    rows = itertools.product(*axes.values())
    return [dict(zip(axes, row, strict=True)) for row in rows]


def trained(task, entry, setting, seed, rounds, folder):
    """What comes of one run."""
    train, test = task.data(folder, seed)
    arguments = dict(setting)
    optimizer = keras.optimizers.SGD(arguments.pop("rate"))
    client = fl.LocalTraining(optimizer, **task.client)
    process = entry.make(task.model(seed), client, **arguments)
    history = process.fit(
        train,
        rounds,
        clients_per_round=task.per_round,
        validation_data=at_one_place(test),
        validation_freq=task.every,
        verbose=0,
        seed=seed,
    ).history["val_accuracy"]
    reached = {task.every * (k + 1): a for k, a in enumerate(history)}
    return task.measure(process, (train, test), reached, entry.fine_tune)


def compared(task, names, seeds, folder):
    """For each algorithm its best hyper-parameters, and results by seeds."""
    for name in names or task.entries:
        entry = task.entries[name]
        changed = task._replace(**dict(entry.change))
        run = functools.partial(trained, changed, entry, folder=folder)
        setting, tuning = entry.grid[0], {}
        if len(entry.grid) > 1:
            scores = [
                run(s, seed=100, rounds=changed.rounds[1])[task.chosen_by]
                for s in entry.grid
            ]
            tuning = {
                "grid": len(scores),
                "scores": np.round(scores, 4).tolist(),
            }
            setting = entry.grid[int(np.argmax(scores))]
        found = [run(setting, seed=s, rounds=changed.rounds[0]) for s in seeds]
        yield {
            "algorithm": name,
            **setting,
            **tuning,
            "seeds": list(seeds),
            "found": {key: [f[key] for f in found] for key in found[0]},
        }


def at_one_place(data):
    # By an id that no client has, who may have a model of its own.
    return fl.FederatedDataset.from_clients({"all of them": data.pooled()})


def late(reached):
    """The mean over the last sixth of the rounds: one has much noise."""
    last = [a for t, a in reached.items() if t > max(reached) * 5 / 6]
    return round(float(np.mean(last)), 4)


def over_clients(process, data, reached, fine_tune):
    """How clients fare, by their own models where they have some."""
    train, test = data
    metrics = process.evaluate(
        test,
        per_client=True,
        fine_tune=fine_tune,
        fine_tune_data=train if fine_tune else None,
    )
    accuracy = metrics["statistics"]["accuracy"]
    pooled = process.evaluate(at_one_place(train))
    return {
        "late": late(reached),
        "train_loss": round(pooled["loss"], 4),
        "mean": round(accuracy["mean"], 4),
        "worst_tenth": round(accuracy["lowest_tenth"], 4),
        "variance": round(1e4 * accuracy["std"] ** 2, 1),
    }


def rounds_to(process, data, reached, fine_tune):
    """The first rounds that reach some accuracies; None for none."""
    firsts = {
        f"to_{target}": next(
            (t for t, a in reached.items() if a >= target), None
        )
        for target in (0.9, 0.95, 0.97, 0.99)
    }
    best = round(max(reached.values()), 4)
    return {**firsts, "late": late(reached), "best": best}


# Li et al. 2020 (FedProx), section 5: 9 of 10 clients have time for a part of
# their 20 epochs only, a random number of them.
EPOCHS = 20


class Stragglers(fl.algorithms.Algorithm):
    """Federated averaging of what stragglers manage to do, too."""

    def batches(self, given, num_examples, seed):
        steps = given(num_examples, seed)
        rng = np.random.default_rng(seed)
        share = rng.integers(1, EPOCHS) / EPOCHS if rng.random() < 0.9 else 1.0
        return steps[: max(1, int(share * len(steps)))]


class StragglersNova(Stragglers, NormalizedUpdates):
    """FedNova of the same."""


def with_stragglers(model, client, nova=False, proximal=0.0):
    config = {**client.get_config(), "proximal": proximal}
    client = fl.LocalTraining.from_config(config)
    algorithm = StragglersNova() if nova else Stragglers()
    return fl.LearningProcess(model, client, algorithm=algorithm)


def synthetic(folder, seed):
    return fl.datasets.synthetic.load_data(1.0, 1.0, seed=seed)


def logistic(seed):
    return compiled(fl.models.logistic_regression((60,), 10, seed=seed))


@functools.cache
def hundred_shards(folder, seed):
    return real_data.mnist_100(folder, "shards")


@functools.cache
def all_writers(folder, seed):
    return real_data.mnist_by_writer(folder)


def fifty_writers(folder, seed):
    # 8 images of a writer are set apart in the file, too few for its accuracy.
    train, _ = all_writers(folder, 0)
    return train.sample(50, seed=seed).split_examples(0.7, seed)


RATES = [0.1, 0.3]


def tuned(make, change=(), fine_tune=None, rate=RATES, **axes):
    return Entry(make, grid(rate=rate, **axes), change, fine_tune)


POPULATION = {"population": [100]}
TUNING = fl.LocalTraining(keras.optimizers.SGD(0.1), batch_size=20, epochs=5)
NORMALIZED = {"model": functools.partial(dense, normalized=True)}
TASKS = {
    "synthetic": Task(
        data=synthetic,
        model=logistic,
        client={"batch_size": 10, "epochs": EPOCHS},
        per_round=10,
        rounds=(60, 60),
        every=1,
        measure=over_clients,
        chosen_by="mean",
        entries={
            # With 9 of 10 dropped one client is left.
            "FedAvg, all on time": tuned(A.FedAvg, rate=[0.01]),
            "FedAvg, stragglers dropped": tuned(
                A.FedAvg, {"per_round": 1}, rate=[0.01]
            ),
            "FedAvg, stragglers' part": tuned(with_stragglers, rate=[0.01]),
            "FedProx, stragglers' part": tuned(
                with_stragglers, rate=[0.01], proximal=[1.0]
            ),
            "FedNova, stragglers' part": tuned(
                with_stragglers, rate=[0.01], nova=[True]
            ),
            "FedProx, all on time": tuned(
                A.FedProx, rate=[0.01], proximal=[1.0]
            ),
            # Weights by examples are the paper's. Steps of q-FedAvg shrink
            # with the square of an update, so clients take few.
            **{
                f"q-FedAvg, q = {q}": tuned(
                    A.QFedAvg,
                    {
                        "client": {"batch_size": 10, "max_steps": 10},
                        "rounds": (200, 200),
                        "every": 10,
                    },
                    rate=[0.1],
                    q=[q],
                    aggregator=["mean"],
                )
                for q in (0.0, 1.0)
            },
        },
    ),
    "shards": Task(
        data=hundred_shards,
        model=dense,
        client={"batch_size": 50, "epochs": 5},
        per_round=10,
        rounds=(80, 30),
        every=2,
        measure=rounds_to,
        chosen_by="late",
        entries={
            "FedAvg": tuned(A.FedAvg, rate=[0.03, *RATES]),
            # At FedAvg's best rate.
            "FedProx": tuned(A.FedProx, rate=[0.3], proximal=[0.01, 0.1]),
            "SCAFFOLD": tuned(A.Scaffold, rate=[0.3], **POPULATION),
            "FedDyn": tuned(
                A.FedDyn, rate=[0.3], alpha=[0.01, 0.1], **POPULATION
            ),
        },
    ),
    "writers": Task(
        data=fifty_writers,
        model=dense,
        client={"batch_size": 20, "epochs": 5},
        per_round=10,
        rounds=(40, 20),
        every=5,
        measure=over_clients,
        chosen_by="mean",
        entries={
            "FedAvg": tuned(A.FedAvg),
            "FedAvg, fine-tuned": tuned(A.FedAvg, fine_tune=TUNING),
            "Reptile, fine-tuned": tuned(A.Reptile, fine_tune=TUNING),
            "alone": tuned(A.Ditto, strength=[0.0]),
            "FedPer": tuned(A.FedPer, personal=["head"]),
            "FedRep": tuned(A.FedRep, personal=["head"], head_steps=[5]),
            "LG-FedAvg": tuned(A.LGFedAvg, personal=["hidden"]),
            "Ditto": tuned(A.Ditto, strength=[0.1, 1.0]),
            "APFL": tuned(A.APFL, alpha=[0.25, 0.75]),
            "FedAvg, normalized": tuned(A.FedAvg, NORMALIZED),
            "FedBN": tuned(A.FedBN, NORMALIZED),
        },
    ),
    "reddi": Task(
        data=all_writers,
        model=dense,
        client={"batch_size": 20, "epochs": 1},
        per_round=10,
        rounds=(100, 30),
        every=5,
        measure=rounds_to,
        chosen_by="late",
        entries={
            name: tuned(make, server_learning_rate=rates)
            for name, make, rates in (
                (
                    "FedAvg",
                    functools.partial(A.FedAvgM, momentum=0.0),
                    [0.3, 1.0, 3.0],
                ),
                ("FedAvgM", A.FedAvgM, [0.1, 0.3, 1.0]),
                ("FedAdagrad", A.FedAdagrad, [0.01, 0.03, 0.1]),
                ("FedAdam", A.FedAdam, [0.003, 0.01, 0.03]),
                ("FedYogi", A.FedYogi, [0.003, 0.01, 0.03]),
            )
        },
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ["time", "trips", "heart", *TASKS]
    parser.add_argument("--what", choices=parts, default="time")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
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
    if flags.what in TASKS:
        facts = {"what": flags.what, "backend": keras.backend.backend()}
        task, seeds = TASKS[flags.what], range(flags.seeds)
        for found in compared(task, flags.names, seeds, flags.data):
            print(json.dumps({**facts, **found}), flush=True)
        return
    if flags.what == "heart":
        names = flags.names or heart_disease.METHODS
        heart_disease.compare(flags.data, names)
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
