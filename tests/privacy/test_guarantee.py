import collections
import subprocess
import sys

import dp_accounting as dp
import pytest
from dp_accounting import rdp

from fedlearn import privacy, samplers

pytestmark = pytest.mark.backend_free

IDS = [str(k) for k in range(50)]
ALL = [
    samplers.Poisson(IDS, 10),
    samplers.Uniform(IDS, 10),
    samplers.RoundRobin(IDS, 10),
    samplers.RoundRobin(IDS, 8),
    samplers.MinSeparation(IDS, 10, 3),
]


@pytest.mark.parametrize("sampler", ALL, ids=repr)
def test_sampler_and_plan_agree(sampler):
    name = {
        samplers.Poisson: "poisson",
        samplers.Uniform: "uniform",
        samplers.RoundRobin: "round_robin",
        samplers.MinSeparation: "min_separation",
    }[type(sampler)]
    guarantee = privacy.Guarantee(privacy.Gaussian(2.0), sampler, delta=1e-3)
    planned = privacy.compute_epsilon(
        noise_multiplier=2.0,
        rounds=7,
        delta=1e-3,
        population=50,
        clients_per_round=sampler.clients_per_round,
        sampler=name,
        min_separation=getattr(sampler, "min_separation", None),
        accountant="rdp",
    )
    assert guarantee.epsilon(7) == planned


@pytest.mark.parametrize("sampler", ALL, ids=repr)
def test_samplers_keep_to_their_participation(sampler):
    participation = sampler.participation
    turns, last = collections.Counter(), {}
    for t in range(40):
        for client_id in sampler.sample(t):
            gap = t - last.get(client_id, -50)
            assert gap >= participation.min_separation
            last[client_id] = t
            turns[client_id] += 1
        allowed = participation.max_participations(t + 1)
        assert max(turns.values()) <= allowed
        if isinstance(sampler, samplers.RoundRobin):
            assert max(turns.values()) == allowed


def test_dp_events_of_samplers():
    gaussian = dp.GaussianDpEvent(2.0)
    poisson, uniform, turns, _, separated = (
        sampler.participation.compose(gaussian, 7).dp_event() for sampler in ALL
    )
    assert poisson == dp.SelfComposedDpEvent(
        dp.PoissonSampledDpEvent(0.2, gaussian), 7
    )
    halved = dp.GaussianDpEvent(1.0)
    assert uniform == dp.SelfComposedDpEvent(
        dp.SampledWithoutReplacementDpEvent(50, 10, halved), 7
    )
    assert turns == dp.SelfComposedDpEvent(gaussian, 2)
    assert separated == dp.SelfComposedDpEvent(gaussian, 3)


class FirstComers(samplers.Sampler):
    def _sample(self, round_num):
        return list(range(self.clients_per_round))

    def get_config(self):
        return {"clients_per_round": self.clients_per_round}


class LuckyPoisson(samplers.Poisson):
    def _sample(self, round_num):
        return [0, *super()._sample(round_num)]


class CarefulComers(FirstComers):
    @property
    def participation(self):
        return privacy.Participation(
            "min_separation", len(self.client_ids), self.clients_per_round, 1
        )


class RenamedPoisson(samplers.Poisson):
    pass


@pytest.mark.parametrize("cls", [FirstComers, LuckyPoisson])
def test_a_sampler_that_draws_in_its_own_way_has_no_accounting(cls):
    with pytest.raises(NotImplementedError, match=rf"{cls.__name__} has no"):
        privacy.Guarantee(privacy.Gaussian(1.0), cls(IDS, 5))


def test_a_sampler_may_say_its_own_participation():
    guarantee = privacy.Guarantee(privacy.Gaussian(1.0), CarefulComers(IDS, 5))
    assert guarantee.statement(3, "rdp").neighbouring == "zero-out"
    same = privacy.Guarantee(privacy.Gaussian(1.0), RenamedPoisson(IDS, 5))
    assert same.participation == privacy.Participation("poisson", 50, 5)


def test_live_epsilon_is_a_function_of_the_round():
    def fresh():
        return privacy.Guarantee(privacy.Gaussian(1.0), ALL[0], delta=1e-3)

    run = fresh()
    live = [run.epsilon(t) for t in range(1, 6)]
    assert live == sorted(live)
    assert [fresh().epsilon(t) for t in range(1, 6)] == live
    assert [run.epsilon(t) for t in (5, 2)] == [live[4], live[1]]
    accountant = rdp.RdpAccountant()
    event = dp.PoissonSampledDpEvent(0.2, dp.GaussianDpEvent(1.0))
    accountant.compose(event, 5)
    assert live[-1] == accountant.get_epsilon(1e-3)


def test_a_round_is_accounted_for_once(monkeypatch):
    made = []

    class Counting(rdp.RdpAccountant):
        def __init__(self, *args, **kwargs):
            made.append(1)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(rdp, "RdpAccountant", Counting)
    guarantee = privacy.Guarantee(privacy.Gaussian(1.0), ALL[0])
    for t in range(1, 20):
        guarantee.epsilon(t)
    assert len(made) == 1


def test_delta():
    guarantee = privacy.Guarantee(privacy.Gaussian(1.0), ALL[0])
    assert guarantee.delta == pytest.approx(50**-1.1)
    with pytest.raises(ValueError, match=r"`delta` .* 0"):
        privacy.Guarantee(privacy.Gaussian(1.0), ALL[0], delta=0)
    with pytest.raises(ValueError, match=r"`delta` .* 3"):
        guarantee.epsilon(1, delta=3)
    assert guarantee.epsilon(1, delta=1e-6) > guarantee.epsilon(1)
    assert guarantee.statement(1, "rdp", delta=1e-6).delta == 1e-6


def test_everyone():
    everyone = privacy.Participation("full", 5)
    assert everyone == privacy.Participation("full", 5, 5)
    assert everyone.compose("event", 3).times == 3
    with pytest.raises(ValueError, match="all of the 5"):
        privacy.Participation("full", 5, 4)


def test_imports_dp_accounting_only_where_it_is_used():
    code = (
        "import sys; from fedlearn import privacy, samplers; "
        "s = samplers.Poisson('a b c'.split(), 1); "
        "g = privacy.Guarantee(privacy.Gaussian(1.0), s, 0.1); "
        "print([m for m in ('dp_accounting', 'scipy', 'keras', 'tensorflow') "
        "if m in sys.modules])\n"
        "sys.modules['dp_accounting'] = None\n"
        "try: g.epsilon(1)\n"
        "except ImportError as e: print(e)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert out[0] == "[]"
    assert "pip install dp-accounting" in out[1]
