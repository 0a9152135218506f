"""`fedlearn train`."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags as absl_flags

import fedlearn
from fedlearn.cli import (
    aggregation,
    algorithms,
    compression,
    own_data,
    quiet,
    summary,
)
from fedlearn.cli import data as cli_data
from fedlearn.cli import model as cli_model
from fedlearn.cli import privacy as cli_privacy
from fedlearn.cli.command import Command, Group
from fedlearn.cli.errors import UsageError
from fedlearn.cli.flag_types import Choice, Named, Positive, Whole, define
from fedlearn.cli.objective import objective
from fedlearn.cli.run_folder import RunFolder
from fedlearn.cli.task import Task, task_of
from fedlearn.cli.units import counted
from fedlearn.names import AGGREGATORS, OPTIMIZERS, usages

EXECUTORS = ("auto", "sequential", "vectorized")
# What may differ when a run goes on.
_FREE = ("cache_dir", "debug", "output_dir", "resume", "rounds", "verbose")


def _define(values: absl_flags.FlagValues) -> list[Group]:
    def flag(name, default, text, parser=None):
        define(values, name, default, text, parser)

    flag(
        "dataset",
        "digits",
        "what to train on; fedlearn datasets lists what there is. digits, "
        "1,797 images of 8 x 8 pixels, need no download",
    )
    cli_data.define_arguments(values)
    own_data.define_place(values)
    own_data.define_flags(values)
    flag(
        "model",
        None,
        "a model of fl.models, such as digits_cnn or logistic_regression; or "
        "a .keras file; or module:function, a function that returns a model "
        "(default: one that suits the data set)",
    )
    flag(
        "algorithm",
        "fedavg",
        f"one of {', '.join(algorithms.ALGORITHMS)}",
        Choice(tuple(algorithms.ALGORITHMS)),
    )
    flag(
        "rounds",
        50,
        "how many rounds, counted from the beginning of the run",
        Whole(1),
    )
    flag(
        "clients_per_round",
        None,
        "how many clients take part in a round, drawn at random (default: 10, "
        "or all if there are fewer)",
        Whole(1),
    )
    flag("batch_size", 10, "examples a step at a client", Whole(1))
    flag(
        "epochs",
        5,
        "passes of a client over its examples in a round",
        Whole(1),
    )
    names = ", ".join(OPTIMIZERS)
    flag(
        "client_optimizer",
        None,
        f"one of {names} (default: sgd, or what a compiled model comes with)",
        Choice(tuple(OPTIMIZERS)),
    )
    flag(
        "client_learning_rate",
        None,
        "its learning rate (default: 0.1 for sgd, Keras's own for others)",
        Positive(),
    )
    flag(
        "server_optimizer",
        None,
        "the same choice, for fedavg and fedprox (default: sgd); the other "
        "algorithms are their server optimizer",
        Choice(tuple(OPTIMIZERS)),
    )
    rates = ", ".join(
        f"{a.learning_rate:g} for {name}"
        for name, a in algorithms.ALGORITHMS.items()
        if a.learning_rate != 1
    )
    flag(
        "server_learning_rate",
        None,
        f"its learning rate (default: {rates}; 1 for sgd, Keras's own for "
        "others)",
        Positive(),
    )
    flag(
        "proximal",
        None,
        "fedprox: mu, the pull towards the server's model (default: 0.1)",
        Positive(or_zero=True),
    )
    flag(
        "aggregator",
        "mean",
        "what the server makes of the updates, with its numbers, such as "
        f"trimmed_mean:0.2: {usages(AGGREGATORS)}",
        Named(AGGREGATORS),
    )
    compression.define_flags(values)
    cli_privacy.define_flags(values)
    flag(
        "output_dir",
        None,
        "folder of the run (default: runs/DATASET-ALGORITHM, with a number "
        "if that is taken)",
    )
    absl_flags.DEFINE_bool(
        "resume",
        False,
        "go on with the run in --output_dir, exactly as if it had never "
        "stopped; flags that aren't given are as they were. Starts a run if "
        "there is none",
        flag_values=values,
    )
    flag(
        "validation_freq",
        1,
        "evaluate on the test clients after every so many rounds; 0: only at "
        "the end",
        Whole(0),
    )
    flag(
        "verbose",
        1,
        "1: a progress bar; 2: a line a round; 0: neither",
        Whole(0, 2),
    )
    flag(
        "seed",
        0,
        "of the initial weights and all that is random in training; data are "
        "divided the same way for every seed",
        Whole(0, 2**63 - 1),
    )
    flag(
        "executor",
        "auto",
        f"how the clients of a round are run: {', '.join(EXECUTORS)}",
        Choice(EXECUTORS),
    )
    absl_flags.DEFINE_bool(
        "debug",
        False,
        "show tracebacks and what backends log",
        flag_values=values,
    )
    return [
        Group("Data and model", ("dataset", *cli_data.ARGUMENTS, "model")),
        Group("Data of your own", own_data.FLAGS),
        Group(
            "Algorithm",
            ("algorithm", "rounds", "clients_per_round", "proximal"),
        ),
        Group(
            "At the clients",
            (
                "batch_size",
                "epochs",
                "client_optimizer",
                "client_learning_rate",
            ),
        ),
        Group("On the wire", compression.FLAGS),
        Group(
            "At the server",
            ("aggregator", "server_optimizer", "server_learning_rate"),
        ),
        Group("Differential privacy", cli_privacy.FLAGS),
        Group(
            "The run",
            (
                "output_dir",
                "resume",
                "validation_freq",
                "seed",
                "executor",
                "verbose",
                "debug",
            ),
        ),
    ]


def main(flags: Any, arguments: Sequence[str]) -> None:
    """Trains, evaluates, and writes the folder of the run.

    Args:
        flags: Values of the flags.
        arguments: None.

    Raises:
        UsageError: If flags contradict each other, or the folder is taken.
    """
    del arguments
    folder, before = _open(flags)
    algorithm = algorithms.ALGORITHMS[flags.algorithm]
    own_data.check(flags)
    if flags.data is None:
        cli_data.find(flags.dataset)
    _check(flags, algorithm)
    started = time.time()
    train, test = cli_data.load(flags)
    if flags.clients_per_round is None:
        flags.clients_per_round = min(10, len(train))
    if flags.clients_per_round > len(train):
        raise UsageError(
            f"--clients_per_round={flags.clients_per_round}, but "
            f"{cli_data.title(vars(flags))} has {len(train):,} clients. "
            "Expected 1 to "
            f"{len(train):,}."
        )
    quiet.import_keras(flags.debug)
    import keras

    from fedlearn.cli.history_file import HistoryFile

    task = task_of(flags, train)
    own_data.choose_optimizer(flags, task.label)
    model = cli_model.load(flags.model, task, flags.seed)
    privacy = cli_privacy.plan(flags, len(train), before.get("privacy"))
    process = _process(flags, algorithm, model, task, privacy)
    config = {
        "fedlearn": fedlearn.__version__,
        "started": before.get("started")
        or time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
        "flags": {
            name: value
            for name, value in vars(flags).items()
            if name not in ("given", "debug", "resume", "verbose")
        },
        "backend": keras.backend.backend(),
        "versions": _versions(keras.backend.backend()),
        "executor": repr(process.executor),
        "num_clients": len(train),
        "class_names": train.class_names,
        "num_parameters": int(model.count_params()),
        "optimizers": {
            "client": type(
                process.client.optimizer or model.optimizer
            ).__name__,
            "server": type(process.server_optimizer).__name__,
        },
        "privacy": privacy,
        # Of all sittings so far.
        "seconds": before.get("seconds", 0.0),
    }
    folder.write_json(folder.CONFIG, config)
    if flags.verbose:
        print(
            f"{algorithm.title} with {flags.model} "
            f"({config['num_parameters']:,} parameters) on "
            f"{cli_data.title(config['flags'])}: "
            f"{counted(flags.rounds, 'round')}, each with "
            f"{'about ' if privacy else ''}{flags.clients_per_round} of "
            f"{len(train)} clients; {config['backend']}",
            flush=True,
        )
        if privacy:
            print(cli_privacy.told(privacy), flush=True)
    history_file = HistoryFile(folder, flags.validation_freq)
    clock = time.perf_counter()
    try:
        history = process.fit(
            train,
            rounds=flags.rounds,
            clients_per_round=flags.clients_per_round,
            validation_data=test if flags.validation_freq else None,
            validation_freq=flags.validation_freq or 1,
            callbacks=[history_file],
            verbose=flags.verbose,
            seed=flags.seed,
            checkpoint_dir=folder.path,
        )
    except KeyboardInterrupt:
        done = 0 if process.state is None else int(process.state.round_num)
        print(
            f"\nStopped after round {done} of {flags.rounds}. To go on: "
            f"{folder.command_to_go_on(flags.model)}"
        )
        raise
    finally:
        config["seconds"] += time.perf_counter() - clock
        folder.write_json(folder.CONFIG, config)
        history_file.write()
    if privacy:
        privacy["spent"] = history.privacy.epsilon
        privacy["spent_with"] = history.privacy.accountant
        folder.write_json(folder.CONFIG, config)
    folder.write_model(process.model)
    evaluation = process.evaluate(process.state, test, per_client=True)
    folder.write_json(folder.EVALUATION, evaluation)
    _print(folder, config, history.history, evaluation, process.model)


def _open(flags: Any) -> tuple[RunFolder, dict[str, Any]]:
    """The folder of the run, and its config if it goes on."""
    if flags.model is not None:
        flags.model = cli_model.absolute(flags.model)
    data = own_data.name(flags)
    if flags.output_dir is None:
        if flags.resume:
            raise UsageError(
                "--resume needs --output_dir, the folder of the run to go on "
                "with."
            )
        name = os.path.join("runs", f"{data}-{flags.algorithm}")
        number = 1
        flags.output_dir = name
        while not RunFolder(flags.output_dir).is_empty:
            number += 1
            flags.output_dir = f"{name}-{number}"
    folder = RunFolder(flags.output_dir)
    if folder.is_empty or not flags.resume:
        if not folder.is_empty:
            raise UsageError(
                f"{folder.path} isn't empty. Add --resume to go on with the "
                "run in it, or give another --output_dir."
            )
        if flags.model is None:
            flags.model = cli_model.default(flags)
        return folder, {}
    config = folder.read_config()
    before = config["flags"]
    named = str(before["model"])
    if cli_model.is_code(named) and "model" not in flags.given:
        raise UsageError(
            f"the run in {folder.path} was made with --model={named}, which is "
            "code, and a folder doesn't run any by itself. If you trust that "
            f"code, name it: {folder.command_to_go_on(named)}"
        )
    for name, was in before.items():
        if name not in vars(flags) or (name in _FREE and name in flags.given):
            continue
        if name in flags.given and name not in _FREE:
            now = getattr(flags, name)
            if now != was:
                raise UsageError(
                    f"the run in {folder.path} has --{name}={was}, and can't "
                    f"go on with --{name}={now}. Leave the flag out, or give "
                    "another --output_dir for a run of its own."
                )
        elif name not in _FREE or name in ("rounds", "cache_dir"):
            setattr(flags, name, was)
    return folder, config


def _check(flags: Any, algorithm: algorithms.Algorithm) -> None:
    cli_privacy.check(flags)
    if flags.model is None:
        raise UsageError(
            f"--dataset={flags.dataset} needs --model: a model of fl.models, "
            "a .keras file, or module:function."
        )
    if flags.proximal is not None and algorithm.proximal is None:
        raise UsageError(
            f"--proximal is for --algorithm=fedprox, not {flags.algorithm}."
        )
    if flags.server_optimizer not in (None, algorithm.server) and (
        flags.algorithm not in ("fedavg", "fedprox")
    ):
        raise UsageError(
            f"--algorithm={flags.algorithm} means the server optimizer "
            f"{algorithm.server}. Leave out --server_optimizer, or choose "
            "--algorithm=fedavg with it."
        )


def _process(
    flags: Any,
    algorithm: algorithms.Algorithm,
    model: Any,
    task: Task,
    privacy: Mapping[str, Any] | None,
) -> Any:
    from fedlearn import FederatedAveraging, LocalTraining
    from fedlearn.privacy import Privacy

    chosen = flags.client_optimizer or (
        None if model.compiled and not flags.client_learning_rate else "sgd"
    )
    optimizer = None
    if chosen:
        rate = flags.client_learning_rate
        if rate is None and chosen == "sgd":
            rate = 0.1
        optimizer = algorithms.optimizer(chosen, rate)
    if not model.compiled:
        loss, metrics = objective(task, _output_shape(model))
        model.compile(optimizer=optimizer, loss=loss, metrics=metrics)
        optimizer = None
    proximal = algorithm.proximal if flags.proximal is None else flags.proximal
    server = flags.server_optimizer or algorithm.server
    rate = flags.server_learning_rate
    options: Mapping[str, Any] = {}
    if server == algorithm.server:
        options = algorithm.options
        rate = algorithm.learning_rate if rate is None else rate
    return FederatedAveraging(
        model,
        client=LocalTraining(
            optimizer,
            batch_size=flags.batch_size,
            epochs=flags.epochs,
            proximal=proximal or 0.0,
        ),
        server_optimizer=algorithms.optimizer(server, rate, **options),
        aggregator=aggregation.aggregator(flags, privacy),
        privacy=None
        if privacy is None
        else Privacy(
            privacy["delta"], flags.dp_secure_noise, flags.dp_private_metrics
        ),
        executor=flags.executor,
    )


def _output_shape(model: Any) -> Any:
    try:
        return model.output_shape
    except AttributeError:  # a subclass that has seen no data
        return None


def _versions(backend: str) -> dict[str, str]:
    import importlib.metadata

    versions = {"python": platform.python_version()}
    for package in ("keras", "numpy", backend):
        versions[package] = importlib.metadata.version(package)
    return versions


def _print(
    folder: RunFolder,
    config: dict[str, Any],
    history: dict[str, list[float]],
    evaluation: dict[str, Any],
    model: Any,
) -> None:
    rounds = max(map(len, history.values()))
    lines = [
        "",
        summary.headline(config, rounds),
        "",
        *summary.results(history, evaluation),
        "",
        *summary.privacy(config),
        *summary.per_client(evaluation),
        "",
        *summary.files(
            folder,
            {
                folder.MODEL: f"a model for {cli_model.how_to_load(model)}",
                folder.HISTORY: "metrics, a row a round",
                folder.EVALUATION: "metrics of each test client",
                folder.CONFIG: "flags and versions",
                folder.CHECKPOINT: "what --resume goes on from",
            },
        ),
        "",
        f"  Next: fedlearn report {folder.path}",
    ]
    print("\n".join(lines))


COMMAND = Command(
    name="train",
    summary="train a model on the clients of a data set",
    description=(
        "Trains a model by federated learning and writes the folder of the "
        "run: the\nmodel, a table of metrics, and the metrics of each test "
        "client."
    ),
    arguments=(),
    define=_define,
    examples=(
        ("fedlearn train", "digits, about a minute"),
        (
            "fedlearn train --rounds=100 --output_dir=runs/demo",
            "more rounds",
        ),
        (
            "fedlearn train --resume --rounds=200 --output_dir=runs/demo",
            "and more",
        ),
        ("fedlearn train --algorithm=fedprox --proximal=0.01", "FedProx"),
        (
            "fedlearn train --dataset=shakespeare --source=synthetic",
            "offline",
        ),
        (
            "fedlearn train --data=visits.csv --client=hospital "
            "--label=outcome",
            "your own",
        ),
        ("fedlearn train --model=my_models:build", "build() in my_models.py"),
        ("fedlearn train --compress=eden:2", "2 bits a number"),
        (
            "fedlearn train --dp_epsilon=8 --dp_clip_norm=0.5",
            "differential privacy",
        ),
        ("fedlearn train --aggregator=krum:2", "two may be malicious"),
    ),
    main=main,
)
