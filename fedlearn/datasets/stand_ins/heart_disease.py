"""Patients of four hospitals, with the columns of the heart disease data."""

from typing import NamedTuple

import numpy as np

from fedlearn import portable_math, seeds
from fedlearn.data.federated_dataset import FederatedDataset
from fedlearn.datasets.stand_ins.counts import check_count


class _Hospital(NamedTuple):
    """Whom a hospital sees: means, and shares of yes."""

    num_train: int
    num_test: int
    age: float
    men: float
    asymptomatic: float
    chol: float  # 0: not measured, and written down as 0
    fasting_sugar: float
    thalach: float
    exang: float
    sick: float  # shifts the odds


_HOSPITALS = {
    "cleveland": _Hospital(199, 104, 54, 0.68, 0.48, 247, 0.15, 150, 0.3, 0),
    "hungarian": _Hospital(172, 89, 48, 0.72, 0.46, 250, 0.07, 139, 0.3, -0.2),
    "switzerland": _Hospital(30, 16, 56, 0.92, 0.7, 0, 0.1, 122, 0.45, 1.3),
    "va": _Hospital(85, 45, 60, 0.96, 0.72, 190, 0.35, 123, 0.6, -0.3),
}


def draw_client(
    hospital: str, num_examples: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Patients of one hospital.

    The hospitals differ in whom they see and what they measure. The odds of
    a disease follow from the columns by one logistic rule, but for a shift
    of each hospital.

    Args:
        hospital: `"cleveland"`, `"hungarian"`, `"switzerland"` or `"va"`.
        num_examples: How many patients.
        seed: An integer.

    Returns:
        `x`, `(n, 13)` `float32`, the raw columns of
        `fedlearn.datasets.heart_disease.COLUMNS`; and
        `y`, `(n,)` `int64`, 1 for a disease.

    Raises:
        ValueError: If `num_examples` is not positive, or there is no such
            hospital.

    Example:

    >>> patients = draw_client("va", num_examples=3)
    >>> patients["x"].shape, patients["y"].dtype
    ((3, 13), dtype('int64'))
    """
    check_count("num_examples", num_examples)
    if hospital not in _HOSPITALS:
        raise ValueError(
            f"hospital is {hospital!r}. Expected one of "
            f"{', '.join(_HOSPITALS)}."
        )
    about = _HOSPITALS[hospital]
    key = (seed, "heart_disease", hospital)
    normal = seeds.normal(6 * num_examples, *key, "normal").reshape(6, -1)
    uniform = seeds.uniform(7 * num_examples, *key, "uniform").reshape(7, -1)

    age = np.clip(np.rint(about.age + 8.5 * normal[0]), 28, 77)
    # Old age and a bad heart go together, and so do their signs.
    strain = 0.6 * normal[1] + 0.03 * (age - 54)
    sex = uniform[0] < about.men
    pain = uniform[1] + 0.08 * strain
    cp_4 = pain > 1 - about.asymptomatic
    cp_3 = ~cp_4 & (pain > 0.55 * (1 - about.asymptomatic))
    cp_2 = ~cp_4 & ~cp_3 & (pain > 0.1 * (1 - about.asymptomatic))
    trestbps = np.rint((132 + 6 * strain + 15 * normal[2]) / 2) * 2
    chol = np.rint(about.chol + 48 * normal[3] + 0.5 * (age - 54))
    chol = np.maximum(chol, 110) if about.chol else np.zeros(num_examples)
    fbs = uniform[2] < about.fasting_sugar
    restecg_1 = uniform[3] < 0.12
    restecg_2 = ~restecg_1 & (uniform[4] < 0.3)
    thalach = np.rint(
        about.thalach - 9 * strain - 0.5 * (age - about.age) + 17 * normal[4]
    )
    exang = uniform[5] - 0.12 * strain < about.exang
    oldpeak = np.maximum(0, 0.7 + 0.5 * strain + 0.9 * normal[5])
    oldpeak = np.rint(10 * oldpeak) / 10

    odds = (
        about.sick
        - 2.6
        + 0.02 * (age - 54)
        + 1.3 * sex
        + 2.0 * cp_4
        + 0.1 * cp_3
        - 0.4 * cp_2
        + 0.006 * (trestbps - 132)
        + 0.5 * fbs
        + 0.3 * restecg_2
        - 0.022 * (thalach - 140)
        + 1.1 * exang
        + 0.7 * oldpeak
    )
    sick = uniform[6] < 1 / (1 + portable_math.exp(-1.6 * odds))
    columns = (
        age,
        sex,
        cp_2,
        cp_3,
        cp_4,
        np.clip(trestbps, 90, 200),
        chol,
        fbs,
        restecg_1,
        restecg_2,
        np.clip(thalach, 70, 202),
        exang,
        np.minimum(oldpeak, 6.2),
    )
    x = np.stack([np.asarray(c, np.float32) for c in columns], axis=1)
    return {"x": x, "y": sick.astype(np.int64)}


def draw(seed: int = 0) -> dict[str, FederatedDataset]:
    """The four hospitals, as large as the real ones.

    Args:
        seed: An integer.

    Returns:
        `train` and `test`, of the same four clients.

    Example:

    >>> {i: c["y"].size for i, c in draw()["test"].items()}
    {'cleveland': 104, 'hungarian': 89, 'switzerland': 16, 'va': 45}
    """
    train, test = {}, {}
    for name, about in _HOSPITALS.items():
        patients = draw_client(name, about.num_train + about.num_test, seed)
        cut = about.num_train
        train[name] = {key: value[:cut] for key, value in patients.items()}
        test[name] = {key: value[cut:] for key, value in patients.items()}
    return {
        "train": FederatedDataset.from_clients(train),
        "test": FederatedDataset.from_clients(test),
    }
