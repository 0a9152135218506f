import keras
import numpy as np
import pytest

from fedlearn import backend
from fedlearn.aggregators import Mean
from fedlearn.encoders import Clip, TreeNoise
from fedlearn.encoders.tree_noise import node_variance
from fedlearn.messages import wire
from fedlearn.privacy import Tree, tree_sensitivity
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


def prefix_variance(num_rounds, honaker):
    """The variance of the noise in the sum of a tree's first rounds."""
    levels = [k for k in range(num_rounds.bit_length()) if num_rounds >> k & 1]
    return sum(node_variance(k) if honaker else 1.0 for k in levels)


def prefixes(tree, num_rounds):
    """The noise of the sums of rounds 1 to t, as weights of what is drawn."""
    return np.cumsum(noises(tree, num_rounds, UnitVectors(num_rounds)), axis=0)


def whole_tree(num_rounds, honaker):
    """The same by definition, with a tree that keeps all of its nodes."""
    numbers = {}

    def own(start, stop):
        weights = np.zeros(2 * num_rounds)
        weights[numbers.setdefault((start, stop), len(numbers))] = 1
        return weights

    def estimate(start, stop):
        size = stop - start
        if size == 1 or not honaker:
            return own(start, stop)
        middle = start + size // 2
        below = estimate(start, middle) + estimate(middle, stop)
        # Weights by the inverse of the variances.
        a, b = 1.0, 1 / np.sum(below**2)
        return (a * own(start, stop) + b * below) / (a + b)

    sums = []
    for t in range(1, num_rounds + 1):
        start, total = 0, np.zeros(2 * num_rounds)
        while start < t:
            size = 1 << ((t - start).bit_length() - 1)
            total = total + estimate(start, start + size)
            start += size
        sums.append(total)
    return np.array(sums)


@pytest.mark.parametrize("honaker", [False, True])
def test_sums_of_rounds_have_the_noise_of_the_tree(honaker):
    actual = prefixes(TreeNoise(1.0, honaker=honaker), 21)
    expected = whole_tree(21, honaker)
    # Not the same numbers are drawn, but the joint distribution is the same.
    np.testing.assert_allclose(
        actual @ actual.T, expected @ expected.T, atol=1e-5
    )


@pytest.mark.parametrize("honaker", [False, True])
def test_the_variance_has_a_closed_form(honaker):
    variances = np.sum(prefixes(TreeNoise(1.0, honaker=honaker), 40) ** 2, 1)
    expected = [prefix_variance(t, honaker) for t in range(1, 41)]
    np.testing.assert_allclose(variances, expected, rtol=1e-5)
    if not honaker:
        assert expected == [t.bit_count() for t in range(1, 41)]


def test_honaker_nearly_halves_the_variance_of_a_large_node():
    assert node_variance(0) == 1
    assert node_variance(1) == pytest.approx(2 / 3)
    assert node_variance(30) == pytest.approx(1 / 2)


def test_a_restart_keeps_the_noise_and_begins_another_tree():
    sums = prefixes(TreeNoise(1.0, restart_every=6), 15)
    first, second, third = sums[:6], sums[6:12], sums[12:]
    np.testing.assert_allclose(
        (second - first[-1]) @ (second - first[-1]).T,
        first @ first.T,
        atol=1e-6,
    )
    np.testing.assert_allclose((second - first[-1]) @ first.T, 0, atol=1e-6)
    np.testing.assert_allclose((third - second[-1]) @ second.T, 0, atol=1e-6)


@pytest.mark.statistical
def test_the_deviation_in_a_sum_of_means():
    mean = Mean([Clip(2.0), TreeNoise(3.0)], "uniform", 5.0)
    exact = Mean([Clip(2.0)], "uniform", 5.0)
    rng = np.random.default_rng(0)
    noisy, _, _ = round_of(mean, updates(2), rng)
    clean, _, _ = round_of(exact, updates(2), rng)
    assert_std(flat(noisy) - flat(clean), 3 * 2 / 5)


def test_a_saved_state_goes_on_with_the_same_tree():
    tree = TreeNoise(1.0, restart_every=5).build(SPEC)
    rng = np.random.default_rng(0)
    state, unbroken = tree.init(), []
    for _ in range(7):
        noise = tree.draw(state, rng)
        state, _ = tree.update(state, (), noise)
        unbroken.append(deviations(noise))
    rng = np.random.default_rng(0)
    state = tree.init()
    for expected in unbroken:
        again = TreeNoise(**tree.get_config()).build(SPEC)
        noise = again.draw(state, rng)
        np.testing.assert_array_equal(deviations(noise), expected)
        state, _ = tree.update(state, (), noise)
        message = wire.pack(backend.to_numpy(state))
        state = wire.unpack(message)


def test_a_tree_that_is_full_is_an_error():
    tree = TreeNoise(1.0, max_rounds=2)
    spec = [keras.KerasTensor((1,))]
    assert len(noises(tree, 2, np.random.default_rng(0), spec)) == 2
    with pytest.raises(ValueError, match="room for 2"):
        noises(tree, 3, np.random.default_rng(0), spec)


def test_no_noise_is_none():
    rng = np.random.default_rng(0)
    encoders = [Clip(1.0), TreeNoise(0.0)]
    noisy, _, _ = round_of(Mean(encoders, "uniform", 2.0), updates(2), rng)
    exact, _, _ = round_of(Mean(encoders[:1], "uniform", 2.0), updates(2), rng)
    np.testing.assert_array_equal(flat(noisy), flat(exact))


@pytest.mark.parametrize("name", ["restart_every", "max_rounds"])
def test_a_tree_without_rounds_is_refused(name):
    with pytest.raises(ValueError, match=name):
        TreeNoise(1.0, **{name: 0})


def test_the_tree_is_accounted_for_as_a_whole():
    mechanism = TreeNoise(1.5, restart_every=8).dp_event()
    assert isinstance(mechanism, Tree)
    assert (mechanism.noise_multiplier, mechanism.restart_every) == (1.5, 8)
    # A client in one round moves one node of each level.
    weights = whole_tree_nodes(8)
    assert tree_sensitivity(8, 8, 1) ** 2 == weights.sum(axis=0).max()


def whole_tree_nodes(num_rounds):
    """Which rounds are in which nodes, bool of shape (nodes, rounds)."""
    rounds = np.arange(num_rounds)
    return np.array(
        [
            rounds // size == i
            for size in 2 ** np.arange(num_rounds.bit_length())
            for i in range(num_rounds // size)
        ]
    )
