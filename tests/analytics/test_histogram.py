"""Histograms and quantiles, against pooled NumPy."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import fedlearn as fl
from fedlearn.analytics import QueryPrivacy
from fedlearn.analytics.quantiles import edge_ranks, found_at

pytestmark = pytest.mark.backend_free


def dataset(lists):
    return {
        str(i): (np.array(v, float), np.zeros(len(v)))
        for i, v in enumerate(lists)
    }


LISTS = st.lists(
    st.lists(st.floats(-1, 9), max_size=5), min_size=1, max_size=5
).filter(any)


@hypothesis.given(lists=LISTS)
@hypothesis.settings(max_examples=10)
def test_counts_are_those_of_pooled_numpy(lists):
    data, pool = dataset(lists), np.concatenate(lists)
    found = fl.analytics.histogram(data, bins=7, range=(0, 8))
    counts, edges = np.histogram(pool, bins=7, range=(0, 8))
    np.testing.assert_array_equal(found.counts, counts)
    np.testing.assert_array_equal(found.bins, edges)
    found = fl.analytics.histogram(data, bins=np.int64(7), range=(0, 8))
    np.testing.assert_array_equal(found.counts, counts)
    uneven = [-1.0, 0.5, 0.6, 9.0]
    np.testing.assert_array_equal(
        fl.analytics.histogram(data, bins=uneven).counts,
        np.histogram(pool, uneven)[0],
    )


@hypothesis.given(lists=LISTS, q=st.floats(0, 1))
@hypothesis.settings(max_examples=20)
def test_a_quantile_is_in_its_bin(lists, q):
    pool = np.sort(np.concatenate(lists)).clip(0, 8)
    found = fl.analytics.quantiles(
        dataset(lists), q=q, range=(0, 8), num_bins=64
    )
    assert found.error[0] == 8 / 64
    # The value of that rank, or of the one beside it where q times the number
    # of values is a whole number but for rounding.
    ranks = [math.ceil(q * len(pool) + shift) for shift in (-1e-6, 1e-6)]
    true = [pool[min(max(r, 1), len(pool)) - 1] for r in ranks]
    off = min(abs(found.values[0] - t) for t in true)
    assert off <= found.error[0] * (1 + 1e-9)


def test_texts_are_counted_as_often_as_they_come():
    data = {"a": {"t": ["x", "y", "x"]}, "b": {"t": [b"x", b"z", "w"]}}
    data = {k: {"t": np.array(v["t"], object)} for k, v in data.items()}
    found = fl.analytics.histogram(data, bins=["x", "z", "q"])
    assert found.counts.tolist() == [3, 1, 0]


@pytest.mark.statistical
def test_noise_on_counts_is_what_error_says():
    """Of 2,000 bins; 4 deviations of a share: a false alarm in 16,000."""
    values = np.random.default_rng(0).uniform(0, 1, size=(50, 2))
    found = fl.analytics.histogram(
        dataset(values),
        bins=2000,
        range=(0, 1),
        privacy=QueryPrivacy(1.0, 1e-6, max_per_client=2, seed=0),
    )
    true = np.histogram(values, 2000, (0, 1))[0]
    off = np.abs(found.counts - true) / found.error
    for deviations, share in ((1, 0.6827), (2, 0.9545)):
        width = 4 * math.sqrt(share * (1 - share) / 2000)
        assert abs((off < deviations).mean() - share) < width


@pytest.mark.statistical
def test_quantiles_are_within_their_error_in_95_percent_of_runs():
    """Of 15 runs of 3; fewer than 36 of 45 have one below 1e-4."""
    values = np.random.default_rng(0).normal(5, 2, size=(2000, 1))
    true = np.quantile(values, [0.1, 0.5, 0.9])
    inside = 0
    for seed in range(15):
        found = fl.analytics.quantiles(
            dataset(values),
            q=[0.1, 0.5, 0.9],
            range=(-8, 24),
            num_bins=256,
            privacy=QueryPrivacy(1.0, 1e-6, max_per_client=1, seed=seed),
        )
        inside += (np.abs(found.values - true) <= found.error).sum()
        assert (found.error < 2).all()
    assert inside >= 36


@pytest.mark.statistical
@pytest.mark.parametrize("below", [1.0, 0.7, 0.299])
def test_so_where_many_edges_have_one_rank(below):
    """Of 400 runs; fewer than 363 have one below 1e-3."""
    values = np.where(np.arange(2000) < 2000 * below, 0.3, 0.9)
    q, grid = np.array([0.0, 0.3, 0.5, 1.0]), np.linspace(0, 1, 1025)
    true = np.quantile(values, q, method="inverted_cdf")
    leaves = np.histogram(values, grid)[0]
    rng, inside = np.random.default_rng(0), np.zeros(4)
    for _ in range(400):
        counts = [
            leaves.reshape(2**k, -1).sum(axis=1) + rng.normal(0, 15, 2**k)
            for k in range(11)
        ]
        ranks = edge_ranks(counts)
        found, error = found_at(q, ranks, 15.0, grid)
        inside += abs(found - true) <= error
    assert (inside >= 363).all(), inside


@pytest.mark.parametrize(
    ("error", "query"),
    [
        ("10 bins need `range", lambda d: fl.analytics.histogram(d)),
        (
            "smaller one first",
            lambda d: fl.analytics.histogram(d, range=(3, 1)),
        ),
        (
            "edges in increasing order",
            lambda d: fl.analytics.histogram(d, bins=[1.0, 0.0]),
        ),
        (
            "numbers there are mean",
            lambda d: fl.analytics.histogram(d, bins=["x"]),
        ),
        ("twice", lambda d: fl.analytics.histogram(d, bins=["x", "x"])),
        ("numbers from 0 to 1", lambda d: fl.analytics.quantiles(d, q=50)),
        ("numbers from 0 to 1", lambda d: fl.analytics.quantiles(d, q="half")),
        ("numbers from 0 to 1", lambda d: fl.analytics.quantiles(d, q=[[0.5]])),
        ("smaller one first", lambda d: fl.analytics.histogram(d, range=5)),
        ("must be a number", lambda d: fl.analytics.histogram(d, bins=[])),
        ("must be a number", lambda d: fl.analytics.histogram(d, bins="x")),
        (
            "must be a number",
            lambda d: fl.analytics.histogram(d, bins=[1, "x"]),
        ),
        ("must be a number", lambda d: fl.analytics.histogram(d, bins=None)),
        ("1024 bins need `range", lambda d: fl.analytics.quantiles(d)),
        (
            "a power of 2",
            lambda d: fl.analytics.quantiles(d, range=(0, 1), num_bins=100),
        ),
    ],
)
def test_what_is_refused(error, query):
    texts = "twice" in error
    data = {"a": (["x"] if texts else [1.0], [0])}
    with pytest.raises(ValueError, match=error):
        query(data)


def test_nobody_has_values():
    with pytest.raises(ValueError, match="no client has any values"):
        fl.analytics.quantiles(dataset([[]]), range=(0, 1))
