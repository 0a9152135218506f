"""A plan, and the run that it makes."""

import pytest

import fedlearn as fl
from fedlearn import privacy
from tests import zoo

PLAN = {"rounds": 3, "population": 20, "clients_per_round": 5, "delta": 1e-2}
IDS = [f"{i:02d}" for i in range(20)]


@pytest.mark.backend_free
def test_a_plan_makes_the_run_that_it_describes():
    model = zoo.regression()
    plan = privacy.plan(epsilon=4.0, clip_norm=0.5, model=model, **PLAN)
    process = fl.FederatedAveraging(
        model,
        client=fl.LocalTraining(batch_size=4),
        aggregator=plan.aggregator(),
        privacy=plan.privacy(),
        executor="sequential",
    )
    data = {i: zoo.line(4, seed=k) for k, i in enumerate(IDS)}
    history = process.fit(data, 3, sampler=plan.sampler(IDS, seed=1), verbose=0)
    logs = history.history
    assert logs["epsilon"][-1] == pytest.approx(plan.epsilon_rdp, rel=1e-6)
    assert history.privacy == plan.best
    assert 4.0 * 0.999 < plan.epsilon <= 4.0
    assert logs["bytes_up"][0] == pytest.approx(
        logs["num_clients"][0] * plan.bytes_up, rel=0.3
    )
    assert plan.bytes_down == logs["bytes_down"][0] / logs["num_clients"][0]


def test_a_plan_is_a_table():
    told = str(privacy.plan(noise_multiplier=1.0, **PLAN))
    lines = dict(line.split("  ", 1) for line in told.splitlines())
    assert lines["rounds"].strip() == "3"
    assert "on average 5 (poisson)" in lines["clients per round"]
    expected = privacy.compute_epsilon(
        noise_multiplier=1.0, accountant="rdp", **PLAN
    )
    assert lines["epsilon by RDP"].strip() == f"{expected:.4g}"
    assert float(lines["epsilon by PLD"]) < expected


def test_where_pld_cannot_be_had_the_table_says_so():
    for changes in ({"noise_multiplier": 1e-4}, {"sampler": "uniform"}):
        plan = privacy.plan(**{"noise_multiplier": 1.0} | PLAN | changes)
        assert plan.best.accountant == "rdp"
        assert plan.epsilon == plan.epsilon_rdp
        assert "not to be had" in str(plan)


@pytest.mark.parametrize(
    "arguments",
    [
        {"sampler": "uniform"},
        {"sampler": "round_robin"},
        {"sampler": "min_separation", "min_separation": 4},
        {"clients_per_round": None},
    ],
)
def test_every_sampler_has_its_plan(arguments):
    plan = privacy.plan(noise_multiplier=1.0, **PLAN | arguments)
    sampler = plan.sampler(IDS)
    drawn = privacy.Participation("full", 20) if sampler is None else sampler
    guarantee = privacy.Guarantee(plan.aggregator().dp_event(), drawn, 1e-2)
    assert guarantee.epsilon(3) == pytest.approx(plan.epsilon_rdp, rel=1e-9)


def test_a_plan_is_for_its_population_only():
    plan = privacy.plan(noise_multiplier=1.0, **PLAN)
    with pytest.raises(ValueError, match="for 20 clients, and there are 19"):
        plan.sampler(IDS[1:])
    with pytest.raises(ValueError, match="either `epsilon`"):
        privacy.plan(**PLAN)


def test_private_mean_names_the_way_to_an_epsilon():
    with pytest.raises(TypeError, match=r"fl.privacy.plan\(epsilon=8, rounds"):
        fl.aggregators.PrivateMean(epsilon=3, clients_per_round=5)
    with pytest.raises(TypeError, match="needs noise"):
        fl.aggregators.PrivateMean(clients_per_round=5)
    with pytest.raises(TypeError, match="argument 'noise'"):
        fl.aggregators.PrivateMean(noise=3, clients_per_round=5)
