import math

import keras
import numpy as np
import pytest

from fedlearn.aggregators import Mean
from fedlearn.encoders import AdaptiveClip, GaussianNoise
from fedlearn.encoders.adaptive_clip import noise_split
from tests.encoders.noise_rounds import (
    assert_std,
    compiled_round,
    flat,
    updates,
)

SPEC = [keras.KerasTensor((2,), "float32")]


def of_norm(norms):
    """Updates of given norms, one a client."""
    return [np.stack([norms, np.zeros_like(norms)], 1).astype("float32")]


def run(clip, norms_of_round, num_rounds, rng=None):
    rng = np.random.default_rng(0) if rng is None else rng
    mean = Mean([clip]).build(SPEC)
    next_round = compiled_round(mean)
    state, clip_norms = mean.init(), []
    for _ in range(num_rounds):
        _, state, metrics = next_round(state, of_norm(norms_of_round()), rng)
        clip_norms.append(float(metrics["clip_norm"]))
    return np.array(clip_norms)


@pytest.mark.statistical
@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("start", [0.01, 100.0])
def test_the_norm_finds_the_quantile(quantile, start):
    # Norms are lognormal around 1, so the share below C is known.
    rng = np.random.default_rng(0)
    clip = AdaptiveClip(
        quantile, start, learning_rate=1.0, clients_per_round=500
    )
    clip_norms = run(clip, lambda: np.exp(rng.normal(size=500)), 35, rng)
    shares = [0.5 * math.erfc(-math.log(c) / math.sqrt(2)) for c in clip_norms]
    # The noise on a share has deviation 1/20, as the paper has it; what is
    # left of it on the mean of rounds is 0.03.
    assert abs(np.mean(shares[20:]) - quantile) < 0.1 * max(quantile, 0.5)


def test_the_update_is_the_paper_s():
    clip = AdaptiveClip(0.25, initial_norm=1.0, learning_rate=0.3)
    norms = np.array([0.5, 1.0, 2.0, 3.0, 4.0])  # the second is not above
    clip_norms = run(clip, lambda: norms, 2)
    expected = math.exp(-0.3 * (2 / 5 - 0.25))
    np.testing.assert_allclose(clip_norms, [1, expected], rtol=1e-6)


def test_the_denominator_is_fixed():
    # Of ten expected clients two came, one unclipped: the others count 1/2.
    clip = AdaptiveClip(
        0.5, 1.0, clients_per_round=10, count_noise_multiplier=0
    )
    clip_norms = run(
        clip, lambda: np.array([0.5, 0.6, 2.0]), 2, np.random.default_rng(0)
    )
    expected = math.exp(-0.5 * ((1 - 0.5) / 10))
    np.testing.assert_allclose(clip_norms[1], expected, rtol=1e-6)


def test_from_nobody_nothing_is_learned():
    clip = AdaptiveClip(0.9, 2.0)
    state = clip.init()
    stats = {"bits": np.float32(0), "count": np.float32(0)}
    state, _ = clip.update(state, stats, clip.draw(state, None))
    assert float(state) == 2


@pytest.mark.statistical
def test_the_noise_of_the_count_has_its_deviation():
    clip = AdaptiveClip(0.5, 1.0, 1.0, clients_per_round=30)
    assert clip.count_noise_multiplier == 3
    rng = np.random.default_rng(0)
    state = clip.init()
    stats = {"bits": np.float32(0), "count": np.float32(30)}
    steps = [
        float(clip.update(state, stats, clip.draw(state, rng))[0])
        for _ in range(1000)
    ]
    # sigma_b is half the multiplier: that of clients_per_round / 20.
    assert_std(np.log(steps), 1.5 / 30)


@pytest.mark.statistical
def test_noise_follows_the_norm():
    encoders = [AdaptiveClip(1.0, 2.0, 1.0), GaussianNoise(1.0)]
    spec = [keras.KerasTensor((2000,), "float32")]
    mean = Mean(encoders, "uniform", 4.0).build(spec)
    values = updates(4, spec, scale=1e-12)
    next_round = compiled_round(mean)
    state, rng = mean.init(), np.random.default_rng(0)
    noisy, state, metrics = next_round(state, values, rng)
    assert metrics["clip_norm"] == 2
    assert_std(flat(noisy), 2 / 4)
    values = updates(4, spec, scale=1e6)  # all are clipped: the norm grows
    _, state, _ = next_round(state, values, rng)
    values = updates(4, spec, scale=1e-12)
    noisy, state, metrics = next_round(state, values, rng)
    np.testing.assert_allclose(metrics["clip_norm"], 2 * math.e, rtol=1e-5)
    assert_std(flat(noisy), 2 * math.e / 4)


def test_zeros_and_nan_do_not_move_the_state_away():
    clip = AdaptiveClip(0.5, 1.0)
    values = of_norm(np.array([0.0, 0.0]))
    mean = Mean([clip]).build(SPEC)
    next_round, rng = compiled_round(mean), np.random.default_rng(0)
    result, (state,), _ = next_round(mean.init(), values, rng)
    np.testing.assert_array_equal(flat(result), 0)
    np.testing.assert_allclose(float(state), math.exp(-0.25), rtol=1e-6)
    # A client whose update is NaN is left out by its executor; its bit is a
    # number all the same.
    values = of_norm(np.array([0.5, np.nan]))
    _, (state,), _ = next_round(mean.init(), values, rng)
    assert math.isfinite(float(state))


@pytest.mark.parametrize(
    "arguments",
    [
        {"target_quantile": 1.5},
        {"initial_norm": 0.0},
        {"learning_rate": -1.0},
        {"clients_per_round": -3},
        {"count_noise_multiplier": -1.0, "clients_per_round": 3},
    ],
)
def test_what_cannot_be_is_refused(arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must be"):
        AdaptiveClip(**arguments)


def test_noise_over_a_count_of_who_came_is_refused():
    with pytest.raises(ValueError, match="Give `clients_per_round`"):
        AdaptiveClip(count_noise_multiplier=1.0)


def test_the_split_is_the_paper_s():
    # z = 1, m = 100, sigma_b = m / 20 = 5.
    assert noise_split(1.0, 10.0) == pytest.approx((1 - 1 / 100) ** -0.5)
    assert noise_split(0.0, 10.0) == 0
    with pytest.raises(ValueError, match="larger"):
        noise_split(1.0, 1.0)
    with pytest.raises(ValueError, match="at least 0"):
        noise_split(-1.0, 1.0)


def test_the_events_of_count_and_sum_compose_to_the_whole():
    dp_accounting = pytest.importorskip("dp_accounting")
    clip = AdaptiveClip(clients_per_round=20)
    noise = GaussianNoise(noise_split(1.0, clip.count_noise_multiplier))

    def epsilon(*events):
        accountant = dp_accounting.rdp.RdpAccountant()
        for event in events:
            accountant.compose(event, 10)
        return accountant.get_epsilon(1e-5)

    whole = epsilon(dp_accounting.GaussianDpEvent(1.0))
    parts = epsilon(clip.dp_event(), noise.dp_event())
    assert parts == pytest.approx(whole, rel=1e-9)
    without = AdaptiveClip().dp_event()
    assert without == dp_accounting.NonPrivateDpEvent()
