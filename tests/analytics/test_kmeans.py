"""Centres, against Lloyd's algorithm on pooled values."""

import numpy as np
import pytest

import fedlearn as fl
from fedlearn.analytics import QueryPrivacy

MIDDLES = np.array([[0.0, 0.0], [4.0, 4.0], [0.0, 5.0]])


def values(num_clients=20, each=6):
    rng = np.random.default_rng(0)
    at = rng.integers(3, size=(num_clients, each))
    return MIDDLES[at] + 0.5 * rng.normal(size=(num_clients, each, 2))


def clients(values):
    return {str(i): (v, np.zeros(len(v))) for i, v in enumerate(values)}


def lloyd(pool, centers, rounds):
    for _ in range(rounds):
        near = ((pool[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)
        centers = np.array(
            [
                pool[near == j].mean(axis=0) if (near == j).any() else c
                for j, c in enumerate(centers)
            ]
        )
    return centers, np.bincount(near, minlength=len(centers))


def test_equals_lloyd_on_pooled_values():
    data = values()
    init = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [99.0, 99.0]])
    found = fl.analytics.kmeans(clients(data), 4, rounds=5, init=init)
    centers, counts = lloyd(data.reshape(-1, 2), init, 5)
    np.testing.assert_allclose(found.centers, centers, rtol=1e-9)
    np.testing.assert_array_equal(found.counts, counts)
    assert found.counts[3] == 0  # which stays where it was
    assert np.isinf(found.error[3]).all()
    assert (found.error[:3] == 0).all()


@pytest.mark.backend_free
@pytest.mark.parametrize("bounds", [None, (-3, 9)])
def test_first_centres_are_drawn(bounds):
    one, same, other = (
        fl.analytics.kmeans(
            clients(values()), 2, rounds=1, init=seed, bounds=bounds
        ).centers
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


@pytest.mark.backend_free
def test_with_noise_the_centres_are_near():
    privacy = QueryPrivacy(4.0, 1e-5, max_per_client=6, seed=0)
    found = fl.analytics.kmeans(
        clients(values(4000)),
        3,
        rounds=4,
        init=MIDDLES + 0.5,
        bounds=(-3, 9),
        privacy=privacy,
    )
    assert (np.abs(found.centers - MIDDLES) < 5 * found.error + 0.05).all()
    assert (found.error < 0.2).all()


@pytest.mark.backend_free
def test_what_is_refused():
    data = clients(values())
    with pytest.raises(ValueError, match=r"centres of shape \(2, 2\)"):
        fl.analytics.kmeans(data, 2, init=np.zeros((3, 2)))
    for init in ("k-means++", None, np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match="`init` must be a seed"):
            fl.analytics.kmeans(data, 2, init=init)
    with pytest.raises(ValueError, match="needs `bounds`"):
        fl.analytics.kmeans(data, 2, privacy=QueryPrivacy(1.0, 1e-6, 6))
