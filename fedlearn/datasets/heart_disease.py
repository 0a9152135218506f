"""Patients of four hospitals, with or without heart disease.

clients   A hospital: Cleveland, Budapest, Zurich and Basel, Long Beach.
part      train: 4 clients, 486 examples
part      test: 4 clients, 254 examples
x         float32 (n, 13): age, sex, type of chest pain (3 columns), blood
          pressure, cholesterol, blood sugar, electrocardiogram (2 columns),
          heart rate, angina, depression of the ST segment
y         int64 (n,), 1 for heart disease
note      Patients with missing values are left out, and the columns slope,
          ca and thal, which are mostly missing: 740 of 920 remain.
note      Cholesterol 0 means missing: it is 0 for all of Switzerland. That
          column has no spread there and becomes 0.
note      Which patients are for testing is drawn here, with FLamby's
          counts; split='flamby' takes FLamby's choice.
note      With four clients, averaging weighs Cleveland and Budapest most.
licence   CC BY 4.0
cite      Janosi, Steinbrunn, Pfisterer and Detrano, 'Heart Disease', UCI
          Machine Learning Repository, 1989, doi:10.24432/C52P4X; prepared
          as by du Terrail et al., 'FLamby', NeurIPS 2022, arXiv:2210.04620.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from fedlearn import checks, seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.data.fetching.cache_folder import cache_folder
from fedlearn.data.formats.format_error import FormatError
from fedlearn.datasets import stand_in
from fedlearn.datasets.public_file import PublicFile, locate
from fedlearn.datasets.task import Task

__all__ = ["COLUMNS", "FILES", "SITES", "load_data", "task"]
__dir__ = __all__.copy  # `dir` shows what is public

SITES = ("cleveland", "hungarian", "switzerland", "va")
# fmt: off
COLUMNS = (
    "age", "sex", "cp_2", "cp_3", "cp_4", "trestbps", "chol", "fbs",
    "restecg_1", "restecg_2", "thalach", "exang", "oldpeak",
)
# fmt: on

_BASE_URL = (
    "https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease/"
)
_FILES = {
    site: PublicFile(f"{_BASE_URL}processed.{site}.data") for site in SITES
}

# Of each hospital's patients; what remains is the published test sets' size.
_TRAIN_FRACTION = 0.66

# Without those with missing values.
_NUM_PATIENTS = dict(zip(SITES, (303, 261, 46, 130), strict=True))

FILES = tuple(_FILES.values())

# One hospital's columns and outcomes, and whether a patient is for training.
_Site = tuple[np.ndarray, np.ndarray, np.ndarray]


def load_data(
    *,
    normalize: bool = True,
    seed: int = 0,
    split: str | None = None,
    source: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[FederatedDataset, FederatedDataset]:
    """740 patients of four hospitals, who may have heart disease.

    `x` has shape `(n, 13)` and dtype `float32` (see `COLUMNS`); `y` has shape
    `(n,)` and dtype `int64`, 1 for heart disease.

    Args:
        normalize: Subtract from each column the mean of the hospital's train
            patients, and divide by their deviation; without spread, 0.
        seed: Decides which patients are for testing, where the file does not
            say.
        split: `"flamby"` for the very patients of FLamby's train and test
            sets, and deviations over `n - 1`, as there: for numbers to put
            beside published ones. None for what the file says or the seed
            draws.
        source: A folder that holds the hospitals' files (UCI's
            `processed.cleveland.data` and so on, or `cleveland.csv` and so on
            with columns `COLUMNS`, `target` and maybe `split`), or one CSV
            file of all with a column `site`; see `fl.datasets`.
        cache_dir: See `fl.datasets`, also for errors.

    Returns:
        `(train, test)`, of the same four clients.

    Raises:
        ValueError: If there is no such `split`, or the file has other
            patients than FLamby's.

    Example:

    >>> train, test = load_data(source="synthetic")
    >>> [train.num_examples(site) for site in train]
    [199, 172, 30, 85]
    """
    checks.one_of("split", split, (None, "flamby"))
    parts: dict[str, dict[str, Any]] = {"train": {}, "test": {}}
    for site, (x, y, is_train) in _sites(source, cache_dir, seed).items():
        if split == "flamby":
            is_train = _flamby_split(site, y)
        if normalize:
            x = _normalized(x, is_train, ddof=int(split == "flamby"))
        for part, rows in (("train", is_train), ("test", ~is_train)):
            parts[part][site] = (x[rows], y[rows])
    train, test = (FederatedDataset.from_clients(p) for p in parts.values())
    return train, test


def _flamby_split(site: str, y: np.ndarray) -> np.ndarray:
    if len(y) != (expected := _NUM_PATIENTS[site]):
        raise ValueError(
            f"split='flamby' divides the {expected} patients of {site} in "
            f"UCI's file. Received {len(y)} patients: leave `split` out."
        )
    from sklearn.model_selection import train_test_split

    # As FLamby draws: Switzerland has too few healthy patients to stratify.
    stratify = y if np.bincount(y).min() > 2 else None
    train, _ = train_test_split(
        np.arange(len(y)),
        test_size=1 - _TRAIN_FRACTION,
        train_size=_TRAIN_FRACTION,
        random_state=43,
        stratify=stratify,
    )
    return np.isin(np.arange(len(y)), train)


def _normalized(x: np.ndarray, is_train: np.ndarray, ddof: int) -> np.ndarray:
    values = x.astype(np.float64)
    mean = values[is_train].mean(axis=0)
    deviation = values[is_train].std(axis=0, ddof=ddof)
    flat = deviation == 0
    scaled = (values - mean) / np.where(flat, 1, deviation)
    return np.where(flat, 0, scaled).astype(np.float32)


def _sites(
    source: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
    seed: int,
) -> dict[str, _Site]:
    if source == "synthetic":
        train, test = stand_in.draw("heart_disease").values()
        sites: dict[str, _Site] = {}
        for site in SITES:
            pair = train[site], test[site]
            x, y = (
                np.concatenate([part[name] for part in pair]) for name in "xy"
            )
            sites[site] = x, y, np.arange(len(y)) < len(train[site]["y"])
        return sites
    first = SITES[0]
    if source is None:
        folder = cache_folder(cache_dir) / "heart_disease"
        path, *_ = [file.fetch(folder) for file in _FILES.values()]
    else:
        names = [_FILES[first].name, f"{first}.csv"]
        path = locate(source, names, "heart_disease")
        if path.name not in names:
            return _read_csv(path, None, seed)
    sites = {}
    for site in SITES:
        own = path.with_name(path.name.replace(first, site))
        if not own.exists():
            raise FileNotFoundError(
                f"There is no {own}. Expected a file for each hospital."
            )
        if own.suffix == ".csv":
            sites |= _read_csv(own, site, seed)
        else:
            sites[site] = _site(_read_uci(own), site, seed)
    return sites


def _site(values: np.ndarray, site: str, seed: int) -> _Site:
    """A hospital's columns, with the outcome last, divided by the seed."""
    is_train = np.zeros(len(values), bool)
    order = seeds.permutation(len(values), seed, "heart_disease", site)
    is_train[order[: int(_TRAIN_FRACTION * len(values))]] = True
    # The original's outcome counts vessels: 0 means healthy.
    y = (values[:, -1] > 0).astype(np.int64)
    return values[:, :-1].astype(np.float32), y, is_train


def _loaded(path: Path, dtype: type, converters: Any = None) -> np.ndarray:
    if not path.stat().st_size:
        raise FormatError(f"{path} is empty.")
    kind = {"delimiter": ",", "encoding": "utf-8-sig", "quotechar": '"'}
    more: Any = {**kind, "comments": None, "converters": converters}
    try:
        return np.loadtxt(path, dtype, ndmin=2, **more)
    except ValueError as error:  # also of bytes that are no UTF-8
        what = str(error).split(";")[0].rstrip(".")
        raise FormatError(f"{path}: {what}.") from error


def _read_csv(path: Path, site: str | None, seed: int) -> dict[str, _Site]:
    header, *rows = _loaded(path, str)
    cells = dict(zip(header.tolist(), np.array(rows).T, strict=False))
    needed = [*COLUMNS, "target", *(["site"] if site is None else [])]
    if missing := [name for name in needed if name not in cells]:
        raise FormatError(
            f"{path} has no column {', '.join(map(repr, missing))}. Expected "
            f"{', '.join(needed)}."
        )
    whose = cells["site"] if site is None else np.full(len(rows), site)
    try:
        values = np.stack([cells[n] for n in needed[:14]], 1).astype(float)
        for name in whose:
            checks.one_of("site", str(name), SITES)
    except ValueError as error:
        raise FormatError(f"{path}: {error}") from error
    sites = {}
    for name in SITES:
        if (mine := whose == name).any():
            x, y, is_train = _site(values[mine], name, seed)
            if "split" in cells:
                is_train = cells["split"][mine] == "train"
            sites[name] = x, y, is_train
    return sites


def _read_uci(path: Path) -> np.ndarray:
    values = _loaded(
        path, float, lambda cell: np.nan if cell == "?" else float(cell)
    )
    if values.shape[1] != 14:
        raise FormatError(
            f"{path}, line 1: {values.shape[1]} values. Expected 14, as in "
            "the 'processed' files of UCI."
        )
    # slope, ca and thal are missing for most patients.
    values = np.delete(values, (10, 11, 12), axis=1)
    values = values[~np.isnan(values).any(axis=1)]
    if not len(values):
        raise FormatError(f"{path} has no patient without missing values.")
    age, sex, pain, pressure, chol, sugar, ecg, *others = values.T
    pains = [pain == kind for kind in (2, 3, 4)]
    ecgs = [ecg == kind for kind in (1, 2)]
    columns = [age, sex, *pains, pressure, chol, sugar, *ecgs, *others]
    return np.stack(columns, axis=1)


def task(**arguments: Any) -> Task:
    """Whether a patient has heart disease; arguments as of `load_data`.

    Batch size and learning rate aren't published: FLamby takes 4 and 0.001,
    for 100 steps a round.
    """
    train, test = load_data(**arguments)
    sizes = {"input_shape": (len(COLUMNS),), "num_classes": 2}
    return Task(train, test, "heart_logistic", sizes)
