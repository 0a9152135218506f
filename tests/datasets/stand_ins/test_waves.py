import numpy as np
import pytest

from fedlearn import seeds
from fedlearn.datasets.stand_ins import waves

pytestmark = pytest.mark.backend_free


def test_wave_is_a_cosine():
    turns = np.linspace(-3, 3, 1001)
    np.testing.assert_allclose(
        waves.wave(turns), np.cos(2 * np.pi * turns), atol=0.002
    )
    assert waves.wave(np.float32([0.25])).dtype == np.float32


def test_grain_is_standard_noise():
    noise = waves.grain((100, 50), seeds.bits(2500, 0, "test"))
    assert noise.shape == (100, 50)
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.06
    assert abs(noise.std() - 1) < 0.05
    assert 0.64 < (np.abs(noise) < 1).mean() < 0.72
