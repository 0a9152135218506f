import math

import numpy as np
import pytest

from fedlearn.aggregators import Mean
from fedlearn.encoders import LocalGaussianNoise
from tests.encoders.noise_rounds import (
    assert_std,
    encode_all,
    flat,
    round_of,
    updates,
)


@pytest.mark.statistical
def test_each_client_adds_noise_of_its_own():
    values = updates(4, scale=0.0)
    noisy, _ = encode_all(LocalGaussianNoise(0.3), values)
    assert_std(noisy[0], 0.3)
    correlations = np.corrcoef(noisy[0].reshape(4, -1)) - np.eye(4)
    assert np.abs(correlations).max() < 5 / math.sqrt(1000)
    # Of the normal distribution: its fourth moment is 3.
    kurtosis = np.mean((noisy[0] / 0.3) ** 4)
    assert abs(kurtosis - 3) < 5 * math.sqrt(96 / noisy[0].size)


@pytest.mark.statistical
def test_the_mean_has_a_smaller_one():
    rng = np.random.default_rng(0)
    mean = Mean([LocalGaussianNoise(0.3)], "uniform")
    noisy, _, _ = round_of(mean, updates(4, scale=0.0), rng)
    assert_std(flat(noisy), 0.3 / 2)


def test_noise_depends_on_the_seed_alone():
    a, b, c = (
        encode_all(LocalGaussianNoise(1.0), updates(2), seed=s)[0][0]
        for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).min() > 0


def test_no_noise_is_none():
    values = updates(2)
    same, _ = encode_all(LocalGaussianNoise(0.0), values)
    for a, b in zip(same, values, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("std", [-1.0, math.nan, math.inf])
def test_a_deviation_that_is_none_is_refused(std):
    with pytest.raises(ValueError, match="at least 0"):
        LocalGaussianNoise(std)
