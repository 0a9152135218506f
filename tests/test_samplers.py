import collections
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlearn import samplers
from fedlearn.data import FederatedDataset

pytestmark = pytest.mark.backend_free

ALL = [samplers.Uniform, samplers.Poisson, samplers.RoundRobin]


# Recorded once; see the last test.
UNIFORM = ["0016", "0018", "0069"]
UNIFORM_MANY = ["0000", "0001", "0003"]
POISSON = ["0003", "0004", "0005", "0016", "0021"]
ROUND_ROBIN = ["0003", "0015", "0019"]
MIN_SEPARATION = [["0000", "0006", "0015"], ["0003", "0002", "0020"]]


def ids(total):
    return [f"{k:04d}" for k in range(total)]


@pytest.mark.parametrize("cls", ALL)
@given(
    total=st.integers(1, 60),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**40),
    round_num=st.integers(0, 2**40),
)
@settings(max_examples=40, deadline=None)
def test_laws(cls, total, share, seed, round_num):
    wanted = max(1, round(share * total))
    sampler = cls(ids(total), wanted, seed)
    cohort = sampler.sample(round_num)
    assert isinstance(cohort, list)
    assert len(set(cohort)) == len(cohort)
    assert set(cohort) <= set(sampler.client_ids)
    if cls is not samplers.Poisson:
        assert len(cohort) == wanted
    # Pure: asked again, in another order, by a copy, the answer is the same.
    sampler.sample(round_num + 1)
    copy = cls.from_config(sampler.get_config())
    assert cohort == sampler.sample(round_num) == copy.sample(round_num)


@pytest.mark.parametrize("cls", ALL)
def test_seed_and_round_matter(cls):
    drawn = {
        tuple(cls(ids(100), 10, seed).sample(round_num))
        for seed in (0, 1)
        for round_num in (0, 1)
    }
    assert len(drawn) == 4


@pytest.mark.parametrize("cls", ALL)
def test_takes_a_data_set(cls):
    ds = FederatedDataset.from_clients({i: ([1.0], [1]) for i in ids(5)})
    sampler = cls(ds.select(["0003", "0001"]), 1)
    assert sampler.client_ids == ("0003", "0001")
    assert sampler.clients_per_round == 1
    assert repr(sampler) == (
        f"<{cls.__name__} of 2 clients: clients_per_round=1, seed=0>"
    )


@pytest.mark.parametrize("cls", ALL)
def test_errors(cls):
    for wanted in (0, 4, -1, float("nan")):
        with pytest.raises((ValueError, TypeError), match="clients_per_round"):
            cls(ids(3), wanted)
    with pytest.raises(ValueError, match=r"3 clients\. Expected 1 to 3"):
        cls(ids(3), 4)
    with pytest.raises(ValueError, match="no clients"):
        cls([], 1)
    with pytest.raises(ValueError, match="more than once"):
        cls(["a", "a"], 1)
    with pytest.raises(TypeError, match="single id"):
        cls("abc", 1)
    with pytest.raises(ValueError, match="round_num is -1"):
        cls(ids(3), 1).sample(-1)
    with pytest.raises(TypeError):
        cls(ids(3), 1).sample(0.5)


@pytest.mark.parametrize("cls", [samplers.Uniform, samplers.RoundRobin])
def test_whole_number_of_clients(cls):
    with pytest.raises(ValueError, match="a whole number"):
        cls(ids(3), 1.5)


# Both ways of drawing: by a permutation, and from a stream of ids.
@pytest.mark.statistical
@pytest.mark.parametrize(("total", "wanted"), [(6, 3), (10, 2)])
def test_uniform_gives_every_set_equally_often(total, wanted):
    sampler = samplers.Uniform(ids(total), wanted, seed=5)
    rounds = 4000
    counts = collections.Counter(
        frozenset(sampler.sample(r)) for r in range(rounds)
    )
    sets = math.comb(total, wanted)
    assert len(counts) == sets
    expected = rounds / sets
    statistic = sum((c - expected) ** 2 / expected for c in counts.values())
    # Chi squared has mean `sets - 1` and variance twice that; 5 standard
    # deviations are exceeded with probability below 1e-4 (seed is fixed).
    assert statistic < sets - 1 + 5 * math.sqrt(2 * (sets - 1))


@pytest.mark.statistical
def test_uniform_orders_are_uniform_too():
    sampler = samplers.Uniform(ids(10), 2, seed=1)
    first = collections.Counter(sampler.sample(r)[0] for r in range(4000))
    assert max(abs(n - 400) for n in first.values()) < 5 * math.sqrt(360)


@pytest.mark.statistical
def test_poisson_clients_are_independent():
    sampler = samplers.Poisson(ids(20), 5, seed=2)
    assert sampler.probability == 0.25
    rounds = 4000
    taken = np.zeros((rounds, 20))
    for r in range(rounds):
        taken[r, [int(i) for i in sampler.sample(r)]] = 1
    spread = math.sqrt(0.25 * 0.75 / rounds)
    assert np.abs(taken.mean(axis=0) - 0.25).max() < 5 * spread
    # The size has the variance of a binomial, where Uniform's has none.
    assert taken.sum(axis=1).var() == pytest.approx(20 * 0.25 * 0.75, rel=0.15)
    correlation = np.corrcoef(taken.T) - np.eye(20)
    assert np.abs(correlation).max() < 5 / math.sqrt(rounds)


def test_poisson_allows_a_fractional_mean_and_an_empty_round():
    sampler = samplers.Poisson(ids(4), 1.5)
    assert sampler.probability == 0.375
    assert [] in [sampler.sample(r) for r in range(100)]
    everyone = samplers.Poisson(ids(4), 4)
    assert everyone.sample(3) == ids(4)


@given(total=st.integers(1, 30), data=st.data())
@settings(max_examples=60, deadline=None)
def test_round_robin_is_fair_at_any_time(total, data):
    wanted = data.draw(st.integers(1, total))
    seed = data.draw(st.one_of(st.none(), st.integers(0, 9)))
    sampler = samplers.RoundRobin(ids(total), wanted, seed)
    turns = collections.Counter(dict.fromkeys(ids(total), 0))
    for r in range(12):
        turns.update(sampler.sample(r))
        assert max(turns.values()) - min(turns.values()) <= 1


def test_round_robin_without_a_seed_keeps_the_order():
    sampler = samplers.RoundRobin(["b", "a", "c"], 2, seed=None)
    assert sampler.sample(0) == ["b", "a"]
    assert sampler.sample(1) == ["c", "b"]
    assert samplers.RoundRobin(ids(50), 50).sample(0) != ids(50)


@given(
    separation=st.integers(1, 8),
    wanted=st.integers(1, 4),
    spare=st.integers(0, 20),
    seed=st.integers(0, 2**40),
    start=st.integers(0, 2**40),
)
@settings(max_examples=60, deadline=None)
def test_min_separation_keeps_its_distance(
    separation, wanted, spare, seed, start
):
    clients = ids(separation * wanted + spare)
    sampler = samplers.MinSeparation(clients, wanted, separation, seed)
    copy = samplers.MinSeparation.from_config(sampler.get_config())
    last = {}
    # From any round on: nothing has to be replayed.
    for r in range(start, start + 3 * separation):
        cohort = sampler.sample(r)
        assert len(cohort) == len(set(cohort)) == wanted
        assert set(cohort) <= set(clients)
        for client_id in cohort:
            assert r - last.get(client_id, -separation) >= separation
            last[client_id] = r
        assert cohort == sampler.sample(r) == copy.sample(r)


def test_min_separation_errors():
    make = samplers.MinSeparation
    assert len(make(ids(12), 4, 3).sample(0)) == 4
    with pytest.raises(ValueError, match=r"need 12 clients, .* are 11.* 3 or"):
        make(ids(11), 4, 3)
    for separation in (0, -1):
        with pytest.raises(ValueError, match="`min_separation` must be"):
            make(ids(5), 1, separation)
    with pytest.raises(ValueError, match=r"`min_separation` must .*1\.5"):
        make(ids(5), 1, 1.5)
    with pytest.raises(ValueError, match="`clients_per_round` must be"):
        make(ids(5), 1.5, 1)
    with pytest.raises(ValueError, match="6, but there are 5 clients"):
        make(ids(5), 6, 1)


def test_min_separation_shows_its_arguments():
    sampler = samplers.MinSeparation(ids(6), 2, 3, seed=4)
    assert repr(sampler) == (
        "<MinSeparation of 6 clients: clients_per_round=2, "
        "min_separation=3, seed=4>"
    )
    # Groups, rounds and seeds differ.
    many = [
        tuple(samplers.MinSeparation(ids(100), 10, 2, seed).sample(r))
        for seed in (0, 1)
        for r in range(4)
    ]
    assert len(set(many)) == 8


@pytest.mark.statistical
def test_min_separation_draws_uniformly():
    rounds = 6000
    # With a separation of 1 it is uniform over all sets; chi squared has mean
    # 14 and variance 28, and passes 14 + 5 deviations in 3e-4 of seeds.
    counts = collections.Counter(
        frozenset(samplers.MinSeparation(ids(6), 2, 1, seed=3).sample(r))
        for r in range(rounds)
    )
    assert len(counts) == 15
    expected = rounds / 15
    statistic = sum((c - expected) ** 2 / expected for c in counts.values())
    assert statistic < 14 + 5 * math.sqrt(28)
    # Within its group each client is drawn as often as the others: of 3 in
    # 6,000 / 2 rounds, 1,000 +- 26 times; six of them, 6 * 6e-7.
    sampler = samplers.MinSeparation(ids(6), 1, 2, seed=1)
    turns = collections.Counter(sampler.sample(r)[0] for r in range(rounds))
    assert max(abs(n - 1000) for n in turns.values()) < 5 * 26
    # Over seeds each client is as likely to be in the first group.
    first = collections.Counter(
        client_id
        for seed in range(2000)
        for client_id in samplers.MinSeparation(ids(6), 3, 2, seed).sample(0)
    )
    assert max(abs(n - 1000) for n in first.values()) < 5 * 23


def test_drawn_cohorts_are_those_of_earlier_versions():
    # A resumed run must draw what the run before an upgrade would have.
    assert samplers.Uniform(ids(100), 3).sample(7) == UNIFORM
    assert samplers.Uniform(ids(5), 3).sample(7) == UNIFORM_MANY
    assert samplers.Poisson(ids(30), 3).sample(7) == POISSON
    assert samplers.RoundRobin(ids(30), 3).sample(7) == ROUND_ROBIN
    sampler = samplers.MinSeparation(ids(30), 3, 4)
    assert [sampler.sample(r) for r in (7, 8)] == MIN_SEPARATION


@given(
    total=st.integers(1, 60),
    share=st.floats(0, 1),
    round_num=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_candidates_begin_with_the_sample(total, share, round_num):
    wanted = max(1, round(share * total))
    given_ = ids(total)
    for sampler in (
        samplers.Uniform(given_, wanted),
        samplers.MinSeparation(given_, wanted, total // wanted),
        samplers.RoundRobin(given_, wanted),
    ):
        found = list(sampler.candidates(round_num))
        assert found[:wanted] == sampler.sample(round_num)
        assert len(set(found)) == len(found)
    assert set(samplers.Uniform(given_, wanted).candidates(0)) == set(given_)
    assert found == sampler.sample(round_num)  # round robin: nobody else
    # Whoever isn't in a group isn't in its rounds, reached or not.
    separated = samplers.MinSeparation(given_, 1, total)
    rounds = [list(separated.candidates(r)) for r in range(total)]
    assert sorted(i for one in rounds for i in one) == given_


def test_who_draws_otherwise_has_other_candidates():
    class First(samplers.Uniform):
        def _sample(self, round_num):
            return [0]

    assert list(First(ids(5), 1).candidates(3)) == ["0000"]
