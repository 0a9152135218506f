"""A CSV file of the user's own, as training and test data."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags as absl_flags

from fedlearn.cli.errors import UsageError
from fedlearn.cli.flag_types import Choice, Place, define
from fedlearn.cli.task import Task
from fedlearn.data.element import ArraySpec
from fedlearn.data.federated_dataset import FederatedDataset

FLAGS = ("data", "client", "label", "features", "missing", "delimiter")
# What `--dataset` is called in a run of such data.
NAME = "csv"
MODEL = "tabular"

# Which part of each client's rows trains; the others test.
_TRAINING = 0.8

# More different integers are no classes but counts or amounts; so may be more
# than a few if they leave numbers out, as ages do.
_MOST_CLASSES = 1000
_FEW_CLASSES = 20


def define_place(values: absl_flags.FlagValues) -> None:
    """Defines where the data are."""
    define(
        values,
        "data",
        None,
        "train on this CSV file instead of a --dataset, or on a folder with a "
        ".csv file for each client; a fifth of each client's rows is kept for "
        "testing",
        Place(),
    )


def define_flags(values: absl_flags.FlagValues) -> None:
    """Defines the flags that `FLAGS` names, but for `data`."""
    define(
        values, "client", None, "--data: the column that says whose a row is"
    )
    define(
        values,
        "label",
        None,
        "--data: the column to predict: texts, True and False or whole "
        "numbers are classes, other numbers amounts",
    )
    define(
        values,
        "features",
        None,
        "--data: columns to predict from, as in age,chol (default: all others)",
    )
    define(
        values,
        "missing",
        None,
        "--data: fill missing values with this, and add a column that says "
        "where: mean, median or zero (default: they are an error)",
        Choice(("mean", "median", "zero")),
    )
    define(
        values,
        "delimiter",
        None,
        "--data: what stands between two cells (default: a comma; with a "
        "semicolon numbers may be written as 1,5)",
    )


def name(flags: Any) -> str:
    """What the data set of a run is called in the name of its folder.

    Raises:
        UsageError: If flags name two data sets.
    """
    if flags.data is None:
        return str(flags.dataset)
    if "dataset" in flags.given and flags.dataset != NAME:
        raise UsageError(
            f"--data={flags.data} and --dataset={flags.dataset} are two sets "
            "of data. Leave one of them out."
        )
    flags.dataset = NAME
    return os.path.splitext(os.path.basename(flags.data))[0]


def check(flags: Any) -> None:
    """Checks the flags for data of one's own.

    Raises:
        UsageError: If they contradict each other, or one is missing.
    """
    if flags.data is None:
        for flag in FLAGS:
            if getattr(flags, flag) is not None:
                raise UsageError(
                    f"--{flag} goes with --data, a CSV file of your own. Give "
                    "that too, or leave it out."
                )
        return
    if flags.label is None:
        raise UsageError("--data needs --label, the column to predict.")
    folder = os.path.isdir(flags.data)
    if (flags.client is None) != folder:
        raise UsageError(
            "--data needs --client, the column that says whose a row is; or a "
            "folder with a .csv file for each client."
            if not folder
            else f"{flags.data} is a folder, with a file for each client. "
            "Leave --client out."
        )
    if flags.dp_epsilon is None:
        return
    if flags.model == MODEL:
        raise UsageError(
            "--dp_epsilon with --data needs --model: the model that is chosen "
            "otherwise scales its inputs by the mean and variance of all "
            "clients' rows, which no noise hides."
        )
    if flags.missing in ("mean", "median"):
        raise UsageError(
            f"--missing={flags.missing} is computed of all clients' rows, "
            "which no noise of --dp_epsilon hides. Take --missing=zero."
        )


def load(
    flags: Any, class_names: Sequence[str] | None = None
) -> tuple[FederatedDataset, FederatedDataset]:
    """`(train, test)`: rows of the same clients.

    Args:
        flags: With `data` and what `FLAGS` names.
        class_names: Of the labels, as a run counted them; None for those in
            the file.

    Raises:
        UsageError: If the file can't be used as it is.
        FileNotFoundError: If there is no such file.
    """
    path: Any = flags.data
    if os.path.isdir(path):
        path = sorted(Path(path).glob("*.csv"))
        if not path:
            raise UsageError(f"{flags.data} holds no .csv files.")
    features = flags.features
    try:
        dataset = FederatedDataset.from_csv(
            path,
            flags.client,
            flags.label,
            None if features is None else features.split(","),
            delimiter=flags.delimiter or ",",
            decimal="," if flags.delimiter == ";" and _commas(path) else ".",
            missing=flags.missing or "error",
            class_names=class_names,
        )
    except (TypeError, ValueError) as error:
        raise UsageError(_as_flags(str(error))) from error
    return _with_class_names(dataset).split_examples(_TRAINING, seed=0)


def _commas(path: Any) -> bool:
    """Whether numbers of a file with semicolons are written as 1,5."""
    first = path[0] if isinstance(path, list) else path
    with open(first, encoding="utf-8-sig", errors="replace") as file:
        rows = list(itertools.islice(file, 1, 1000))
    cells = [cell.strip() for row in rows for cell in row.split(";")]

    def count(mark: str, other: str) -> int:
        return sum(
            cell.count(mark) == 1
            and other not in cell
            and cell.replace(mark, "").lstrip("+-").isdigit()
            for cell in cells
        )

    return count(",", ".") > count(".", ",")


def _as_flags(message: str) -> str:
    """An error of `from_csv` in the words of the command line."""
    for said, flag in (
        ("features=[...]", "--features=NAME,NAME"),
        ("missing='mean' (or 'median', 'zero')", "--missing=mean"),
        ("decimal=','", "--delimiter=';'"),
    ):
        message = message.replace(said, flag)
    return message


def _with_class_names(dataset: FederatedDataset) -> FederatedDataset:
    """With names of classes also where labels are whole numbers."""
    spec = dataset.element_spec[1]
    if dataset.class_names is not None or spec.dtype.kind != "i":
        return dataset
    y = dataset.pooled()[1]
    low, high = int(y.min()), int(y.max())
    unused = low >= 0 and high + 1 - len(np.unique(y))
    if low < 0 or high >= (_FEW_CLASSES if unused else _MOST_CLASSES):
        gaps = f", and {unused:,} numbers below don't occur" if unused else ""
        raise UsageError(
            f"the labels lie between {low} and {high}{gaps}. Expected classes, "
            "numbered from 0 (or as texts, such as 'class 7'); of amounts, "
            f"write one with a point, such as {high}.0."
        )
    names = tuple(str(k) for k in range(high + 1))
    return FederatedDataset(dataset._source, dataset.client_ids, names)


def task(train: FederatedDataset) -> Task:
    """What a model for the data needs to know.

    Args:
        train: As `load` gives it.

    Raises:
        UsageError: If the features are integers that a model's inputs, which
            are `float32`, would change.
    """
    x, y = train.pooled()
    if x.dtype.kind != "f":
        raise UsageError(
            "the features hold whole numbers beyond 16,777,216, such as ids, "
            "which no model of fl.models takes. Leave them out with "
            "--features=NAME,NAME, or give --model=module:function."
        )
    wide = x.astype(np.float64)
    sizes: dict[str, Any] = {
        "input_shape": x.shape[1:],
        "mean": wide.mean(0).tolist(),
        "variance": wide.var(0).tolist(),
    }
    if train.class_names is not None:
        sizes["num_classes"] = len(train.class_names)
    else:
        sizes["num_classes"] = None
        sizes["label_mean"] = float(y.mean(dtype=np.float64))
        sizes["label_scale"] = float(y.std(dtype=np.float64)) or 1.0
    return Task(ArraySpec(y.shape[1:], y.dtype), sizes)


def choose_optimizer(flags: Any, label: ArraySpec | None) -> None:
    """For amounts, whose gradients are of any size, one that isn't misled."""
    amounts = flags.data is not None and label and label.dtype.kind == "f"
    if amounts and flags.model == MODEL and flags.client_optimizer is None:
        flags.client_optimizer = "adam"
        if flags.client_learning_rate is None:
            flags.client_learning_rate = 0.01
