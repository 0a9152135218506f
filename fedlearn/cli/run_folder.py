"""The folder of a run and its files."""

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.cli.errors import UsageError
from fedlearn.cli.model import is_code

if TYPE_CHECKING:
    import keras


class RunFolder:
    """Where a run keeps what it was, what it did and what came of it.

    Each file is replaced as a whole: readers see the old one or the new one.

    Args:
        path: The folder; made when the first file is written.

    Example:

    >>> with tempfile.TemporaryDirectory() as path:
    ...     folder = RunFolder(path)
    ...     folder.write_history([{"round": 1, "loss": 0.5}])
    ...     folder.read_history()
    {'round': [1.0], 'loss': [0.5]}
    """

    CONFIG = "config.json"
    HISTORY = "history.csv"
    CHECKPOINT = "checkpoint.fedlearn"
    MODEL = "model.keras"
    EVALUATION = "evaluation.json"
    REPORT = "report.png"

    def __init__(self, path: str):
        self.path = os.fspath(path)

    def file(self, name: str) -> str:
        """The path of one of the files."""
        return os.path.join(self.path, name)

    def has(self, name: str) -> bool:
        """Whether one of the files is there."""
        return os.path.isfile(self.file(name))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is there yet, not even the folder."""
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise UsageError(
                f"{self.path} is a file. Expected a folder for the run."
            )
        return not os.path.isdir(self.path) or not os.listdir(self.path)

    # Writing.

    def write(self, name: str, data: bytes) -> None:
        """Writes a file of the run."""
        # Not at the top: `report` needs none of what this imports.
        from fedlearn.runs import atomic_file

        atomic_file.write(self.file(name), data)

    def write_json(self, name: str, value: Any) -> None:
        """Writes a file of plain values; NaN and infinity become null."""
        text = json.dumps(_finite(value), indent=2, allow_nan=False)
        self.write(name, (text + "\n").encode())

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Writes the metrics, a row a round."""
        # Keys of all rows: validation may come later than the first round.
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write(self.HISTORY, text.getvalue().encode())

    def write_model(self, model: "keras.Model") -> None:
        """Writes the model as Keras does."""
        # Federated training leaves the compiled optimizer unbuilt, and Keras
        # warns when it loads such a one.
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        with tempfile.TemporaryDirectory() as scratch:
            path = os.path.join(scratch, self.MODEL)
            model.save(path)
            with open(path, "rb") as file:
                data = file.read()
        self.write(self.MODEL, data)

    # Reading.

    def read_json(self, name: str) -> Any:
        """Reads a file of plain values.

        Raises:
            UsageError: If it isn't there, or was changed by hand.
        """
        self.need(name)
        with open(self.file(name), encoding="utf-8") as file:
            try:
                return json.load(file)
            except json.JSONDecodeError as error:
                raise UsageError(
                    f"{self.file(name)} isn't JSON ({error}). It was changed "
                    "or cut short after it was written."
                ) from error

    def read_config(self) -> dict[str, Any]:
        """What the run was, whoever wrote the folder.

        Its `flags` are taken as those of a command line are.

        Raises:
            UsageError: If the file isn't there, or was changed by hand.
        """
        config = self.read_json(self.CONFIG)
        found = config.get("flags") if isinstance(config, dict) else None
        if not isinstance(found, dict) or not {
            *("algorithm", "dataset", "model")
        } <= set(found):
            raise UsageError(
                f"{self.file(self.CONFIG)} has no flags of a run. It was "
                "changed after it was written."
            )
        # Not at the top: it imports this module.
        from fedlearn.cli import train

        known = absl_flags.FlagValues()
        train.COMMAND.define(known)
        for name, value in found.items():
            if name not in known or value is None:
                continue
            try:
                if isinstance(value, (dict, list)):
                    raise ValueError("expected one value.")
                found[name] = known[name].parser.parse(str(value))
            except ValueError as error:
                raise UsageError(
                    f"{self.file(self.CONFIG)} has --{name}={value}: {error} "
                    "It was changed after it was written."
                ) from error
        return config

    def command_to_go_on(self, model: Any) -> str:
        """The command that goes on with the run in the folder.

        Args:
            model: Its flag of this name: code has to be named again.
        """
        again = f" --model={model}" if is_code(str(model)) else ""
        return f"fedlearn train --resume --output_dir={self.path}{again}"

    def read_history(self) -> dict[str, list[float]]:
        """The metrics, a list each; NaN for rounds without."""
        self.need(self.HISTORY)
        with open(self.file(self.HISTORY), encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        try:
            return {
                name: [float(row[name] or "nan") for row in rows]
                for name in (rows[0] if rows else ())
            }
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"{self.file(self.HISTORY)} isn't a table of numbers "
                f"({error}). It was changed after it was written."
            ) from error

    def need(self, name: str) -> None:
        """Raises an error with the way out if a file is not there."""
        if self.has(name):
            return
        if not os.path.isdir(self.path):
            parent = os.path.dirname(self.path.rstrip("/")) or "."
            others = os.listdir(parent) if os.path.isdir(parent) else []
            hint = did_you_mean(
                os.path.basename(self.path.rstrip("/")),
                others,
                "" if parent == "." else f"{parent}/",
            )
            raise UsageError(
                f"there is no folder {self.path}. Expected the folder of a "
                f"run, as fedlearn train --output_dir makes it.{hint}"
            )
        if not self.has(self.CONFIG):
            raise UsageError(
                f"{self.path} isn't the folder of a run: there is no "
                f"{self.CONFIG} in it."
            )
        raise UsageError(
            f"{self.path} has no {name}: the run hasn't ended. Go on with "
            f"it: {self.command_to_go_on(self.read_config()['flags']['model'])}"
        )


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
