import numpy as np
import pytest

from fedlearn import backend
from fedlearn.aggregators import Mean
from fedlearn.encoders import BandedMatrixNoise, Clip, GaussianNoise
from fedlearn.messages import wire
from fedlearn.privacy import BandedMatrix, optimal_coefficients
from tests.encoders.noise_rounds import (
    SPEC,
    UnitVectors,
    assert_std,
    deviations,
    flat,
    noises,
    round_of,
    updates,
)


def toeplitz(coefficients, num_rounds):
    matrix = np.zeros((num_rounds, num_rounds))
    for k, c in enumerate(coefficients[:num_rounds]):
        matrix += c * np.eye(num_rounds, k=-k)
    return matrix


@pytest.mark.parametrize(
    "coefficients", [[2.0], [1.0, 0.5], [1.0, -0.3, 0.2], [1.0, 0.8, 0.0]]
)
@pytest.mark.parametrize("num_rounds", [1, 2, 12])
def test_the_noise_is_the_inverse_matrix_times_normal_numbers(
    coefficients, num_rounds
):
    encoder = BandedMatrixNoise(1.0, coefficients=coefficients)
    inverse = noises(encoder, num_rounds, UnitVectors(num_rounds))
    C = toeplitz(encoder.coefficients, num_rounds)
    np.testing.assert_allclose(C @ inverse, np.eye(num_rounds), atol=1e-5)


def test_bands_are_those_of_the_square_root():
    # Of the matrix of ones below the diagonal, scaled to columns of norm 1.
    encoder = BandedMatrixNoise(1.0, bands=9)
    assert encoder.bands == 9
    C = toeplitz(encoder.coefficients, 9)
    np.testing.assert_allclose(C @ C, C[0, 0] ** 2 * np.tri(9), atol=1e-12)
    assert np.linalg.norm(C[:, 0]) == pytest.approx(1)


def test_the_best_coefficients_are_taken():
    pytest.importorskip("dp_accounting")
    coefficients = optimal_coefficients(4, 16)
    encoder = BandedMatrixNoise(1.0, coefficients=coefficients)
    np.testing.assert_allclose(encoder.coefficients, coefficients)


def test_bands_reduce_the_noise_of_sums():
    def mean_variance(bands):
        encoder = BandedMatrixNoise(1.0, bands=bands)
        sums = np.cumsum(noises(encoder, 64, UnitVectors(64)), axis=0)
        return np.mean(sums**2) * 64

    assert mean_variance(16) < mean_variance(4) < mean_variance(1)
    assert mean_variance(1) == pytest.approx(65 / 2, rel=1e-5)


def test_one_band_is_independent_noise():
    spec = SPEC
    banded, gaussian = (
        noises(e, 3, np.random.default_rng(0), spec)
        for e in (BandedMatrixNoise(1.0, bands=1), GaussianNoise(1.0))
    )
    np.testing.assert_array_equal(banded, gaussian)


@pytest.mark.statistical
def test_the_deviation_in_the_first_mean():
    # x_1 = z_1 / c_0.
    encoder = BandedMatrixNoise(3.0, coefficients=[2.0, 0.75])
    mean = Mean([Clip(2.0), encoder], "uniform", 5.0)
    exact = Mean([Clip(2.0)], "uniform", 5.0)
    rng = np.random.default_rng(0)
    noisy, _, _ = round_of(mean, updates(2), rng)
    clean, _, _ = round_of(exact, updates(2), rng)
    assert_std(flat(noisy) - flat(clean), 3 * 2 / 5 / 2)


def test_a_saved_state_goes_on_with_the_same_noise():
    encoder = BandedMatrixNoise(1.0, bands=3)
    unbroken = noises(encoder, 6, np.random.default_rng(0), SPEC)
    encoder = encoder.build(SPEC)
    rng, state = np.random.default_rng(0), encoder.init()
    for expected in unbroken:
        again = BandedMatrixNoise(**encoder.get_config()).build(SPEC)
        noise = again.draw(state, rng)
        np.testing.assert_allclose(deviations(noise), expected, rtol=1e-5)
        state, _ = encoder.update(state, (), noise)
        state = wire.unpack(wire.pack(backend.to_numpy(state)))


def test_no_noise_is_none():
    rng = np.random.default_rng(0)
    encoders = [Clip(1.0), BandedMatrixNoise(0.0, bands=2)]
    noisy, _, _ = round_of(Mean(encoders, "uniform", 2.0), updates(2), rng)
    exact, _, _ = round_of(Mean(encoders[:1], "uniform", 2.0), updates(2), rng)
    np.testing.assert_array_equal(flat(noisy), flat(exact))


@pytest.mark.parametrize(
    "coefficients", [[1.0, 2.0], [1.0, -1.5, 0.5], [0.0, 1.0]]
)
def test_noise_that_would_grow_is_refused(coefficients):
    with pytest.raises(ValueError, match="grow"):
        BandedMatrixNoise(1.0, coefficients=coefficients)


@pytest.mark.parametrize("coefficients", [[], [1.0, np.nan], [[1.0]]])
def test_what_are_no_coefficients_is_refused(coefficients):
    with pytest.raises(ValueError, match="sequence of numbers"):
        BandedMatrixNoise(1.0, coefficients=coefficients)


def test_bands_or_coefficients():
    with pytest.raises(ValueError, match="either"):
        BandedMatrixNoise(1.0)
    with pytest.raises(ValueError, match="either"):
        BandedMatrixNoise(1.0, bands=1, coefficients=[1.0])
    with pytest.raises(ValueError, match="at least 1"):
        BandedMatrixNoise(1.0, bands=0)


def test_the_rounds_are_accounted_for_as_a_whole():
    mechanism = BandedMatrixNoise(1.5, coefficients=[2.0, 1.0]).dp_event()
    assert isinstance(mechanism, BandedMatrix)
    assert mechanism.noise_multiplier == 1.5
    assert mechanism.coefficients == (2.0, 1.0)
