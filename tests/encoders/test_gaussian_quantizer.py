import statistics

import numpy as np
import pytest
from keras import ops

from fedlearn.encoders import gaussian_quantizer
from fedlearn.encoders.gaussian_quantizer import codes, levels, values

NORMAL = statistics.NormalDist()
# The least error of 1 to 5 bits, table 1 of Max 1960 (2, 4, 8, 16, 32 levels).
LEAST = {1: 0.3634, 2: 0.1175, 3: 0.03454, 4: 0.009497, 5: 0.002499}


def expected_error(bits, deviation):
    wide = statistics.NormalDist(0, deviation)
    edges = [wide.inv_cdf(i / 2**bits) for i in range(1, 2**bits)]
    shares = np.diff([0, *map(NORMAL.cdf, edges), 1])
    sums = -np.diff([0, *map(NORMAL.pdf, edges), 0])
    centroids = sums / shares
    best = 1 - (sums * centroids).sum()
    return best, best + (shares * (levels(bits) - centroids) ** 2).sum()


@pytest.mark.backend_free
@pytest.mark.parametrize("bits", range(2, 9))
def test_cells_are_as_wide_as_they_should_be(bits):
    deviation = gaussian_quantizer._DEVIATIONS[bits - 1]
    best, _ = expected_error(bits, deviation)
    for other in (0.999, 1.001):
        assert expected_error(bits, other * deviation)[0] > best


@pytest.mark.backend_free
def test_errors_are_near_the_least():
    for bits, least in LEAST.items():
        _, error = expected_error(
            bits, gaussian_quantizer._DEVIATIONS[bits - 1]
        )
        assert 0.999 < error / least < 1.01
    # With many bits: of Panter and Dite, pi sqrt(3) / 2 / 4**bits.
    for bits, limit in {6: 1.02, 7: 1.02, 8: 1.04}.items():
        _, error = expected_error(
            bits, gaussian_quantizer._DEVIATIONS[bits - 1]
        )
        assert error * 4**bits < limit * np.pi * 3**0.5 / 2


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_are_of_cells_and_values_of_codes(bits):
    every = levels(bits)
    assert (np.diff(every) > 0).all()
    np.testing.assert_array_equal(every, -every[::-1])
    wide = statistics.NormalDist(0, gaussian_quantizer._DEVIATIONS[bits - 1])
    edges = np.array([wide.inv_cdf(i / 2**bits) for i in range(1, 2**bits)])
    near = np.concatenate([edges - 1e-4, edges + 1e-4, [-1e30, 1e30]])
    found = codes(ops.convert_to_tensor(near.astype("float32")), bits)
    np.testing.assert_array_equal(found, np.searchsorted(edges, near))
    decoded = values(ops.arange(float(2**bits), dtype="float32"), bits)
    np.testing.assert_allclose(decoded, every, atol=3e-5)
