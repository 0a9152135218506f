"""A CSV file of the user's own, as training and test data."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from fedlearn.cli.flags import UsageError
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.datasets.task import Task

# What `--dataset` is called in a run of such data, and its usual model.
NAME, MODEL = "csv", "tabular"

HELP = """\
  --client=COLUMN     --data: whose a row is; not of a file for each client.
  --label=COLUMN
      --data: what to predict: texts, True and False or whole numbers are
      classes, other numbers amounts.
  --features=COLUMNS  --data: to predict from, as in age,chol; or all others.
  --missing=HOW
      --data: fill missing values with mean, median or zero, and add a column
      that says where. By default they are an error.
  --delimiter=TEXT
      --data: what stands between two cells. By default a comma; with a
      semicolon numbers may be written as 1,5.
"""
FLAGS = ("client", "label", "features", "missing", "delimiter")

# More different integers are no classes but counts or amounts; so may be more
# than a few if they leave numbers out, as ages do.
_MOST_CLASSES, _FEW_CLASSES = 1000, 20


def check(flags: Any) -> None:
    """Sets `dataset`; a UsageError if flags are missing or don't agree."""
    if flags.data is None:
        for name in FLAGS:
            if getattr(flags, name) is not None:
                raise UsageError(
                    f"--{name} goes with --data, a CSV file of your own. Give "
                    "that too, or leave it out."
                )
        return
    if "dataset" in flags.given and flags.dataset != NAME:
        raise UsageError(
            f"--data={flags.data} and --dataset={flags.dataset} are two sets "
            "of data. Leave one of them out."
        )
    flags.dataset = NAME
    by_default = flags.model in (None, MODEL)
    if flags.dp_epsilon and (by_default or flags.missing in ("mean", "median")):
        raise UsageError(
            "--dp_epsilon with --data needs --model, and no --missing but "
            "zero: the model that is chosen otherwise is scaled by the mean "
            "and variance of all clients' rows, and gaps are filled by them, "
            "which no noise hides."
        )


def task(flags: Any, class_names: Any = None) -> Task:
    """What to predict: four fifths of each client's rows train."""
    path: Any = flags.data
    if os.path.isdir(path):
        path = sorted(Path(path).glob("*.csv"))
        if not path:
            raise UsageError(f"{flags.data} holds no .csv files.")
    features = flags.features.split(",") if flags.features else None

    def read(decimal: str) -> FederatedDataset:
        return FederatedDataset.from_csv(
            path,
            flags.client,
            flags.label,
            features,
            delimiter=flags.delimiter or ",",
            decimal=decimal,
            missing=flags.missing or "error",
            class_names=class_names,
        )

    try:
        data = read(".")
    except (TypeError, ValueError) as error:
        if flags.delimiter != ";" or "decimal=','" not in str(error):
            raise UsageError(_as_flags(str(error))) from error
        data = read(",")
    data = _with_class_names(data)
    train, test = data.split_examples(0.8, seed=0)
    x, y = train.pooled()
    if x.dtype.kind != "f" and flags.model in (None, MODEL):
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
        "num_classes": train.class_names and len(train.class_names),
    }
    if train.class_names is None:
        sizes["label_mean"] = float(y.mean(dtype=np.float64))
        sizes["label_scale"] = float(y.std(dtype=np.float64)) or 1.0
    return Task(train, test, MODEL, sizes)


def _as_flags(message: str) -> str:
    """An error of `from_csv` in the words of the command line."""
    for said, flag in (
        ("client or label is missing", "--data needs --client and --label"),
        ("features=[...]", "--features=NAME,NAME"),
        ("missing='mean' (or 'median', 'zero')", "--missing=mean"),
        ("decimal=','", "--delimiter=';'"),
    ):
        message = message.replace(said, flag)
    return message


def _with_class_names(data: FederatedDataset) -> FederatedDataset:
    """With names of classes also where labels are whole numbers."""
    if data.class_names is not None or data.element_spec[1].dtype.kind != "i":
        return data
    y = data.pooled()[1]
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
    return FederatedDataset(data._source, names, data.client_ids)
