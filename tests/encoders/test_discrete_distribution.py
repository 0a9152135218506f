import math

import numpy as np
import pytest
from keras import ops

from fedlearn.encoders import discrete_distribution as discrete


@pytest.mark.parametrize("variance", [0.01, 1.0, 2.5, 400.0, 1e6])
def test_skellam_has_its_moments(variance):
    p = discrete.skellam(variance)
    k = np.arange(len(p), dtype=float)
    assert 2 * (k**2 * p).sum() == pytest.approx(variance, rel=1e-9)
    # Cumulants: the fourth is the variance again.
    fourth = 2 * (k**4 * p).sum()
    assert fourth == pytest.approx(3 * variance**2 + variance, rel=1e-9)


def test_skellam_is_a_difference_of_poisson_numbers():
    mean = 1.5
    poisson = [math.exp(-mean) * mean**k / math.factorial(k) for k in range(60)]
    difference = np.convolve(poisson, poisson[::-1])[59:]
    np.testing.assert_allclose(
        discrete.skellam(2 * mean)[:30], difference[:30], rtol=1e-6, atol=1e-18
    )


@pytest.mark.parametrize("std", [0.3, 1.0, 20.0])
def test_discrete_gaussian_is_the_density_at_integers(std):
    p = discrete.discrete_gaussian(std)
    np.testing.assert_allclose(
        p[1] / p[0], math.exp(-1 / (2 * std**2)), rtol=1e-9
    )
    assert p[0] + 2 * p[1:].sum() == pytest.approx(1)


def test_a_table_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="fewer bits"):
        discrete.discrete_gaussian(1e6)


@pytest.mark.parametrize("std", [0.05, 0.5, 7.0, 300.0])
@pytest.mark.parametrize("kind", ["skellam", "discrete_gaussian"])
def test_a_table_has_the_probabilities_to_32_bits(kind, std):
    make = getattr(discrete, kind)
    half = make(std**2 if kind == "skellam" else std)
    table = discrete.thresholds(half).astype(float) + 2.0**31
    reach = len(table) // 2
    words = np.diff([0, *table, 2.0**32])  # how many stand for each integer
    np.testing.assert_array_equal(words, words[::-1])
    expected = half[np.abs(np.arange(-reach, reach + 1))]
    # Two thresholds are rounded, and the ends have all of the tail.
    np.testing.assert_allclose(words * 2.0**-32, expected, atol=2 * 2.0**-32)


def test_lookup_inverts_the_table():
    table = discrete.thresholds(discrete.skellam(9.0))
    reach = len(table) // 2
    below, at = (
        ops.convert_to_numpy(discrete.lookup(table, words))
        for words in (table - 1, table)
    )
    np.testing.assert_array_equal(below, np.arange(-reach, reach))
    np.testing.assert_array_equal(at, np.arange(-reach, reach) + 1)
