"""Distinct counts, against sketches of pooled data and true counts."""

import numpy as np
import pytest

import fedlearn as fl
from fedlearn.analytics import QueryPrivacy
from fedlearn.analytics.distinct import cardinality, sketch

pytestmark = pytest.mark.backend_free


def clients(values):
    return {str(i): (v, np.zeros(len(v))) for i, v in enumerate(values)}


def test_a_sum_over_clients_is_the_sketch_of_pooled_values():
    values = np.random.default_rng(0).integers(0, 5000, size=(8, 1000))
    found = fl.analytics.distinct(clients(values), precision=8)
    pooled = sketch(values.reshape(-1), 8)
    assert found.value == cardinality(pooled)
    assert found.error == pytest.approx(1.04 * found.value / 16)


@pytest.mark.statistical
@pytest.mark.parametrize("number", [10, 300, 1000, 20_000])
def test_the_estimate_is_as_near_as_its_error_says(number):
    """Of 60 sketches: the root mean square is within 1.4 of 1.04 / 16."""
    offs = []
    for seed in range(60):
        values = np.arange(number) + 10**6 * seed
        ranks = sketch(values[: min(number, 4000)], 8)
        if number > 4000:  # many at once, of the distribution itself
            rng = np.random.default_rng(seed)
            ranks = np.zeros(256, int)
            rank = np.minimum(rng.geometric(0.5, number), 32)
            np.maximum.at(ranks, rng.integers(256, size=number), rank)
        offs.append(cardinality(ranks) / number - 1)
    assert np.sqrt(np.mean(np.square(offs))) < 1.4 * 1.04 / 16
    assert abs(np.mean(offs)) < 4 * 1.04 / 16 / np.sqrt(60)


def test_as_near_as_another_library():
    datasketches = pytest.importorskip("datasketches")
    theirs, values = datasketches.hll_sketch(12), np.arange(30_000)
    for value in values:
        theirs.update(int(value))
    ours = fl.analytics.distinct(clients(values.reshape(10, -1)))
    error = 1.04 / 64
    assert abs(ours.value / 30_000 - 1) < 3 * error
    assert abs(ours.value / theirs.get_estimate() - 1) < 4 * error


def test_what_counts_as_one_value():
    def count(v):
        return round(fl.analytics.distinct(clients([np.array(v)])).value)

    assert count([0.0, -0.0, 1.0]) == 2
    assert count([[1, 2], [1, 2], [2, 1]]) == 2
    texts = np.array(["a", "a", b"a", "b"], object)
    assert count(texts) == 2
    assert count(np.zeros(0)) == 0


def test_it_has_no_guarantee():
    with pytest.raises(ValueError, match="distinct has no guarantee"):
        fl.analytics.distinct(
            clients([np.zeros(3)]), privacy=QueryPrivacy(1.0, 1e-6)
        )
    with pytest.raises(ValueError, match="whole number from 4 to 16"):
        fl.analytics.distinct(clients([np.zeros(3)]), precision=20)
    secure = QueryPrivacy(secure_sum=True)
    values = clients(np.arange(20.0).reshape(4, 5))
    found = fl.analytics.distinct(values, precision=6, privacy=secure)
    assert found.value == fl.analytics.distinct(values, precision=6).value
    assert found.epsilon is None
