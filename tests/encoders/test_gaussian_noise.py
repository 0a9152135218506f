import math

import keras
import numpy as np
import pytest
from keras import ops

import fedlearn as fl
from fedlearn.aggregators import Mean
from fedlearn.encoders import Clip, Encoder, GaussianNoise
from tests import zoo
from tests.encoders.noise_rounds import (
    assert_std,
    flat,
    round_of,
    updates,
)


class Keep(Encoder):
    """Stands for a rotation: norms stay."""

    bound = "keeps"

    def encode(self, value, params, seed):
        return [-v for v in value], ()

    def decode(self, value, params):
        return [-v for v in value]


class OwnScale(Keep):
    """Decoded one by one, with an error that makes updates longer."""

    decodes = "summand"
    bound = "loses"

    def decode(self, value, params):
        return [-3 * v for v in value]


def aggregate(encoders, rng, denominator=10.0, scale=1.0):
    mean = Mean(encoders, "uniform", denominator)
    values = updates(4, scale=scale)
    value, _, _ = round_of(mean, values, rng)
    return flat(value)


def noise_of(clip, *others, multiplier=1.5, denominator=10.0, scale=1.0):
    """The noise in an aggregate: the same with noise 0 is taken off."""
    rng = np.random.default_rng(1)
    noisy, exact = (
        aggregate([clip, GaussianNoise(z), *others], rng, denominator, scale)
        for z in (multiplier, 0.0)
    )
    return noisy - exact


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("clip", "bound"),
    [
        (Clip(2.0), 2),
        (Clip(2.0, "per_layer"), 2),
        (Clip(2.0, "l1"), 2),
        (Clip(0.02, "linf"), 0.02 * math.sqrt(1001)),
    ],
    ids=["global", "per_layer", "l1", "linf"],
)
@pytest.mark.parametrize(
    "others", [(), (Keep(),), (OwnScale(),), (Keep(), OwnScale())]
)
def test_the_noise_is_as_large_as_the_accounting_says(clip, bound, others):
    # In the mean: multiplier * bound / denominator, whoever took part.
    assert_std(noise_of(clip, *others), 1.5 * bound / 10)


@pytest.mark.statistical
def test_the_noise_does_not_depend_on_the_updates():
    samples = [noise_of(Clip(2.0), scale=s) for s in (1e-6, 1e3)]
    np.testing.assert_allclose(*samples, atol=1e-5)
    assert_std(noise_of(Clip(2.0), denominator=2.0), 1.5)


def test_no_noise_is_none():
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(
        aggregate([Clip(1.0), GaussianNoise(0.0)], rng),
        aggregate([Clip(1.0)], rng),
    )


def test_the_same_generator_gives_the_same_noise():
    encoders = [Clip(1.0), GaussianNoise(1.0)]
    a, b, c = (aggregate(encoders, np.random.default_rng(s)) for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).min() > 0


def test_noise_in_other_dtypes():
    noise = GaussianNoise(1.0).build([keras.KerasTensor((3,), "bfloat16")])
    drawn = noise.draw((), np.random.default_rng(0))
    (value,) = noise.add([ops.zeros((3,), "bfloat16")], 1.0, drawn)
    assert keras.backend.standardize_dtype(value.dtype) == "bfloat16"


def test_noise_without_a_bound_is_refused():
    with pytest.raises(ValueError, match="Clip"):
        Mean([GaussianNoise(1.0)], "uniform", 10)
    with pytest.raises(ValueError, match="Clip"):
        GaussianNoise(1.0).add([ops.zeros(3)], math.inf, {})


@pytest.mark.parametrize("multiplier", [-1, math.nan, math.inf])
def test_a_multiplier_that_is_none_is_refused(multiplier):
    with pytest.raises(ValueError, match="at least 0"):
        GaussianNoise(multiplier)


def test_the_event_is_the_gaussian_mechanism():
    dp_accounting = pytest.importorskip("dp_accounting")
    assert GaussianNoise(1.5).dp_event() == dp_accounting.GaussianDpEvent(1.5)


def test_noise_is_drawn_anew_each_round_and_again_after_a_restart():
    """In a process: compiled once, and yet other noise in each round."""
    process = fl.FederatedAveraging(
        zoo.regression(),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        aggregator=Mean([Clip(1e-6), GaussianNoise(1e6)], "uniform", 2.0),
        executor="sequential",
    )
    cohort = zoo.clients((4, 4), make=zoo.line)
    state, steps = process.initialize(), []
    for _ in range(2):
        new, _ = process.next(state, cohort)
        again, _ = process.next(state, cohort)
        zoo.assert_equal(tuple(new), tuple(again))
        steps.append(
            flat(zoo.numpy(new.trainable)) - flat(zoo.numpy(state.trainable))
        )
        state = new
    assert np.abs(steps[0] - steps[1]).min() > 1e-3
