"""What stochastic rounding draws."""

import numpy as np
import pytest
from keras import ops

from fedlearn import backend
from fedlearn.encoders import UniformQuantization
from tests.encoders.compression import trip

SEED = np.array([1, 2], np.int32)


def draw(seed, shape):
    return ops.convert_to_numpy(backend.random_dither(seed, shape))


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5), (4, 4)])
def test_it_has_any_shape(shape):
    dither = draw(SEED, shape)
    assert dither.shape == shape
    assert dither.dtype == np.float32


@pytest.mark.statistical
def test_it_is_uniform_and_of_16_bits():
    size = 2**18
    dither = draw(SEED, (size,)).astype(np.float64)
    np.testing.assert_array_equal(dither * 2**16, np.floor(dither * 2**16))
    counts, _ = np.histogram(dither, bins=64, range=(0, 1))
    assert counts.sum() == size
    assert ((counts - size / 64) ** 2).sum() / (size / 64) < 63 + 5 * 126**0.5
    # Two numbers are made of one word: its halves have nothing in common.
    other = draw(np.array([1, 3], np.int32), (size,))
    for a, b in ((dither[::2], dither[1::2]), (dither, other)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / len(a) ** 0.5


def test_lanes_draw_what_they_draw_alone():
    seeds = np.array([[1, 2], [3, 4]], np.int32)
    lanes = backend.jit(
        lambda s: backend.vmap(lambda w: backend.random_dither(w, (9,)))(s)
    )
    np.testing.assert_array_equal(
        ops.convert_to_numpy(lanes(seeds)), [draw(s, (9,)) for s in seeds]
    )


@pytest.mark.statistical
def test_rounding_with_it_is_right_in_expectation():
    size = 2**18
    share = 0.3
    vector = np.full(size, share, "float32")
    vector[:2] = 0, 255  # steps of 1
    (decoded,) = trip(UniformQuantization(8), [vector])
    assert set(np.unique(decoded[2:])) == {0, 1}
    deviation = (share * (1 - share) / size) ** 0.5
    assert abs(decoded[2:].mean() - share) < 5 * deviation
