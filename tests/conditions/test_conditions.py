import json

import numpy as np
import pytest

import fedlearn as fl
from fedlearn import conditions, samplers
from tests import zoo

DATA = fl.FederatedDataset.from_clients(
    zoo.clients((8, 5, 3, 9, 6, 7, 4, 8), make=zoo.line)
)
CLIENT = fl.LocalTraining(batch_size=4)
# Everyone is there in half of the hours, and the slow half is seldom in time.
BUSY = conditions.Conditions(
    conditions.Diurnal(0.9, 0.3, habit=0.3, check_in=3600.0),
    conditions.LogNormal(600.0),
    conditions.Network(),
    drop_out=0.1,
    over_select=1.5,
    deadline=4 * 3600.0,
    at_least=0.6,
)
SIMULATED = (
    "sim_hours",
    "num_asked",
    "num_dropped",
    "num_late",
    "wasted_hours",
)


class Followed(fl.FederatedAveraging):
    """Notes who is trained."""

    def cohort_update(self, state, broadcast, clients):
        self.cohorts = [*getattr(self, "cohorts", []), clients.client_ids]
        return super().cohort_update(state, broadcast, clients)


def made(**arguments):
    return Followed(zoo.regression(), **{"client": CLIENT, **arguments})


def fit(process, rounds, **arguments):
    given = {"verbose": 0, "clients_per_round": 3, "conditions": BUSY}
    return process.fit(DATA, rounds, **{**given, **arguments})


@pytest.fixture(scope="module")
def whole():
    process = made()
    return process, fit(process, 5)


@pytest.mark.parametrize(
    "sampled", [True, pytest.param(False, marks=pytest.mark.backend_free)]
)
def test_without_conditions_it_is_the_same_to_the_bit(sampled):
    given = {"clients_per_round": 3 if sampled else None}
    plain, simulated = made(), made()
    expected = fit(plain, 3, conditions=None, **given).history
    trivial = conditions.Conditions()
    found = fit(simulated, 3, conditions=trivial, **given)
    zoo.assert_equal(plain.state, simulated.state._replace(schedule=()))
    assert simulated.cohorts == plain.cohorts
    assert {n: found.history[n] for n in expected} == expected
    assert set(found.history) - set(expected) == {*SIMULATED, "num_abandoned"}
    times = sum(found.attendance.counted.values())
    assert times == sum(expected["num_clients"])


@pytest.mark.backend_free
def test_only_those_that_count_are_trained(whole):
    process, history = whole
    trained = [len(c) for c in process.cohorts]
    assert trained == history.history["num_clients"]
    assert sum(trained) < sum(history.history["num_asked"])
    counts = {i: sum(i in c for c in process.cohorts) for i in DATA}
    assert history.attendance.counted == counts
    assert np.all(np.diff(history.history["sim_hours"]) > 0)


@pytest.mark.backend_free
def test_without_training_it_has_the_same_clients(whole):
    given = conditions.Conditions.from_config(
        {**BUSY.get_config(), "network": None}
    )
    process = made()
    history = fit(process, 3, conditions=given)
    found = conditions.simulate(given, DATA, rounds=3, clients_per_round=3)
    assert [tuple(c) for c in found.cohorts] == process.cohorts
    assert found.attendance == history.attendance
    for name in (*SIMULATED, "num_abandoned", "num_clients"):
        assert found.history[name] == history.history[name]


@pytest.mark.backend_free
@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
def test_the_executor_changes_nothing(whole, executor):
    process, expected = made(executor=executor), whole[1].history
    found = fit(process, 5).history
    assert process.cohorts == whole[0].cohorts
    for name in SIMULATED:
        assert found[name] == expected[name]


@pytest.mark.backend_free
def test_a_resumed_run_equals_an_unbroken_one(whole, tmp_path):
    fit(made(), 2, checkpoint_dir=tmp_path)
    process = made()
    resumed = fit(process, 5, checkpoint_dir=tmp_path)
    assert resumed.history == whole[1].history
    assert resumed.attendance == whole[1].attendance
    zoo.assert_equal(process.state, whole[0].state)
    other = conditions.Conditions(durations=conditions.LogNormal(600.0))
    with pytest.raises(ValueError, match="conditions"):
        fit(made(), 6, checkpoint_dir=tmp_path, conditions=other)
    with pytest.raises(ValueError, match="conditions"):
        fit(made(), 6, checkpoint_dir=tmp_path, conditions=None)


@pytest.mark.backend_free
def test_a_second_fit_goes_on(whole):
    process = made()
    first, second = fit(process, 2), fit(process, 3)
    for name in SIMULATED:
        assert (
            first.history[name] + second.history[name]
            == (whole[1].history[name])
        )
    assert second.attendance == whole[1].attendance
    zoo.assert_equal(process.state, whole[0].state)


@pytest.mark.backend_free
def test_noise_is_accounted_as_everyone_in_every_round(capsys):
    dp_accounting = pytest.importorskip("dp_accounting")
    process = made(
        aggregator=fl.aggregators.PrivateMean(
            clip_norm=1.0, noise_multiplier=4.0, clients_per_round=3
        ),
        privacy=fl.privacy.Privacy(delta=1e-3),
    )
    history = fit(process, 3, verbose=2)
    assert "sampling hides nobody" in capsys.readouterr().out
    accountant = dp_accounting.rdp.RdpAccountant(
        neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_SPECIAL
    )
    event = dp_accounting.GaussianDpEvent(4.0)
    # However often a round was abandoned: nothing of it was told.
    for epsilon in history.history["epsilon"]:
        accountant.compose(event)
        assert epsilon == pytest.approx(accountant.get_epsilon(1e-3))
    assert "any 3 of 8 clients" in str(history.privacy)
    # Rounds without conditions were sampled, and can't be counted with these.
    with pytest.raises(ValueError, match="had other sampling"):
        fit(process, 1, conditions=None)


@pytest.mark.backend_free
def test_a_least_separation_of_rounds_is_still_true():
    pytest.importorskip("dp_accounting")
    process = made(
        aggregator=fl.aggregators.PrivateMean(
            clip_norm=1.0, noise_multiplier=4.0, clients_per_round=2
        ),
        privacy=fl.privacy.Privacy(delta=1e-3),
    )
    sampler = samplers.MinSeparation(DATA, 2, min_separation=4)
    given = {"clients_per_round": None, "sampler": sampler}
    history = fit(process, 5, **given)
    epsilons = history.history["epsilon"]
    assert epsilons[:4] == [epsilons[0]] * 4  # each has been in one
    assert epsilons[4] > epsilons[0]
    assert max(history.attendance.counted.values()) <= 2


class AlwaysTheSame(samplers.MinSeparation):
    def _sample(self, round_num):
        return [0, 1]


@pytest.mark.backend_free
def test_what_draws_in_its_own_way_inherits_no_least_separation():
    pytest.importorskip("dp_accounting")
    process = made(
        aggregator=fl.aggregators.PrivateMean(
            clip_norm=1.0, noise_multiplier=4.0, clients_per_round=2
        )
    )
    sampler = AlwaysTheSame(DATA, 2, min_separation=4)
    history = fit(process, 2, clients_per_round=None, sampler=sampler)
    assert history.history["epsilon"][1] > history.history["epsilon"][0]


@pytest.mark.backend_free
def test_behind_noise_the_length_of_messages_decides_nothing():
    pytest.importorskip("dp_accounting")
    chain = [
        fl.encoders.Clip(1.0),
        fl.encoders.GaussianNoise(4.0),
        *["uniform:8", "huffman"],
    ]
    hours = []
    for scale in (1.0, 0.0):
        process = made(
            aggregator=fl.aggregators.Mean(
                chain, weighting="uniform", denominator=3.0
            )
        )
        data = fl.FederatedDataset.from_clients(
            {i: tuple(scale * a for a in DATA[i]) for i in DATA}
        )
        given = {"clients_per_round": 3, "conditions": BUSY, "verbose": 0}
        hours.append(process.fit(data, 4, **given).history["sim_hours"])
    assert hours[0] == hours[1]


@pytest.mark.backend_free
def test_examples_are_accounted_as_everyone_in_every_round():
    pytest.importorskip("dp_accounting")
    client = fl.LocalTraining(
        batch_size=4,
        dp=fl.clients.ExampleDP(clip_norm=1.0, noise_multiplier=2.0),
    )
    history = fit(made(client=client), 2)
    guarantee = client.guarantee(
        {i: DATA.num_examples(i) for i in DATA}, None, None
    )
    assert history.history["epsilon_example"] == [
        guarantee.epsilon(1),
        guarantee.epsilon(2),
    ]


@pytest.mark.backend_free
def test_of_private_metrics_only_the_clock_is_told():
    pytest.importorskip("dp_accounting")
    process = made(
        aggregator=fl.aggregators.PrivateMean(
            clip_norm=1.0, noise_multiplier=4.0, clients_per_round=3
        ),
        privacy=fl.privacy.Privacy(delta=1e-3, private_metrics=True),
    )
    history = fit(process, 1)
    assert "sim_hours" in history.history
    assert not {*SIMULATED[1:], "num_clients"} & set(history.history)
    assert not hasattr(history, "attendance")


@pytest.mark.backend_free
def test_a_string_stands_for_phones():
    assert conditions.get("phones:0.5,0.1") == conditions.Phones(0.5, 0.1)
    assert conditions.simulate("phones", DATA, 1, 2).cohorts
    with pytest.raises(ValueError, match="`conditions`: there is no 'phone'"):
        fit(made(), 1, conditions="phone")


@pytest.mark.backend_free
def test_a_config_goes_through_json():
    import keras

    for given in (BUSY, conditions.Phones(seed=3, drop_out=0.2)):
        text = json.dumps(keras.saving.serialize_keras_object(given))
        assert conditions.get(json.loads(text)) == given
