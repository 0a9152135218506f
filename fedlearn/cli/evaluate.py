"""`fedlearn evaluate RUN`."""

import os
from collections.abc import Sequence
from typing import Any

from fedlearn.advice.units import counted
from fedlearn.cli import data as cli_data
from fedlearn.cli import model as cli_model
from fedlearn.cli import summary
from fedlearn.cli.flags import DATA_HELP, DEBUG_HELP, PLACES_HELP
from fedlearn.cli.run_folder import RunFolder

HELP = f"""\
Usage: fedlearn evaluate RUN [FLAGS]

Evaluates the model of a run on the test examples of each client, prints how
its metrics are spread over them, and writes evaluation.json anew. RUN is the
folder that fedlearn train wrote. Clients' own models aren't evaluated again.

Examples:
  fedlearn evaluate runs/demo   # after fedlearn train

If the model is made of code of your own:
  --model=NAME
      module:function, as for train: imports the module, whose classes the
      model may need. A run's folder alone runs no code.

If the data have been moved:
{PLACES_HELP}{DATA_HELP}
Flags:
{DEBUG_HELP}"""


def main(flags: Any, arguments: Sequence[str]) -> None:
    """Evaluates `model.keras` of a run, and writes `evaluation.json` anew."""
    folder = RunFolder(arguments[0])
    config = folder.read_config()
    folder.need(folder.MODEL)
    test = cli_data.task_of_run(config, flags).test
    cli_model.import_keras(flags.debug)
    from fedlearn import evaluation

    named, needs = config["flags"]["model"], ""
    if flags.model is None and cli_model.is_code(named):
        needs = (
            f" The run was made with --model={named}: if you trust that code, "
            f"import it with fedlearn evaluate {folder.path} --model={named}."
        )
    elif cli_model.is_code(flags.model):
        # A saved model may need what its module registers with Keras.
        cli_model.function(flags.model)
    model = cli_model.load_file(folder.file(folder.MODEL), needs)
    result = evaluation.evaluate(model, test, per_client=True)
    written, note = result, ""
    if os.path.isfile(folder.file(folder.EVALUATION)):
        before = folder.read_json(folder.EVALUATION)
        if "global" in before:
            written = {**before, "global": result}
            note = (
                "\nThis is the server's model. Clients have models of their "
                "own, which aren't in it: what training found of them stays "
                'in the file below, and this beside it, as "global".'
            )
    folder.write_json(folder.EVALUATION, written)
    pooled = [f"{n} {result[n]:.4g}" for n in result["statistics"]]
    print(
        f"{folder.file(folder.MODEL)} on the test data of "
        f"{cli_data.title(config['flags'])}, "
        f"{counted(int(result['num_examples']), 'example')}, pooled: "
        f"{', '.join(pooled)}{note}\n",
        *summary.per_client(result),
        f"\n  Each client's metrics: {folder.file(folder.EVALUATION)}",
        sep="\n",
    )
