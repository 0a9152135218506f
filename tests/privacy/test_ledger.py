"""That a ledger adds up as dp-accounting does, and refuses in time."""

import contextlib
import threading

import dp_accounting as dp
import keras
import numpy as np
import pytest
from dp_accounting import pld, rdp

import fedlearn as fl
from fedlearn.privacy import (
    Composition,
    Gaussian,
    Ledger,
    Participation,
    SharedNoise,
)

pytestmark = pytest.mark.backend_free

DELTA = 1e-6


def full(noise):
    return Gaussian(noise).compose(Participation("full", 10), 1)


def sampled(noise, rounds, sampler="poisson"):
    return Gaussian(noise).compose(Participation(sampler, 1000, 50), rounds)


def charged(*released):
    ledger = Ledger(100.0, DELTA)
    for one in released:
        ledger.charge(one)
    return ledger.spent


def test_gaussians_add_up_to_one_gaussian():
    # z**-2 adds up: 3 and 4 make 2.4 (Balle and Wang 2018 for its epsilon).
    found = charged(full(3.0), full(4.0))
    assert found == pytest.approx(dp.get_epsilon_gaussian(2.4, DELTA), rel=1e-9)
    assert found < charged(full(3.0)) + charged(full(4.0))


def test_a_training_run_and_queries_add_up_as_dp_accounting_composes_them():
    accountant = pld.PLDAccountant()
    event = dp.PoissonSampledDpEvent(0.05, dp.GaussianDpEvent(1.0))
    accountant.compose(event, 100).compose(dp.GaussianDpEvent(5.0), 3)
    found = charged(sampled(1.0, 100), *[full(5.0)] * 3)
    assert found == pytest.approx(accountant.get_epsilon(DELTA), rel=2e-3)


def test_noise_known_by_its_renyi_divergence_only():
    accountant = rdp.RdpAccountant(
        orders=[*range(2, 129), 160, 192, 256, 512, 1024]
    )
    accountant.compose(dp.ZCDpEvent(rho=0.01, xi=0.0), 5)
    accountant.compose(dp.GaussianDpEvent(5.0))
    shared = SharedNoise(0.01, 0.0, 10, "noise").compose(
        Participation("full", 10), 5
    )
    expected = accountant.get_epsilon(DELTA)
    assert charged(shared, full(5.0)) == pytest.approx(expected, rel=1e-9)


def test_other_neighbours_share_the_delta():
    one, other = sampled(1.0, 20, "uniform"), full(5.0)
    halves = [Ledger(100.0, DELTA / 2) for _ in range(2)]
    halves[0].charge(one)
    halves[1].charge(other)
    assert charged(one, other) == pytest.approx(sum(h.spent for h in halves))


def test_epsilons_of_other_things_add_up_and_take_their_delta():
    rest = Ledger(100.0, DELTA / 2)
    rest.charge(full(5.0))
    found = charged(full(5.0), (0.3, DELTA / 2))
    assert found == pytest.approx(0.3 + rest.spent, rel=1e-12)
    with pytest.raises(ValueError, match="to inf at delta"):
        charged((0.3, DELTA), full(5.0))
    with pytest.raises(ValueError, match="to inf at delta"):
        charged((0.3, DELTA), (0.1, DELTA / 100))


def test_a_budget_s_delta_may_be_spent_whole_and_its_epsilon_no_further():
    assert charged(*[(0.1, DELTA / 3)] * 3) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="past the budget of 2"):
        Ledger(2.0, DELTA).charge((2.00001, 0.0))


def test_a_plan_is_charged_by_what_it_releases_and_not_by_its_epsilon():
    plan = fl.privacy.plan(
        epsilon=1.0, rounds=100, population=1000, clients_per_round=50,
        delta=1e-5, accountant="rdp",
    )  # fmt: skip
    accountant = pld.PLDAccountant()
    event = dp.GaussianDpEvent(plan.noise_multiplier)
    accountant.compose(dp.PoissonSampledDpEvent(0.05, event), 100)
    expected = accountant.get_epsilon(DELTA)
    assert charged(plan.best) == pytest.approx(expected, rel=2e-3)


def test_a_history_is_charged_with_its_rounds_and_sampling():
    rng = np.random.default_rng(0)
    data = {str(i): (rng.normal(size=(2, 3)), np.zeros(2)) for i in range(20)}
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    process = fl.FederatedAveraging(
        model,
        aggregator=fl.aggregators.PrivateMean(
            1.0, noise_multiplier=2.0, clients_per_round=5
        ),
        privacy=fl.privacy.Privacy(delta=1e-3),
    )
    history = process.fit(data, rounds=3, clients_per_round=5, verbose=0)
    event = dp.PoissonSampledDpEvent(0.25, dp.GaussianDpEvent(2.0))
    expected = pld.PLDAccountant().compose(event, 3).get_epsilon(DELTA)
    assert charged(history.privacy) == pytest.approx(expected, rel=2e-3)


def test_refuses_past_the_budget_and_charges_nothing():
    ledger = Ledger(epsilon=2.0, delta=DELTA)
    ledger.charge(full(4.0), name="the first query")
    spent = ledger.spent
    with pytest.raises(ValueError, match=r"The second would bring epsilon to "):
        ledger.charge(full(2.5), name="The second")
    assert ledger.spent == spent
    assert "is spent: the first query" in str(ledger)


def test_two_threads_cant_spend_the_same_rest(monkeypatch):
    both, epsilon = threading.Barrier(2), Ledger._epsilon

    def both_at_once(self, *args, **kwargs):
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.3)
        return epsilon(self, *args, **kwargs)

    monkeypatch.setattr(Ledger, "_epsilon", both_at_once)
    ledger, refused = Ledger(2.0, DELTA), []

    def charge():
        try:
            ledger.charge((1.5, 0.0))
        except ValueError as error:
            refused.append(error)

    threads = [threading.Thread(target=charge) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(ledger.entries), len(refused)) == (1, 1)


@pytest.mark.parametrize("first", [(), (full(4.0),), (sampled(2.0, 20),)])
def test_what_remains_fits_and_a_bit_more_does_not(first):
    ledger = Ledger(epsilon=2.0, delta=DELTA)
    for one in first:
        ledger.charge(one)
    remaining = ledger.remaining
    more = {"rounds": 1, "delta": DELTA, "population": 9}
    for asked in (remaining, 1.1 * remaining):
        noise = fl.privacy.calibrate_noise_multiplier(
            epsilon=asked, clients_per_round=9, sampler="full", **more
        )
        if asked > remaining:
            with pytest.raises(ValueError, match="past the budget"):
                ledger.charge(full(noise))
        else:
            ledger.charge(full(noise))
    assert ledger.remaining < 0.1


def test_without_noise_nothing_fits():
    with pytest.raises(ValueError, match="to inf"):
        Ledger(2.0, DELTA).charge(
            Composition(dp.NonPrivateDpEvent(), 1, "zero-out")
        )


def test_what_it_can_be_charged_with():
    ledger = Ledger(2.0, DELTA)
    with pytest.raises(TypeError, match=r"such as `history.privacy`"):
        ledger.charge(0.5)
    with pytest.raises(ValueError, match="`epsilon` must be"):
        ledger.charge((-0.5, 0.0))
    ledger.charge(full(0.7)._replace(times=0))
    assert ledger.spent == 0.0
