import functools
import logging
import math

import dp_accounting as dp
import pytest
from dp_accounting import pld, rdp

from fedlearn import privacy

pytestmark = pytest.mark.backend_free

PLAN = {
    "rounds": 1000,
    "delta": 1e-5,
    "population": 10_000,
    "clients_per_round": 100,
}
SMALL = {
    "rounds": 7,
    "delta": 1e-3,
    "population": 50,
    "clients_per_round": 10,
    "noise_multiplier": 2.0,
}
Relation = dp.NeighboringRelation


def direct(make, relation, event, times=7, delta=1e-3):
    accountant = make(neighboring_relation=relation)
    return accountant.compose(event, times).get_epsilon(delta)


def test_published_figures():
    fast = privacy.compute_epsilon(
        noise_multiplier=1.0, accountant="rdp", **PLAN
    )
    assert fast == pytest.approx(2.1014, abs=5e-5)
    tight = privacy.compute_epsilon(noise_multiplier=1.0, **PLAN)
    assert tight == pytest.approx(1.8282, abs=5e-5)


@pytest.mark.parametrize(
    ("accountant", "make"),
    [("rdp", rdp.RdpAccountant), ("pld", pld.PLDAccountant)],
)
def test_equals_dp_accounting(accountant, make):
    # Without sampling PLD has a closed form, which differs in what its points
    # round up: the ninth digit.
    near = functools.partial(pytest.approx, rel=1e-7)
    gaussian = dp.GaussianDpEvent(2.0)
    poisson = privacy.compute_epsilon(accountant=accountant, **SMALL)
    event = dp.PoissonSampledDpEvent(0.2, gaussian)
    assert poisson == direct(make, Relation.ADD_OR_REMOVE_ONE, event)

    full = SMALL | {"clients_per_round": 50, "sampler": "full"}
    everyone = privacy.compute_epsilon(accountant=accountant, **full)
    assert everyone == near(direct(make, Relation.ADD_OR_REMOVE_ONE, gaussian))

    # 7 * 10 turns of 50 clients: some take part twice.
    turns = privacy.compute_epsilon(
        accountant=accountant, sampler="round_robin", **SMALL
    )
    assert turns == near(
        direct(make, Relation.REPLACE_SPECIAL, gaussian, times=2)
    )

    # Rounds 0, 3 and 6.
    separated = privacy.compute_epsilon(
        accountant=accountant,
        sampler="min_separation",
        min_separation=3,
        **SMALL,
    )
    expected = direct(make, Relation.REPLACE_SPECIAL, gaussian, times=3)
    assert separated == near(expected)
    assert poisson < separated < everyone


def test_uniform_sampling_equals_dp_accounting():
    found = privacy.compute_epsilon(
        accountant="rdp", sampler="uniform", **SMALL
    )
    # A replacement moves the sum by twice the clip norm.
    event = dp.SampledWithoutReplacementDpEvent(50, 10, dp.GaussianDpEvent(1.0))
    assert found == direct(rdp.RdpAccountant, Relation.REPLACE_ONE, event)


def test_uniform_sampling_is_an_upper_bound():
    # When everyone is drawn, PLD knows the exact epsilon of a replacement,
    # which the multiplier as it is would fall short of.
    everyone = SMALL | {"clients_per_round": 50}
    found = privacy.compute_epsilon(
        accountant="rdp", sampler="uniform", **everyone
    )
    exact = direct(
        pld.PLDAccountant, Relation.REPLACE_ONE, dp.GaussianDpEvent(2.0)
    )
    assert exact < found < 1.3 * exact


def test_pld_refuses_uniform_sampling():
    with pytest.raises(ValueError, match=r'doesn\'t support uniform.*"rdp"'):
        privacy.compute_epsilon(sampler="uniform", accountant="pld", **SMALL)
    by_rdp = privacy.compute_epsilon(
        sampler="uniform", accountant="rdp", **SMALL
    )
    assert privacy.compute_epsilon(sampler="uniform", **SMALL) == by_rdp


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"sampler": "round_robin"},
        {"mechanism": privacy.Tree},
        {"mechanism": lambda z: privacy.BandedMatrix(z, [1.0])},
    ],
)
def test_no_noise_and_no_rounds(accountant, extra):
    silent = SMALL | {"noise_multiplier": 0.0}
    spent = privacy.compute_epsilon(accountant=accountant, **silent, **extra)
    assert spent == math.inf
    idle = SMALL | {"rounds": 0}
    assert privacy.compute_epsilon(accountant=accountant, **idle, **extra) == 0


def test_more_costs_more():
    def spent(**changes):
        return privacy.compute_epsilon(accountant="rdp", **SMALL | changes)

    assert spent(rounds=8) > spent()
    assert spent(noise_multiplier=2.1) < spent()
    assert spent(clients_per_round=11) > spent()
    assert spent(delta=1e-4) > spent()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"delta": 0.0}, r"`delta` .* 0\.0"),
        ({"delta": 1}, "`delta` .* 1"),
        ({"delta": float("nan")}, "`delta` .* nan"),
        ({"noise_multiplier": -1.0}, r"`noise_multiplier` .*-1\.0"),
        ({"noise_multiplier": float("nan")}, r"`noise_multiplier` .*nan"),
        ({"clients_per_round": 51}, "51, but the population has 50"),
        ({"clients_per_round": 0}, "Expected above 0"),
        ({"population": 0}, "`population` must be a whole"),
        ({"rounds": -1}, "`rounds` must be a whole"),
        ({"rounds": 1.5}, "`rounds` must be a whole"),
        ({"sampler": "magic"}, "'magic', which has no accounting.*'uniform'"),
        ({"accountant": "moments"}, "`accountant` .* 'moments'"),
        ({"sampler": "full"}, "all of the 50 clients take part"),
        ({"min_separation": 2}, "and only then"),
        ({"sampler": "min_separation"}, "Give min_separation"),
        ({"sampler": "min_separation", "min_separation": 6}, "need 60"),
        ({"sampler": "min_separation", "min_separation": 0}, "of at least 1"),
    ],
)
def test_errors(changes, match):
    with pytest.raises(ValueError, match=match):
        privacy.compute_epsilon(**SMALL | changes)


def test_numbers_of_clients_are_whole():
    with pytest.raises(ValueError, match=r"`population` must be a whole"):
        privacy.compute_epsilon(**SMALL | {"population": 50.5})
    with pytest.raises(ValueError, match=r"`clients_per_round` must be a wh"):
        privacy.compute_epsilon(
            sampler="round_robin", **SMALL | {"clients_per_round": 2.5}
        )
    # On average it may be any number.
    some = SMALL | {"clients_per_round": 2.5, "accountant": "rdp"}
    assert privacy.compute_epsilon(**some) > 0


def test_orders_that_are_left_out_are_no_news(caplog):
    def spent(population):
        return privacy.compute_epsilon(
            noise_multiplier=1.0,
            rounds=10,
            delta=1e-5,
            population=population,
            clients_per_round=90,
            accountant="rdp",
        )

    found = spent(100)
    assert not caplog.records
    # Of the orders that are left there is an upper bound still.
    event = dp.PoissonSampledDpEvent(0.9, dp.GaussianDpEvent(1.0))
    relation = Relation.ADD_OR_REMOVE_ONE
    assert found == direct(rdp.RdpAccountant, relation, event, 10, 1e-5)
    assert any("Excluding this order" in r.message for r in caplog.records)
    assert spent(91) < spent(90)


def test_other_warnings_come_through(caplog, monkeypatch):
    def compose(self, event, count):
        logging.getLogger("absl").warning("Something else.")
        return self

    monkeypatch.setattr(rdp.RdpAccountant, "compose", compose)
    privacy.compute_epsilon(accountant="rdp", **SMALL)
    assert [r.message for r in caplog.records] == ["Something else."]


def test_a_divergence_below_zero_is_not_an_epsilon_of_zero(monkeypatch):
    class Rounded(rdp.RdpAccountant):
        def compose(self, event, count):
            super().compose(event, count)
            self._rdp[10:] = -1e-3
            return self

    expected = privacy.compute_epsilon(accountant="rdp", **SMALL)
    monkeypatch.setattr(rdp, "RdpAccountant", Rounded)
    assert privacy.compute_epsilon(accountant="rdp", **SMALL) >= expected
