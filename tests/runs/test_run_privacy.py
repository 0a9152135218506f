"""A private run is the one that its noise was planned for."""

import pytest

import fedlearn as fl
from fedlearn import privacy
from fedlearn.aggregators import Mean, PrivateMean, SecureSum
from fedlearn.encoders import (
    BandedMatrixNoise,
    Clip,
    GaussianNoise,
    Skellam,
)
from fedlearn.samplers import MinSeparation, Poisson, RoundRobin
from tests import zoo

IDS = [f"{i:02d}" for i in range(20)]
DATA = {i: zoo.line(4, seed=k) for k, i in enumerate(IDS)}


def made(aggregator, **terms):
    return fl.FederatedAveraging(
        zoo.regression(),
        client=fl.LocalTraining(batch_size=4),
        aggregator=aggregator,
        executor="sequential",
        privacy=privacy.Privacy(**terms),
    )


def run(aggregator, data=DATA, terms=(), **arguments):
    arguments = {"verbose": 0, "clients_per_round": 5} | arguments
    return made(aggregator, **dict(terms)).fit(data, 3, **arguments)


# Epsilons are counted on the host.
# That of PLD is in a plan, in tests/privacy/test_plan.py.
@pytest.mark.backend_free
def test_the_planned_epsilon_is_the_real_one():
    plan = dict(rounds=3, delta=1e-2, population=20, clients_per_round=5)
    multiplier = privacy.calibrate_noise_multiplier(
        epsilon=4.0, accountant="rdp", **plan
    )
    aggregator = PrivateMean(
        1.0, noise_multiplier=multiplier, clients_per_round=5
    )
    history = run(aggregator, terms={"delta": 1e-2})
    assert 4.0 * 0.999 < history.history["epsilon"][-1] <= 4.0
    assert "Poisson sampling of 5 in 20" in history.privacy.sampling


def test_it_says_once_who_takes_part(capsys):
    run(PrivateMean(1.0, noise_multiplier=1.0, clients_per_round=5), verbose=2)
    said = capsys.readouterr().out
    assert said.count("by its own coin") == 1


def test_a_delta_that_nobody_gave_is_told(capsys):
    plan = privacy.plan(
        noise_multiplier=1.0,
        rounds=3,
        population=20,
        clients_per_round=5,
        delta=1e-3,
        clip_norm=1.0,
    )
    run(plan.aggregator(), verbose=2)
    said = capsys.readouterr().out
    assert f"at delta {20**-1.1:.3g}, as nobody gave one" in said
    assert "privacy=plan.privacy()" in said
    run(plan.aggregator(), terms={"delta": plan.delta}, verbose=2)
    said = capsys.readouterr().out
    assert "nobody gave one" not in said
    assert "at delta 0.001" in said


def test_a_sampler_that_is_given_keeps_its_own_accounting():
    sampler = fl.samplers.Uniform(IDS, 5)
    history = run(
        PrivateMean(1.0, noise_multiplier=1.0, clients_per_round=5),
        sampler=sampler,
        clients_per_round=None,
    )
    assert history.history["num_clients"] == [5, 5, 5]
    assert "exactly 5 in 20" in history.privacy.sampling


@pytest.mark.parametrize(
    "aggregator",
    [
        lambda: Mean([Skellam(1.0, 1.0, 5)], "uniform", 5.0),
        lambda: SecureSum([Clip(1.0), GaussianNoise(1.0)], clients_per_round=5),
        lambda: Mean(),
    ],
    ids=["shared", "modular", "without"],
)
def test_where_rounds_need_a_size_they_have_it(aggregator):
    assert run(aggregator()).history["num_clients"] == [5, 5, 5]


def test_everyone_by_a_coin_is_everyone():
    history = run(
        PrivateMean(1.0, noise_multiplier=1.0, clients_per_round=20),
        clients_per_round=20,
    )
    assert history.history["num_clients"] == [20, 20, 20]
    expected = privacy.compute_epsilon(
        noise_multiplier=1.0,
        rounds=3,
        delta=20**-1.1,
        population=20,
        clients_per_round=20,
        sampler="full",
        accountant="rdp",
    )
    assert history.history["epsilon"][-1] == pytest.approx(expected, rel=1e-6)


def test_private_metrics_are_not_logged_by_validating_on_the_same_clients():
    def fit(*data, **arguments):
        noise = PrivateMean(1.0, noise_multiplier=1.0, clients_per_round=5)
        terms = {"private_metrics": True}
        return run(noise, *data, terms=terms, **arguments)

    some = {"07": DATA["07"], "new": zoo.line(4)}
    with pytest.raises(ValueError, match=r"'07' \(1 of 2\)"):
        fit(validation_data=some)
    history = fit(validation_data={"new": zoo.line(4)})
    assert "val_loss" in history.history
    assert "loss" not in history.history
    # A list has no ids, and one client's pair is a pooled one: by arrays.
    with pytest.raises(ValueError, match=r"\(1 of 2\)"):
        fit(validation_data=[zoo.line(4), DATA["07"]])
    with pytest.raises(ValueError, match=r"\(1 of 1\)"):
        fit(validation_data=DATA["07"])
    numbered = dict(enumerate(DATA.values()))
    with pytest.raises(ValueError, match=r"'0' \(20 of 20\)"):
        fit(numbered, validation_data=numbered)
    with pytest.raises(ValueError, match=r"\(20 of 20\)"):
        fit([*DATA.values()], validation_data=[*DATA.values()])
    # That clients have the same numbers doesn't make them the same.
    others = [zoo.line(4) for _ in DATA]
    fit([*DATA.values()], validation_data=others)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (MinSeparation(IDS, 2, 1), MinSeparation(IDS, 2, 5)),
        # Another seed divides clients into other groups: one that had its
        # turn in round 3 may come again in round 4.
        (MinSeparation(IDS, 2, 5, seed=1), MinSeparation(IDS, 2, 5, seed=2)),
        (RoundRobin(IDS, 2, seed=1), RoundRobin(IDS, 2, seed=2)),
        (RoundRobin(IDS, 2, seed=None), RoundRobin(IDS[::-1], 2, seed=None)),
    ],
)
def test_a_second_fit_cant_shorten_the_turns_of_the_first(first, second):
    noise = Mean(
        [Clip(1.0), BandedMatrixNoise(1.0, bands=2)],
        weighting="uniform",
        denominator=2,
    )
    process = made(noise)
    fit = {"verbose": 0, "data": DATA, "rounds": 3}
    process.fit(**fit, sampler=first)
    with pytest.raises(ValueError, match=r"other (sampling|clients)"):
        process.fit(**fit, sampler=second)
    process.fit(**fit, sampler=first)


def test_a_second_fit_may_draw_by_another_seed_where_rounds_are_independent():
    process = made(PrivateMean(1.0, noise_multiplier=1.0, clients_per_round=5))
    for seed in (1, 2):
        sampler = Poisson(DATA, 5, seed=seed)
        history = process.fit(DATA, 2, sampler=sampler, verbose=0)
    assert history.privacy.rounds == 4


# Epsilons are counted on the host.
@pytest.mark.backend_free
def test_a_second_fit_counts_the_steps_that_the_first_really_took():
    def fit(process, data, seed):
        sampler = fl.samplers.Uniform(data, 2, seed=seed)
        return process.fit(data, 3, sampler=sampler, verbose=0)

    def fresh():
        dp = fl.clients.ExampleDP(1.0, 1.0)
        process = fl.FederatedAveraging(
            zoo.regression(),
            fl.LocalTraining(batch_size=2, dp=dp),
            privacy=privacy.Privacy(delta=1e-2),
        )
        fit(process, some, 1)
        return process

    some = {i: DATA[i] for i in IDS[:4]}
    # Of the first three rounds the second sampler would name others.
    with pytest.raises(ValueError, match="other sampling"):
        fit(fresh(), some, 2)
    # Of forty examples a step draws each more rarely than of four.
    more = {i: zoo.line(40) for i in some}
    with pytest.raises(ValueError, match="other numbers of examples"):
        fit(fresh(), more, 1)
    process = fresh()
    history = fit(process, some, 1)
    expected = privacy.ExampleGuarantee(
        process.client,
        dict.fromkeys(some, 4),
        fl.samplers.Uniform(some, 2, 1),
        delta=1e-2,
    )
    assert history.history["epsilon_example"][-1] == expected.epsilon(6)
