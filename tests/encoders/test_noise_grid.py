"""What is released with noise tells no more than Gaussian noise would."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from fedlearn.encoders import (
    BandedMatrixNoise,
    GaussianNoise,
    TreeNoise,
    noise_grid,
)
from tests.zoo import floats

NOISES = {
    "gaussian": lambda z: GaussianNoise(z),
    "tree": lambda z: TreeNoise(z),
    "banded": lambda z: BandedMatrixNoise(z, bands=3),
}

noises = pytest.mark.parametrize("noise", NOISES)


def released(encoder, values, seed):
    """What rounds of the noise make of values, one a round; NumPy arrays."""
    rng = np.random.default_rng(seed)
    spec = [keras.KerasTensor(values[0].shape, values[0].dtype)]
    encoder = encoder.build(spec)
    state = encoder.init()
    found = []
    for value in values:
        noise = encoder.draw(state, rng)
        (noisy,) = encoder.add([ops.convert_to_tensor(value)], 1.0, noise)
        state, _ = encoder.update(state, (), noise)
        found.append(ops.convert_to_numpy(noisy))
    return found


def step_of(encoder, size):
    std = noise_grid.standard_deviation(encoder.noise_multiplier, 1.0, size)
    return float(ops.convert_to_numpy(std)) / 2.0**24


@noises
def test_membership_does_not_show_in_the_last_bits(noise):
    """The attack of whoever knows all clients but one, and all their bits.

    What was released, minus the sum with or without that client, is the noise
    or isn't: noise that was drawn in float32 is a float32 number.
    """
    with floats("float64"):
        encoder = NOISES[noise](100.0)
        rng = np.random.default_rng(5)
        others = rng.normal(size=(3, 500))
        client = 1e-3 * rng.normal(size=(3, 500))
        for there in (False, True):
            values = list(others + client * there)
            for k, value in enumerate(released(encoder, values, seed=1)):
                fits = [
                    np.sum(difference.astype("float32") == difference)
                    for difference in (
                        value - others[k],
                        value - others[k] - client[k],
                    )
                ]
                assert fits[0] == fits[1]


@noises
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("multiplier", [0.3, 1.0, 100.0])
def test_what_is_released_is_a_number_of_steps(noise, dtype, multiplier):
    """Whatever the bits of the sum, the same numbers can come out."""
    with floats(dtype):
        encoder = NOISES[noise](multiplier)
        values = np.random.default_rng(5).normal(size=(3, 500)).astype(dtype)
        step = np.asarray(step_of(encoder, 500), dtype)
        for value in released(encoder, list(values), seed=1):
            assert value.dtype == dtype
            whole = np.rint(value.astype("float64") / step)
            few = np.abs(whole) < 2.0**22  # beyond, a float is between two
            np.testing.assert_array_equal(
                whole[few].astype(dtype) * step, value[few]
            )
            odd = np.mean(whole[few] % 2)
            assert abs(odd - 0.5) < 5 * 0.5 / math.sqrt(few.sum())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_value_and_its_noise_are_added_as_integers(dtype):
    rng = np.random.default_rng(0)
    value = (3 * rng.normal(size=1000)).astype(dtype)
    with floats(dtype):
        kind = noise_grid.steps_dtype(value)
        steps = noise_grid.to_steps(rng.normal(size=1000), kind)
        found = noise_grid.add(ops.convert_to_tensor(value), steps, 2.0)
        found = ops.convert_to_numpy(found)
    whole = np.rint(value * 2.0**23).astype("int64") + steps.astype("int64")
    np.testing.assert_array_equal(found, whole.astype(dtype) * 2.0**-23)


def test_what_float32_cannot_tell_apart_is_rounded_as_a_whole():
    steps = np.array([3, -5, 2**23 + 1], "int32")
    value = np.array([2.0**24 - 4, 2.0**29, -(2.0**23)], "float32")
    found = noise_grid.add(ops.convert_to_tensor(value), steps, 2.0**24)
    expected = (value.astype("int64") + steps).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(found), expected)
    # Beyond int32, too.
    value = np.array([2.0**35, -(2.0**40), 2.0**90], "float32")
    found = noise_grid.add(ops.convert_to_tensor(value), steps, 2.0**24)
    np.testing.assert_array_equal(ops.convert_to_numpy(found), value)


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 1e-45, -1e-38, 1e-30, 1e30, 3e38, -3e38]
)
@pytest.mark.parametrize("bound", [1e-37, 1e-3, 1.0, 1e30])
def test_extreme_values_stay_what_they_are_to_a_step(value, bound):
    if abs(value) > 1e12 * bound:
        pytest.skip("not so many clients")
    encoder = GaussianNoise(1.0).build([keras.KerasTensor((200,), "float32")])
    noise = encoder.draw((), np.random.default_rng(0))
    zeros, values = (
        encoder.add([ops.full((200,), v, "float32")], bound, noise)[0]
        for v in (0.0, value)
    )
    moved = ops.convert_to_numpy(values).astype("float64")
    moved -= ops.convert_to_numpy(zeros).astype("float64")
    assert np.isfinite(moved).all()
    scale = max(abs(value), 10 * bound, 2.0**-100)
    np.testing.assert_allclose(moved, value, rtol=0, atol=2e-6 * scale)


def test_the_deviation_makes_up_for_rounding():
    # A client's part is up to 1 long, and sqrt(size) steps once rounded.
    size, multiplier = 10**8, 100.0
    std = float(
        ops.convert_to_numpy(
            noise_grid.standard_deviation(multiplier, 1.0, size)
        )
    )
    longest = 1 + std / 2**24 * math.sqrt(size)
    np.testing.assert_allclose(std / longest, multiplier, rtol=1e-6)


def test_more_noise_than_float32_resolves_is_refused():
    encoder = GaussianNoise(1e6)
    with pytest.raises(ValueError, match="resolution of float32"):
        encoder.build([keras.KerasTensor((10_000, 10_000), "float32")])


def test_noise_that_is_not_scaled_to_about_one_is_refused():
    encoder = BandedMatrixNoise(1.0, coefficients=[0.001])
    encoder = encoder.build([keras.KerasTensor((10,), "float32")])
    with pytest.raises(ValueError, match="64 times as large"):
        encoder.draw(encoder.init(), np.random.default_rng(0))
