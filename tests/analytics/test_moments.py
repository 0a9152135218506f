"""Counts, sums, means and variances, against pooled NumPy."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import fedlearn as fl
from fedlearn.analytics import QueryPrivacy

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)
CLIENTS = st.lists(
    st.lists(NUMBERS, max_size=4), min_size=1, max_size=5
).filter(any)


def dataset(lists):
    return {
        str(i): (np.array(v, float), np.zeros(len(v)))
        for i, v in enumerate(lists)
    }


@hypothesis.given(
    lists=CLIENTS, offset=st.sampled_from([0.0, 1e6, -1e12]), scale=NUMBERS
)
@hypothesis.settings(max_examples=10)
def test_equals_pooled_numpy(lists, offset, scale):
    lists = [[offset + scale * v / 1e9 for v in values] for values in lists]
    pool = np.concatenate([np.array(v, float) for v in lists])
    data = dataset(lists)
    size = np.abs(pool).max()
    found = fl.analytics.variance(data)
    assert found.mean == pytest.approx(pool.mean(), rel=1e-9, abs=1e-12 * size)
    # What rounding of the values themselves leaves open.
    rounding = (4 * np.finfo(float).eps * size) ** 2
    expected = pool.var()
    assert found.variance == pytest.approx(expected, rel=1e-9, abs=rounding)
    mean = fl.analytics.mean(data).value
    assert mean == pytest.approx(found.mean, rel=1e-12, abs=1e-12 * size)
    total = fl.analytics.sum(data).value
    assert total == pytest.approx(
        math.fsum(pool), rel=1e-9, abs=1e-12 * size * len(pool)
    )
    assert fl.analytics.count(data).value == len(pool)


def test_a_large_mean_costs_no_digits():
    rng = np.random.default_rng(0)
    values = 1e9 + rng.normal(size=(20, 7))
    found = fl.analytics.variance(dataset(values))
    assert found.variance == pytest.approx(values.var(), rel=1e-9)


@pytest.mark.backend_free
def test_what_is_exact_says_so_of_huge_values_too():
    values = [[1e150, -1e150, 3.0], [1.0]]
    found = fl.analytics.variance(dataset(values))
    assert found.variance == pytest.approx(np.var(np.concatenate(values)))
    assert (found.error, found.mean_error) == (0, 0)


def test_values_with_shapes_and_columns_of_all_kinds():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(n, 2, 3)) for n in (3, 0, 5)]
    pool = np.concatenate(parts)
    data = {str(i): (p, np.arange(len(p))) for i, p in enumerate(parts)}
    mean = fl.analytics.mean
    np.testing.assert_allclose(mean(data).value, pool.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(
        mean(data, column=-1).value, pool[..., -1].mean(axis=0), rtol=1e-9
    )
    assert mean(data, column="y").value == pytest.approx((3 + 10) / 8)
    squares = mean(data, lambda client: client[0][:, 0, 0] ** 2)
    assert squares.value == pytest.approx((pool[:, 0, 0] ** 2).mean())
    named = {k: {"age": p[:, 0, 0], "b": p} for k, (p, _) in data.items()}
    assert mean(named, "age").value == pytest.approx(pool[:, 0, 0].mean())
    inputs = {k: (c, c["age"]) for k, c in named.items()}
    assert mean(inputs, "age") == mean(named, "age")
    listed = fl.FederatedDataset.from_clients(data)
    np.testing.assert_array_equal(mean(listed).value, mean(data).value)


def test_bounds_clip_and_secure_sums_round_as_little_as_they_say():
    values = np.random.default_rng(0).normal(size=(30, 4))
    clipped = values.clip(-1, 2)
    data = dataset(values)
    plain = fl.analytics.variance(data, bounds=(-1, 2))
    assert plain.variance == pytest.approx(clipped.var(), rel=1e-9)
    secure = QueryPrivacy(max_per_client=4, secure_sum=True)
    for query, expected in (
        (fl.analytics.mean, clipped.mean()),
        (fl.analytics.sum, clipped.sum()),
    ):
        found = query(data, bounds=(-1, 2), privacy=secure)
        assert 0 < found.error < 1e-3
        assert abs(found.value - expected) < 5 * found.error
        assert found.epsilon is None
    found = fl.analytics.variance(data, bounds=(-1, 2), privacy=secure)
    assert abs(found.variance - clipped.var()) < 5 * found.error
    counted = fl.analytics.count(data, privacy=QueryPrivacy(secure_sum=True))
    assert (counted.value, counted.error) == (120, 0)


@pytest.mark.parametrize("value", [0.3, 1 / 3, 0.7123])
@pytest.mark.backend_free
def test_a_secure_sum_is_as_near_where_all_clients_are_alike(value):
    data = {str(i): (np.array([value]), np.zeros(1)) for i in range(500)}
    secure = QueryPrivacy(max_per_client=1, secure_sum=True, seed=0)
    for query, true in (
        (fl.analytics.mean, value),
        (fl.analytics.sum, 500 * value),
    ):
        found = query(data, bounds=(0, 1), privacy=secure)
        assert abs(found.value - true) < 4 * found.error


@pytest.mark.backend_free
@pytest.mark.statistical
def test_noise_is_within_its_error_as_often_as_a_normal_distribution():
    """Of 400 features; 4 deviations of a binomial share: 6e-5 a comparison."""
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, size=(3000, 400))
    data = {str(i): (v[None], [0]) for i, v in enumerate(values)}
    privacy = QueryPrivacy(8.0, 1e-5, max_per_client=1, seed=0)
    mean = fl.analytics.mean(data, bounds=(-1, 1), privacy=privacy)
    both = fl.analytics.variance(data, bounds=(-1, 1), privacy=privacy)
    total = fl.analytics.sum(data, bounds=(-1, 1), privacy=privacy)
    for value, error, expected in (
        (mean.value, mean.error, values.mean(axis=0)),
        (both.mean, both.mean_error, values.mean(axis=0)),
        (total.value, total.error, values.sum(axis=0)),
    ):
        off = (value - expected) / error
        for deviations, share in ((1, 0.683), (2, 0.954)):
            inside = (np.abs(off) < deviations).mean()
            assert abs(inside - share) < 4 * math.sqrt(
                share * (1 - share) / 400
            )
    # All variances share the noise of the count, which moves them together.
    off = (both.variance - values.var(axis=0)) / both.error
    assert 0.85 < np.std(off) < 1.15
    assert abs(off.mean()) < 4


def first(client):
    return client[0][0]


@pytest.mark.parametrize(
    ("error", "data", "arguments"),
    [
        ("no client has any values", {"a": (np.zeros(0), np.zeros(0))}, {}),
        ("'a' has 1 numbers that are NaN", {"a": ([np.nan, 1.0], [0, 0])}, {}),
        ("'a' has 2 numbers that are NaN", {"a": ([np.inf] * 2, [0, 0])}, {}),
        ("too large for float64", {"a": ([1e308, 1e308], [0, 0])}, {}),
        ("for texts there are", {"a": (["x", "y"], [0, 0])}, {}),
        ("Did you mean", {"a": {"age": [1], "b": [2]}}, {"column": "agee"}),
        ("several arrays, age, b", {"a": {"age": [1], "b": [2]}}, {}),
        ("no feature 3", {"a": ([[1.0, 2.0]], [0])}, {"column": 3}),
        ("no feature 0", {"a": ([1.0], [0])}, {"column": 0}),
        ("smaller one first", {"a": ([1.0], [0])}, {"bounds": (2, 1)}),
        ("must be \\(low, high\\)", {"a": ([1.0], [0])}, {"bounds": (2,)}),
        ("must be \\(low, high\\)", {"a": ([1.0], [0])}, {"bounds": 5}),
        ("must be \\(low, high\\)", {"a": ([1.0], [0])}, {"bounds": "ab"}),
        ("must be .* finite", {"a": ([1.0], [0])}, {"bounds": (-1e308, 1e308)}),
        ("of shape \\(\\)", {"a": ([1.0], [0])}, {"bounds": ([0, 0], [1, 1])}),
        ("no column \\['x'\\]", {"a": ([1.0], [0])}, {"column": ["x"]}),
        ("shape \\(\\) for client 'a'", {"a": ([1.0], [0])}, {"column": first}),
        ("no values", {"a": (np.zeros((1, 0)), [0])}, {}),
        ("no clients", [], {}),
        (
            "needs `bounds`",
            {"a": ([1.0], [0])},
            {"privacy": QueryPrivacy(1.0, 1e-6, 1)},
        ),
        (
            "give `max_per_client`",
            {"a": ([1.0], [0])},
            {"privacy": QueryPrivacy(1.0, 1e-6), "bounds": (0, 1)},
        ),
        (
            "no guarantee, and would pass any budget",
            {"a": ([1.0], [0])},
            {"budget": fl.privacy.Ledger(1.0, 1e-6)},
        ),
    ],
)
@pytest.mark.backend_free
def test_what_is_refused(error, data, arguments):
    with pytest.raises(ValueError, match=error):
        fl.analytics.mean(data, **arguments)


@pytest.mark.backend_free
def test_other_things_than_clients_and_privacy():
    with pytest.raises(TypeError, match="dict from client ids to arrays"):
        fl.analytics.mean(np.zeros(3))
    with pytest.raises(TypeError, match="QueryPrivacy, or None"):
        fl.analytics.mean(
            {"a": ([1.0], [0])}, privacy=fl.privacy.Privacy(delta=1e-6)
        )
    nobody = fl.FederatedDataset.from_clients({"a": ([1.0], [0])}).select([])
    with pytest.raises(ValueError, match="no clients to ask"):
        fl.analytics.mean(nobody)
    with pytest.raises(ValueError, match="an `epsilon` and a `delta`"):
        QueryPrivacy(epsilon=1.0)
