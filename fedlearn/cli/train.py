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
from fedlearn.cli.flags import (
    DATA_HELP,
    DEBUG_HELP,
    PLACES_HELP,
    VARIANTS_HELP,
    UsageError,
    wrapped,
)
from fedlearn.cli.run_folder import RunFolder
from fedlearn.names import (
    AGGREGATORS,
    ALGORITHMS,
    ENCODERS,
    EXECUTORS,
    usages,
)

# What may differ when a run goes on; of these, what is as it was.
_FREE = ("cache_dir", "debug", "output_dir", "resume", "rounds", "verbose")
_KEPT = ("cache_dir", "rounds")

HELP = f"""\
Usage: fedlearn train [FLAGS]

Trains a model by federated learning and writes the folder of the run: the
model, a table of metrics, and the metrics of each test client.

Examples:
  fedlearn train                           # digits, about a minute
  fedlearn train --rounds=100 --output_dir=runs/demo            # more rounds
  fedlearn train --resume --rounds=200 --output_dir=runs/demo   # and more
  fedlearn train --algorithm=fedprox --proximal=0.01            # FedProx
  fedlearn train --dataset=shakespeare --source=synthetic       # offline
  fedlearn train --data=visits.csv --client=hospital --label=outcome
  fedlearn train --model=my_models:build   # build() in my_models.py
  fedlearn train --compress=eden:2         # 2 bits a number
  fedlearn train --dp_epsilon=8 --dp_clip_norm=0.5   # differential privacy
  fedlearn train --aggregator=krum:2       # two may be malicious

Data and model, with defaults after the = where they aren't in capitals:
  --dataset=digits
      What to train on; fedlearn datasets lists what there is. digits, 1,797
      images of 8 x 8 pixels, need no download.
{PLACES_HELP}{VARIANTS_HELP}  --model=MODEL
      A model of fl.models, such as digits_cnn or logistic_regression; or a
      .keras file; or module:function, a function that returns a model. By
      default one that suits the data set.

Data of your own:
{DATA_HELP}{own_data.HELP}
Algorithm:
  --algorithm=fedavg
      {wrapped("One of " + ", ".join(ALGORITHMS))}
  --rounds=50
      How many rounds, counted from the beginning of the run.
  --clients_per_round=N
      How many clients take part in a round, drawn at random. By default 10,
      or all if there are fewer.
  --proximal=X
      fedprox: mu, the pull towards the server's model. By default 0.1.
  --personal=LAYERS
      fedper: names of layers that each client keeps to itself, as in out,head.

At the clients:
  --batch_size=N
      Examples a step. By default what is usual for the data set, such as 10.
  --epochs=5
      Passes of a client over its examples in a round.
  --client_optimizer=NAME
      One of sgd, adam, adamw, adagrad, adadelta, adamax, nadam, rmsprop, lion,
      yogi, fedadagrad, fedadam, fedyogi. By default sgd, or what a compiled
      model comes with.
  --client_learning_rate=X
      Its learning rate. By default, for sgd, what is usual for the data set,
      such as 0.1; for others Keras's own.
  --statistics=average
      What becomes of the statistics of layers such as BatchNormalization:
      average, local or frozen.

On the wire:
  --compress=CHAIN
      How clients' updates are compressed, several joined with +, such as
      eden:2 or rotation+uniform:4+bzip2. By default they aren't.
      {wrapped(usages(ENCODERS))}
  --error_feedback
      A client adds to an update what earlier messages left out: for topk,
      sign and powersgd, where clients come back.

At the server:
  --aggregator=mean
      What the server makes of the updates, with its numbers.
      {wrapped(usages(AGGREGATORS))}
  --server_optimizer=NAME
      The same choice as at the clients. By default sgd; fedavgm, fedadam,
      fedyogi and fedadagrad are their server optimizer.
  --server_learning_rate=X
      Its learning rate. By default the algorithm's own, or 1 for sgd and
      Keras's own for others.

Differential privacy:
  --dp_epsilon=X
      Train with differential privacy for clients: clip updates, add the least
      noise with which all rounds keep to this epsilon, and let each client
      take part by its own coin.
  --dp_delta=X
      The delta of the guarantee. By default clients**-1.1.
  --dp_clip_norm=X
      The largest L2 norm of an update. By default one that follows the median
      of the updates' norms.
  --dp_accountant=rdp
      What finds the noise: rdp, which epsilon by round is logged with; or
      pld, less noise, after a minute.
  --dp_private_metrics
      Leave out the metrics of clients' training, which are exact.
  --dp_secure_noise
      Draw noise from the operating system's entropy, not from the seed.

The run:
  --output_dir=FOLDER
      By default runs/DATASET-ALGORITHM, with a number if that is taken.
  --resume
      Go on with the run in --output_dir, exactly as if it had never stopped;
      flags that aren't given are as they were. Starts a run if there is none.
  --validation_freq=1
      Evaluate on the test clients after every so many rounds; 0: only at the
      end.
  --seed=0
      Of the initial weights and all that is random in training; data are
      divided the same way for every seed.
  --executor=auto
      How the clients of a round are run: {", ".join(EXECUTORS)}.
  --verbose=1
      1: a progress bar; 2: a line a round; 0: neither.
{DEBUG_HELP}"""


def main(flags: Any, arguments: Sequence[str]) -> None:
    """Trains, evaluates, and writes the folder of the run."""
    del arguments
    folder, before = _open(flags)
    process.check(flags)
    started = time.time()
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
        or time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
        "flags": {
            name: value
            for name, value in vars(flags).items()
            if name not in ("given", "debug", "resume", "verbose")
        },
        "backend": backend,
        "versions": {
            "python": platform.python_version(),
            **{p: importlib.metadata.version(p) for p in ("keras", "numpy")},
            backend: importlib.metadata.version(backend),
        },
        "executor": repr(made.executor),
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
        print("\n".join(summary.begin(config)), flush=True)
    _fit(made, task, flags, folder, config)
    folder.write_model(made.model)
    evaluation = made.evaluate(made.state, task.test, per_client=True)
    folder.write_json(folder.EVALUATION, evaluation)
    files = {
        folder.MODEL: f"a model for {cli_model.how_to_load(made.model)}",
        folder.HISTORY: "metrics, a row a round",
        folder.EVALUATION: "metrics of each test client",
        folder.CONFIG: "flags and versions",
        folder.CHECKPOINT: "what --resume goes on from",
    }
    lines = [
        "",
        *summary.lines(config, folder.read_history(), evaluation),
        f"  Files in {folder.path}:",
        *(f"    {name:19} {what}" for name, what in files.items()),
        "",
        f"  Next: fedlearn report {folder.path}",
    ]
    print("\n".join(lines))


def _fit(made, task, flags, folder, config) -> None:
    """Trains, and writes the metrics, also those until an error."""
    clock = time.perf_counter()
    try:
        history = made.fit(
            task.train,
            rounds=flags.rounds,
            clients_per_round=flags.clients_per_round,
            validation_data=task.test if flags.validation_freq else None,
            validation_freq=flags.validation_freq or 1,
            verbose=flags.verbose,
            seed=flags.seed,
            checkpoint_dir=folder.path,
        )
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
        data = flags.data and os.path.basename(flags.data)
        data = os.path.splitext(data)[0] if data else flags.dataset
        flags.output_dir = name = os.path.join(
            "runs", f"{data}-{flags.algorithm}"
        )
        number = 1
        while not RunFolder(flags.output_dir).is_empty:
            number += 1
            flags.output_dir = f"{name}-{number}"
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
            if name not in _FREE or name in _KEPT:
                setattr(flags, name, was)
        elif name not in _FREE and now != was:
            raise UsageError(
                f"the run in {folder.path} has --{name}={was}, and can't go on "
                f"with --{name}={now}. Leave the flag out, or give another "
                "--output_dir for a run of its own."
            )
    own_data.check(flags)
    return folder, config
