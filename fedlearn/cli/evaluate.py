"""`fedlearn evaluate RUN`."""

from collections.abc import Sequence
from typing import Any

from absl import flags as absl_flags

from fedlearn.cli import data as cli_data
from fedlearn.cli import model as cli_model
from fedlearn.cli import quiet, summary
from fedlearn.cli.command import Command, Group
from fedlearn.cli.flag_types import define
from fedlearn.cli.run_folder import RunFolder
from fedlearn.cli.units import counted, metric


def _define(values: absl_flags.FlagValues) -> list[Group]:
    define(
        values,
        "model",
        None,
        "module:function, as for train: imports the module, whose classes the "
        "model may need. A run's folder alone runs no code",
    )
    cli_data.define_places(values)
    absl_flags.DEFINE_bool(
        "debug",
        False,
        "show tracebacks and what backends log",
        flag_values=values,
    )
    return [
        Group("If the model is made of code of your own", ("model",)),
        Group("If the data have been moved", cli_data.PLACES),
        Group("Flags", ("debug",)),
    ]


def main(flags: Any, arguments: Sequence[str]) -> None:
    """Evaluates `model.keras` of a run, and writes `evaluation.json` anew.

    Args:
        flags: Values of the flags.
        arguments: The folder of the run.

    Raises:
        UsageError: If it isn't the folder of a run that has ended.
    """
    folder = RunFolder(arguments[0])
    config = folder.read_config()
    named = str(config["flags"]["model"])
    folder.need(folder.MODEL)
    _, test = cli_data.load_of_run(config, flags)
    quiet.import_keras(flags.debug)
    from fedlearn import evaluation

    if flags.model is not None:
        cli_model.import_module_of(flags.model)
    model = cli_model.load_file(
        folder.file(folder.MODEL),
        f" The run was made with --model={named}: if you trust that code, "
        f"import it with fedlearn evaluate {folder.path} --model={named}."
        if cli_model.is_code(named) and flags.model is None
        else "",
    )
    result = evaluation.evaluate(model, test, per_client=True)
    folder.write_json(folder.EVALUATION, result)
    pooled = ", ".join(
        f"{name} {metric(result[name])}" for name in result["statistics"]
    )
    lines = [
        f"{folder.file(folder.MODEL)} on the test examples of "
        f"{cli_data.title(config['flags'])}:",
        "",
        f"  {counted(int(result['num_examples']), 'example')}, pooled: "
        f"{pooled}",
        "",
        *summary.per_client(result),
        "",
        f"  Each client's metrics: {folder.file(folder.EVALUATION)}",
    ]
    print("\n".join(lines))


COMMAND = Command(
    name="evaluate",
    summary="evaluate a run's model on each test client",
    description=(
        "Evaluates the model of a run on the test examples of each client, "
        "prints how\nits metrics are spread over them, and writes "
        "evaluation.json anew. RUN is the\nfolder that fedlearn train wrote."
    ),
    arguments=("RUN",),
    define=_define,
    examples=(("fedlearn evaluate runs/demo", "after fedlearn train"),),
    main=main,
)
