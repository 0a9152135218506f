"""`fedlearn train`."""

import importlib.metadata
import os
import platform
import time
from collections.abc import Sequence
from typing import Any

import fedlearn
from fedlearn.cli import data as cli_data
from fedlearn.cli import model as cli_model
from fedlearn.cli import own_data, process, summary
from fedlearn.cli.flags import UsageError
from fedlearn.cli.run_folder import RunFolder
from fedlearn.cli.train_help import HELP as HELP

# What may differ when a run goes on.
_FREE = ("cache_dir", "output_dir", "rounds")


def main(flags: Any, arguments: Sequence[str]) -> None:
    """Trains, evaluates, and writes the folder of the run."""
    del arguments
    folder, before = _open(flags)
    process.check(flags)
    task = cli_data.task(flags)
    population = len(task.train)
    flags.model = flags.model or task.model
    flags.batch_size = flags.batch_size or task.batch_size
    flags.clients_per_round = flags.clients_per_round or min(10, population)
    if flags.clients_per_round > population:
        raise UsageError(
            f"--clients_per_round={flags.clients_per_round}, but "
            f"{cli_data.title(vars(flags))} has {population:,} clients. "
            f"Expected 1 to {population:,}."
        )
    cli_model.import_keras(flags.debug)
    import keras

    model = cli_model.load(flags.model, task, flags.seed)
    privacy = process.plan(flags, population, before.get("privacy"))
    made = process.process(flags, task, model, privacy)
    backend = keras.backend.backend()
    config = {
        "fedlearn": fedlearn.__version__,
        "started": before.get("started")
        or time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "flags": {
            name: value
            for name, value in vars(flags).items()
            if name not in ("given", "debug", "resume", "verbose")
        },
        "backend": backend,
        "versions": {
            "python": platform.python_version(),
            **{
                package: importlib.metadata.version(package)
                for package in ("keras", "numpy", backend)
            },
        },
        "num_clients": population,
        "class_names": task.train.class_names,
        "num_parameters": int(model.count_params()),
        "optimizers": {
            "client": type(made.client.optimizer or model.optimizer).__name__,
            "server": type(made.server_optimizer).__name__,
        },
        "privacy": privacy,
        # Of all sittings so far.
        "seconds": before.get("seconds", 0.0),
    }
    folder.write_json(folder.CONFIG, config)
    if flags.verbose:
        print(
            f"{summary.title(config['flags'])} with {flags.model} "
            f"({config['num_parameters']:,} parameters), {flags.rounds:,} "
            f"rounds with {summary.cohort(config)} each; {backend}",
            flush=True,
        )
    _fit(made, task, flags, folder, config)
    folder.write_model(made.model)
    evaluation = made.evaluate(made.state, task.test, per_client=True)
    folder.write_json(folder.EVALUATION, evaluation)
    print(
        "",
        *summary.lines(config, folder.read_history(), evaluation),
        f"  The model, for keras.models.load_model(..., compile=False): "
        f"{folder.file(folder.MODEL)}",
        f"  Next: fedlearn report {folder.path}",
        sep="\n",
    )


def _fit(made, task, flags, folder, config) -> None:
    """Trains, and writes the metrics, also those until an error."""
    clock = time.perf_counter()
    try:
        history = made.fit(
            task.train,
            rounds=flags.rounds,
            clients_per_round=None
            if process.without_numbers(flags.algorithm) == "fedbuff"
            else flags.clients_per_round,
            conditions=flags.conditions,
            validation_data=task.test if flags.validation_freq else None,
            validation_freq=flags.validation_freq or 1,
            verbose=flags.verbose,
            seed=flags.seed,
            checkpoint_dir=folder.path,
        )
        if flags.conditions:
            config["attendance"] = str(history.attendance)
        if config["privacy"]:
            config["privacy"]["spent"] = history.privacy.epsilon
            config["privacy"]["spent_with"] = history.privacy.accountant
    except KeyboardInterrupt:
        done = 0 if made.state is None else int(made.state.round_num)
        print(
            f"\nStopped after round {done} of {flags.rounds}. To go on: "
            f"{folder.command_to_go_on(flags.model)}"
        )
        raise
    finally:
        config["seconds"] += time.perf_counter() - clock
        folder.write_json(folder.CONFIG, config)
        known = getattr(made.model, "history", None)
        if known is not None and known.history:
            folder.write_history(known.history, flags.validation_freq)


def _open(flags: Any) -> tuple[RunFolder, dict[str, Any]]:
    """The folder of the run, and its config if it goes on."""
    if str(flags.model).endswith(".keras"):
        # The same in another working folder.
        flags.model = os.path.abspath(os.path.expanduser(flags.model))
    if flags.output_dir is None:
        if flags.resume:
            raise UsageError(
                "--resume needs --output_dir, the folder of the run to go on "
                "with."
            )
        data = os.path.splitext(os.path.basename(flags.data or ""))[0]
        name = f"{data or flags.dataset}-{flags.algorithm}"
        name = name.replace(":", "-").replace(",", "-")
        flags.output_dir, number = os.path.join("runs", name), 1
        while not RunFolder(flags.output_dir).is_empty:
            number += 1
            flags.output_dir = os.path.join("runs", f"{name}-{number}")
    folder = RunFolder(flags.output_dir)
    if folder.is_empty:
        own_data.check(flags)
        return folder, {}
    if not flags.resume:
        raise UsageError(
            f"{folder.path} isn't empty. Add --resume to go on with the run in "
            "it, or give another --output_dir."
        )
    config = folder.read_config()
    before = config["flags"]
    if cli_model.is_code(before["model"]) and "model" not in flags.given:
        raise UsageError(
            f"the run in {folder.path} was made with "
            f"--model={before['model']}, which is code, and a folder doesn't "
            "run any by itself. If you trust that code, name it: "
            f"{folder.command_to_go_on(before['model'])}"
        )
    for name in before.keys() & vars(flags).keys():
        was, now = before[name], getattr(flags, name)
        if name not in flags.given:
            setattr(flags, name, was)
        elif name not in _FREE and now != was:
            raise UsageError(
                f"the run in {folder.path} has --{name}={was}, and can't go on "
                f"with --{name}={now}. Leave the flag out, or give another "
                "--output_dir for a run of its own."
            )
    own_data.check(flags)
    return folder, config
