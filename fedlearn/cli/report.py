"""`fedlearn report RUN`."""

from collections.abc import Sequence
from typing import Any

from absl import flags as absl_flags

from fedlearn.cli import data as cli_data
from fedlearn.cli import quiet, summary
from fedlearn.cli.command import Command, Group
from fedlearn.cli.run_folder import RunFolder


def _define(values: absl_flags.FlagValues) -> list[Group]:
    cli_data.define_places(values)
    absl_flags.DEFINE_bool(
        "debug",
        False,
        "show tracebacks and what backends log",
        flag_values=values,
    )
    return [
        Group("If the data have been moved", cli_data.PLACES),
        Group("Flags", ("debug",)),
    ]


def main(flags: Any, arguments: Sequence[str]) -> None:
    """Draws `report.png` of a run, and prints its table.

    Args:
        flags: Values of the flags.
        arguments: The folder of the run.

    Raises:
        UsageError: If it isn't the folder of a run that has ended.
    """
    folder = RunFolder(arguments[0])
    config = folder.read_config()
    evaluation = folder.read_json(folder.EVALUATION)
    history = folder.read_history()
    train, _ = cli_data.load_of_run(config, flags)
    # Some data sets bring in the backend, and files are written by a module
    # that does.
    quiet.import_keras(flags.debug)
    from fedlearn.cli import picture

    folder.write(
        folder.REPORT, picture.draw(config, history, evaluation, train)
    )
    lines = [
        summary.headline(config, len(history["round"])),
        "",
        *summary.results(history, evaluation),
        "",
        *summary.privacy(config),
        *summary.per_client(evaluation),
        "",
        f"  The picture: {folder.file(folder.REPORT)}",
    ]
    print("\n".join(lines))


COMMAND = Command(
    name="report",
    summary="draw a run as one picture, report.png",
    description=(
        "Draws report.png into the folder of a run: loss and accuracy by "
        "round, how\naccuracy is spread over the test clients, which labels "
        "clients have, the bytes\nsent, and epsilon by round where there is a "
        "budget. RUN is the folder that\nfedlearn train wrote."
    ),
    arguments=("RUN",),
    define=_define,
    examples=(("fedlearn report runs/demo", "after fedlearn train"),),
    main=main,
)
