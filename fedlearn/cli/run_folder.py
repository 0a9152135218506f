import csv
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedlearn.advice.did_you_mean import did_you_mean
from fedlearn.cli.flags import UsageError, define
from fedlearn.cli.model import is_code
from fedlearn.cli.train_help import HELP
from fedlearn.runs import atomic_file

if TYPE_CHECKING:
    import keras


class RunFolder:
    """Where a run keeps what it was, what it did and what came of it.

    Each file is replaced as a whole: readers see the old one or the new one.
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

    @property
    def is_empty(self) -> bool:
        """Whether nothing is there yet, not even the folder."""
        if os.path.isfile(self.path):
            raise UsageError(
                f"{self.path} is a file. Expected a folder for the run."
            )
        return not os.path.isdir(self.path) or not os.listdir(self.path)

    def command_to_go_on(self, model: Any) -> str:
        """What goes on with the run, whose `--model` this is."""
        # Code has to be named again.
        again = f" --model={model}" if is_code(model) else ""
        return f"fedlearn train --resume --output_dir={self.path}{again}"

    def write(self, name: str, data: bytes) -> None:
        """Writes a file of the run."""
        atomic_file.write(self.file(name), data)

    def write_json(self, name: str, value: Any) -> None:
        """Writes a file of plain values; NaN and infinity become null."""
        text = json.dumps(_finite(value), indent=2, allow_nan=False)
        self.write(name, (text + "\n").encode())

    def write_history(
        self, history: Mapping[str, list[float]], validation_freq: int
    ) -> None:
        """Writes metrics as Keras keeps them: a row a round."""
        # Columns of all rounds: validation may come later than the first.
        rows: list[dict[str, float]] = [
            {"round": i + 1} for i in range(max(map(len, history.values())))
        ]
        for name, values in history.items():
            every = validation_freq if name.startswith("val_") else 1
            for row, value in zip(
                rows[every - 1 :: every], values, strict=False
            ):
                row[name] = value
        text = io.StringIO()
        writer = csv.DictWriter(text, ["round", *history], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write(self.HISTORY, text.getvalue().encode())

    def write_model(self, model: "keras.Model") -> None:
        """Writes the model as Keras does."""
        # Federated training leaves the compiled optimizer unbuilt, and Keras
        # warns when it loads such a one.
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        partial = self.file("partial.keras")
        model.save(partial)
        atomic_file.replace(partial, self.file(self.MODEL))

    def read_json(self, name: str) -> Any:
        """Reads a file of plain values."""
        self.need(name)
        with open(self.file(name), encoding="utf-8") as file:
            try:
                return json.load(file)
            except ValueError as error:
                raise self._changed(name, f"isn't JSON ({error})") from error

    def read_config(self) -> dict[str, Any]:
        """What the run was, its `flags` checked as those of a command line."""
        config = self.read_json(self.CONFIG)
        found = config.get("flags") if isinstance(config, dict) else None
        if not isinstance(found, dict) or not {
            *("algorithm", "dataset", "model")
        } <= set(found):
            raise self._changed(self.CONFIG, "has no flags of a run")
        known = define(HELP)
        for name, value in found.items():
            # Of a version that had the encoder "range"; --resume says so.
            old = name == "compress" and "range" in str(value).split("+")
            if name not in known or value is None or old:
                continue
            try:
                found[name] = known[name].parser.parse(str(value))
            except ValueError as error:
                raise self._changed(
                    self.CONFIG, f"has --{name}={value}: {error}"
                ) from error
        return config

    def read_history(self) -> dict[str, list[float]]:
        """The metrics, a list each; NaN for rounds without."""
        self.need(self.HISTORY)
        with open(self.file(self.HISTORY), encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        return {
            name: [float(row[name] or "nan") for row in table]
            for name in (table[0] if table else ())
        }

    def _changed(self, name: str, what: str) -> UsageError:
        return UsageError(
            f"{self.file(name)} {what}. It was changed after it was written."
        )

    def need(self, name: str) -> None:
        """Raises an error with the way out if a file is not there."""
        if os.path.isfile(self.file(name)):
            return
        if not os.path.isfile(self.file(self.CONFIG)):
            parent, own = os.path.split(self.path.rstrip("/"))
            near = [p.name for p in pathlib.Path(parent).glob("*/")]
            raise UsageError(
                f"{self.path} isn't the folder of a run, as fedlearn train "
                f"--output_dir makes it: there is no {self.CONFIG} in it."
                + did_you_mean(own, near, os.path.join(parent, ""))
            )
        model = self.read_config()["flags"]["model"]
        raise UsageError(
            f"{self.path} has no {name}: the run hasn't ended. Go on with it: "
            f"{self.command_to_go_on(model)}"
        )


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
