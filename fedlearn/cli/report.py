"""`fedlearn report RUN`."""

from collections.abc import Sequence
from typing import Any

from fedlearn.cli import data as cli_data
from fedlearn.cli import model as cli_model
from fedlearn.cli import summary
from fedlearn.cli.flags import DEBUG, PLACES, Command, UsageError
from fedlearn.cli.run_folder import RunFolder


def main(flags: Any, arguments: Sequence[str]) -> None:
    """Draws `report.png` of a run, and prints its table."""
    folder = RunFolder(arguments[0])
    config = folder.read_config()
    evaluation = folder.read_json(folder.EVALUATION)
    history = folder.read_history()
    train = cli_data.task_of_run(config, flags).train
    # Files are written by a module that brings in a backend.
    cli_model.import_keras(flags.debug)
    from fedlearn.cli import picture

    try:
        png = picture.draw(config, history, evaluation, train)
        lines = list(summary.lines(config, history, evaluation))
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder.path} can't be drawn ({error!r}): {folder.CONFIG}, "
            f"{folder.HISTORY} or {folder.EVALUATION} was changed after it was "
            f"written. To write them anew: "
            f"{folder.command_to_go_on(config['flags']['model'])}"
        ) from error
    folder.write(folder.REPORT, png)
    lines.append(f"  The picture: {folder.file(folder.REPORT)}")
    print("\n".join(lines))


COMMAND = Command(
    "draw a run as one picture, report.png",
    "Draws report.png into the folder of a run: loss and accuracy by round, "
    "how accuracy is spread over the test clients, which labels clients have, "
    "the bytes sent, and epsilon by round where there is a budget. RUN is the "
    "folder that fedlearn train wrote.",
    main,
    {"If the data have been moved": PLACES, "Flags": (DEBUG,)},
    (("fedlearn report runs/demo", "after fedlearn train"),),
    ("RUN",),
)
