"""`fedlearn sweep`."""

import csv
import dataclasses
import io
import math
import re
from collections.abc import Sequence
from typing import Any

from fedlearn.cli import data as cli_data
from fedlearn.cli import model as cli_model
from fedlearn.cli import own_data, process
from fedlearn.cli.flags import DEBUG_HELP, UsageError, Values
from fedlearn.cli.run_folder import RunFolder
from fedlearn.cli.train_help import HELP as TRAIN_HELP

_SWEPT = (
    *("algorithm", "batch_size", "client_learning_rate", "client_optimizer"),
    *("epochs", "model", "proximal", "server_learning_rate"),
    "server_optimizer",
)
TABLE, PICTURE = "sweep.csv", "sweep.png"
_FLAGS = re.sub(
    rf"^  --({'|'.join(_SWEPT)})=(\S+)(?:    (?= ))?",  # in line
    r"  --\1=\2,...",
    TRAIN_HELP[
        TRAIN_HELP.index("Data and model,") : TRAIN_HELP.index(
            "Differential privacy:"
        )
    ],
    flags=re.MULTILINE,
)
HELP = f"""\
Usage: fedlearn sweep [FLAGS]

Tries all combinations of flags that have several values, separated by commas,
on the same clients with the same seeds, and compares them on a fifth of the
training clients, who are held out. Writes a table, {TABLE}, a picture,
{PICTURE}, and the best model.

Examples:
  fedlearn sweep --client_learning_rate=0.01,0.1,1 --rounds=20
  fedlearn sweep --algorithm=fedavg,fedadam --epochs=1,5 --output_dir=runs/a

{_FLAGS}The sweep:
  --method=halving
      halving: train all a little, the best third longer, and so on, until the
      best have had about --rounds; grid: all of them --rounds.
  --metric=loss       What to compare: loss, or a metric such as accuracy.
  --output_dir=FOLDER
      By default runs/sweep.
  --resume
      Go on with the sweep in --output_dir, exactly as if it had never stopped;
      give the same flags again.
  --seed=0            Of the initial weights and all that is random.
  --executor=auto     How clients are run, as in fedlearn train.
  --verbose=1         1: a line for each rung of halving; 0: none.
{DEBUG_HELP}"""


def main(flags: Any, arguments: Sequence[str]) -> None:
    """Searches, and writes the table and the picture."""
    del arguments
    chosen = {n: getattr(flags, n) or [None] for n in _SWEPT}
    space = {n: values for n, values in chosen.items() if len(values) > 1}
    one = {n: values[0] for n, values in chosen.items()}
    flags = Values(**{**vars(flags), **one, "dp_epsilon": None})
    if not space:
        raise UsageError(
            "no flag has several values, such as "
            "--client_learning_rate=0.01,0.1,1. For one run there is "
            "fedlearn train."
        )
    folder = RunFolder(flags.output_dir or "runs/sweep")
    if not folder.is_empty and not flags.resume:
        raise UsageError(
            f"{folder.path} isn't empty. Add --resume to go on with the sweep "
            "in it, or give another --output_dir."
        )
    own_data.check(flags)
    task = cli_data.task(flags)
    flags.model = flags.model or task.model
    flags.batch_size = flags.batch_size or task.batch_size
    train, held_out = task.train.split(0.8, flags.seed)
    task = dataclasses.replace(task, train=train)
    clients = flags.clients_per_round or min(10, len(train))
    flags.clients_per_round = clients  # some aggregators count them
    cli_model.import_keras(flags.debug)
    import fedlearn as fl
    from fedlearn.many_models.search import rungs

    def build(**values: Any) -> Any:
        own = Values(**{**vars(flags), **values})
        process.check(own)
        model = cli_model.load(own.model, task, own.seed)
        return process.process(own, task, model, None)

    num = math.prod(map(len, space.values()))
    total = num * flags.rounds
    if flags.method == "halving":
        # Every rung costs the same, and the rounds of all make --rounds.
        counts = [count for count, _ in rungs(num, 0, 3)]
        total = round(flags.rounds * len(counts) / sum(1 / n for n in counts))
        total = max(total, len(counts) * num)  # a round for all at least
    found = fl.search(
        build,
        space,
        task.train,
        budget=total * clients,
        method=flags.method,
        clients_per_round=clients,
        validation_data=held_out,
        metric=flags.metric,
        seed=flags.seed,
        directory=folder.path,
        verbose=min(flags.verbose, 1),
    )
    table = io.StringIO()
    writer = csv.DictWriter(table, found.rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(found.rows)
    folder.write(TABLE, table.getvalue().encode())
    picture = io.BytesIO()
    figure = fl.plot.search(found).figure
    figure.savefig(picture, format="png", bbox_inches="tight")
    folder.write(PICTURE, picture.getvalue())
    folder.write_model(found.process.model)
    tested = found.process.evaluate(task.test)[flags.metric]
    best = "".join(f" --{n}={v}" for n, v in found.best.items())
    print(
        found,
        "",
        f"  The best on test examples: {flags.metric} {tested:.4g}",
        f"  Files in {folder.path}: {TABLE}, {PICTURE}, {folder.MODEL}",
        f"  Next, on all training clients: fedlearn train{best}",
        sep="\n",
    )
