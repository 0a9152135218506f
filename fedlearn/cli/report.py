"""`fedlearn report RUN`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedlearn.advice.units import in_bytes
from fedlearn.cli import data as cli_data
from fedlearn.cli import model as cli_model
from fedlearn.cli import summary
from fedlearn.cli.flags import (
    DATA_HELP,
    DEBUG_HELP,
    PLACES_HELP,
    UsageError,
)
from fedlearn.cli.run_folder import RunFolder
from fedlearn.plot import style
from fedlearn.plot.run_picture import metrics, run_picture

HELP = f"""\
Usage: fedlearn report RUN [FLAGS]

Draws report.png into the folder of a run: loss and accuracy by round, how
accuracy is spread over the test clients, which labels clients have, the bytes
sent, and epsilon by round where there is a budget. RUN is the folder that
fedlearn train wrote.

Examples:
  fedlearn report runs/demo   # after fedlearn train

If the data have been moved:
{PLACES_HELP}{DATA_HELP}
Flags:
{DEBUG_HELP}"""


def main(flags: Any, arguments: Sequence[str]) -> None:
    """Draws `report.png` of a run, and prints its table."""
    folder = RunFolder(arguments[0])
    config = folder.read_config()
    evaluation = folder.read_json(folder.EVALUATION)
    history = folder.read_history()
    train = cli_data.task_of_run(config, flags).train
    # Files are written by a module that brings in a backend.
    cli_model.import_keras(flags.debug)
    try:
        png = run_picture(
            summary.title(config["flags"]),
            _subtitle(config, history),
            f"fedlearn {config['fedlearn']}   ·   {config['started'][:10]}",
            list(_facts(config, history, evaluation)),
            history,
            evaluation,
            train,
            config.get("privacy"),
        )
        lines = list(summary.lines(config, history, evaluation))
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder.path} can't be drawn ({error!r}): {folder.CONFIG}, "
            f"{folder.HISTORY} or {folder.EVALUATION} was changed after it was "
            "written. To write them anew: "
            f"{folder.command_to_go_on(config['flags']['model'])}"
        ) from error
    folder.write(folder.REPORT, png)
    lines.append(f"  The picture: {folder.file(folder.REPORT)}")
    print("\n".join(lines))


def _subtitle(config, history):
    flags, model = config["flags"], str(config["flags"]["model"])
    return "   ·   ".join(
        [
            f"{model if len(model) <= 30 else '…' + model[-29:]}, "
            f"{config['num_parameters']:,} parameters",
            f"{len(history['round']):,} rounds of {summary.cohort(config)}",
            f"{flags['epochs']} epochs in batches of {flags['batch_size']}",
            f"client {config['optimizers']['client']}, "
            f"server {config['optimizers']['server']}",
            *filter(None, [summary.aggregation(flags)]),
            *filter(None, [flags.get("conditions")]),
            config["backend"],
        ]
    )


def _facts(config, history, evaluation):
    """Numbers to be read first, and what they are."""
    name = next(iter(metrics(evaluation)), None)
    if name and evaluation.get(name) is not None:
        spread = evaluation["statistics"][name]
        share = style.is_share(name, [spread["min"], spread["max"]])
        form = ".1%" if share else ".4g"
        yield f"{evaluation[name]:{form}}", f"test {name.replace('_', ' ')}"
        yield f"{spread['decile_1']:{form}}", "10th percentile of clients"
        yield f"{spread['min']:{form}}", "worst client"
    if evaluation.get("loss") is not None:
        yield f"{evaluation['loss']:.3g}", "test loss"
    if plan := config.get("privacy"):
        budget = f"of {plan['epsilon']:g}, at delta {plan['delta']:.2g}"
        yield f"ε {plan['spent']:.3g}", budget
    yield summary.duration(config), "training time"
    if hours := history.get("sim_hours"):
        yield f"{hours[-1]:,.1f} h", "by the simulated clock"
    if history.get("bytes_up"):
        for direction in ("up", "down"):
            total = np.nansum(history[f"bytes_{direction}"])
            sent = summary.num_sent(history, direction)
            each = in_bytes(total / sent)
            yield in_bytes(total), f"{direction}, {each} a message"
