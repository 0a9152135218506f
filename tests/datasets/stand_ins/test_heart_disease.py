import hashlib

import numpy as np
import pytest

from fedlearn.data import ArraySpec
from fedlearn.datasets.heart_disease import COLUMNS
from fedlearn.datasets.stand_ins import heart_disease

pytestmark = pytest.mark.backend_free

GOLDEN = "32a178ffe0be93eb"
HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")


@pytest.fixture(scope="module")
def parts():
    return heart_disease.draw()


def _column(client, name):
    return client["x"][:, COLUMNS.index(name)]


def test_the_features_and_counts_are_those_of_the_real_set(parts):
    assert list(parts) == ["train", "test"]
    for data in parts.values():
        assert data.client_ids == HOSPITALS
        assert data.element_spec == {
            "x": ArraySpec((13,), np.dtype("float32")),
            "y": ArraySpec((), np.dtype("int64")),
        }
    sizes = [[d.num_examples(i) for i in HOSPITALS] for d in parts.values()]
    assert sizes == [[199, 172, 30, 85], [104, 89, 16, 45]]


def test_columns_are_plausible(parts):
    limits = {
        "age": (28, 77),
        "trestbps": (90, 200),
        "thalach": (70, 202),
        "oldpeak": (0, 6.2),
    }
    for name, client in parts["train"].items():
        for column, (low, high) in limits.items():
            values = _column(client, column)
            assert values.min() >= np.float32(low)
            assert values.max() <= np.float32(high)
            assert values.std() > 0.3
        for column in ("sex", "fbs", "exang", "cp_2", "cp_3", "cp_4"):
            assert set(_column(client, column)) <= {0, 1}
        for group in (("cp_2", "cp_3", "cp_4"), ("restecg_1", "restecg_2")):
            assert (sum(_column(client, c) for c in group) <= 1).all()
        chol = _column(client, "chol")
        assert (chol == 0).all() if name == "switzerland" else chol.min() > 100


def test_golden_bytes():
    client = heart_disease.draw_client("va", 50, seed=5)
    digest = hashlib.blake2b(digest_size=8)
    digest.update(client["x"].tobytes())
    digest.update(client["y"].tobytes())
    assert digest.hexdigest() == GOLDEN


def test_hospitals_and_seeds_differ():
    drawn = [
        heart_disease.draw_client(name, 10, seed)["x"].tobytes()
        for name, seed in [("va", 0), ("va", 1), ("cleveland", 0)]
    ]
    assert len(set(drawn)) == 3


def test_a_linear_rule_is_right_for_three_quarters_or_more():
    # Least squares on many patients: no luck in it.
    def drawn(seed):
        clients = [
            heart_disease.draw_client(name, 500, seed) for name in HOSPITALS
        ]
        x = np.concatenate([c["x"] for c in clients]).astype(np.float64)
        y = np.concatenate([c["y"] for c in clients])
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        return np.column_stack([x, np.ones(len(x))]), y

    x, y = drawn(0)
    weights = np.linalg.lstsq(x, 2 * y - 1, rcond=None)[0]
    x, y = drawn(1)
    assert 0.75 < np.mean((x @ weights > 0) == y) < 0.9
    assert 0.4 < y.mean() < 0.75


def test_hospitals_differ_in_how_many_are_sick():
    share = {
        name: heart_disease.draw_client(name, 2000)["y"].mean()
        for name in HOSPITALS
    }
    assert share["hungarian"] < share["cleveland"] < share["va"]
    assert share["va"] < share["switzerland"] < 0.97
    assert share["hungarian"] > 0.25


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"hospital is 'paris'.*cleveland, h"):
        heart_disease.draw_client("paris", 1)
    with pytest.raises(ValueError, match="num_examples is 0"):
        heart_disease.draw_client("va", 0)
