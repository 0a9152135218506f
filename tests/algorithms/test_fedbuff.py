import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators, conditions, encoders
from fedlearn.algorithms import FedBuff
from fedlearn.algorithms.feddyn import DynamicRegularizer
from fedlearn.algorithms.scaffold import ControlVariates
from tests import zoo

CLIENTS = zoo.clients((8, 5, 3, 9, 6, 7), make=zoo.line)
DATA = fl.FederatedDataset.from_clients(CLIENTS)
CLIENT = fl.LocalTraining(batch_size=4, epochs=2)
SECURE = aggregators.SecureSum(value_range=1.0, clients_per_round=2)
UNLIKE = dict(zip(CLIENTS, (1.0, 1.7, 0.4, 3.1, 0.9, 2.2), strict=True))


def made(**arguments):
    given = {"buffer_size": 2, "concurrency": 4, "durations": UNLIKE}
    given = {"client": CLIENT, **given, **arguments}
    return FedBuff(zoo.regression(), **given)


def fit(process, rounds, **arguments):
    return process.fit(DATA, rounds, verbose=0, **arguments).history


class Replay(fl.samplers.Sampler):
    """Clients that are given, round by round."""

    def __init__(self, clients, cohorts):
        super().__init__(clients, len(cohorts[0]))
        self.cohorts = cohorts

    def _sample(self, round_num):
        return [self.client_ids.index(i) for i in self.cohorts[round_num]]


class Backwards(conditions.Durations):
    def seconds(self, client_id, seed, num_examples):
        return -1.0


class Followed(FedBuff):
    """Notes who took part."""

    def cohort_update(self, state, broadcast, clients):
        self.cohorts = [*getattr(self, "cohorts", []), clients.client_ids]
        return super().cohort_update(state, broadcast, clients)


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
@pytest.mark.parametrize("size", [3, 6])
def test_equal_delays_are_synchronous_rounds_to_the_bit(executor, size):
    arguments = {"client": CLIENT, "executor": executor}
    buffered = Followed(
        zoo.regression(), buffer_size=size, concurrency=size, **arguments
    )
    history = fit(buffered, 3)
    assert history["staleness"] == [0.0] * 3
    assert history["seconds"] == [1.0, 2.0, 3.0]
    rounds = fl.FederatedAveraging(
        zoo.regression(),
        aggregator=aggregators.Mean(
            weighting="uniform", denominator=float(size)
        ),
        **arguments,
    )
    fit(rounds, 3, sampler=Replay(DATA, buffered.cohorts))
    zoo.assert_equal(buffered.state.trainable, rounds.state.trainable)


@pytest.mark.backend_free
def test_one_at_a_time_is_rounds_of_one():
    buffered = Followed(zoo.regression(), CLIENT, buffer_size=1, concurrency=1)
    fit(buffered, 7)
    rounds = fl.FederatedAveraging(
        zoo.regression(),
        CLIENT,
        aggregator=aggregators.Mean(weighting="uniform", denominator=1.0),
    )
    fit(rounds, 7, sampler=Replay(DATA, buffered.cohorts))
    zoo.assert_equal(buffered.state.trainable, rounds.state.trainable)


def test_a_late_client_counts_less_and_moves_from_where_it_began():
    # Of w alone: a client's step goes half the way to its own optimum.
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    model.compile(keras.optimizers.SGD(0.25), "mse")
    optimum = {"fast": 1.0, "slow": -3.0}
    one = np.ones((1, 1), "float32")
    model.set_weights([0 * one])
    process = FedBuff(
        model,
        buffer_size=1,
        concurrency=2,
        durations={"fast": 1.0, "slow": 2.5},
        staleness_exponent=0.75,
    )
    history = process.fit(
        {i: (one, one * w) for i, w in optimum.items()}, rounds=3, verbose=0
    )
    w = began = 0.0  # both begin at 0
    w += 0.5 * (optimum["fast"] - w)  # at time 1
    w += 0.5 * (optimum["fast"] - w)  # at time 2
    w += 0.5 * (optimum["slow"] - began) / 3**0.75  # at time 2.5
    np.testing.assert_allclose(process.state.trainable[0], [[w]], rtol=1e-6)
    assert history.history["staleness"] == [0.0, 0.0, 2.0]
    assert history.history["seconds"] == [1.0, 2.0, 2.5]
    assert history.history["client_trips"] == [1.0, 2.0, 3.0]


def recursion(rounds, size, concurrency, durations, rate, max_staleness=None):
    """Algorithm 1, an event at a time, for clients that go half the way.

    With everyone under way who isn't in the buffer, nothing is drawn.
    """
    optima = {i: float(k) for k, i in enumerate(durations)}
    w, clock, version = 0.0, 0.0, 0
    away, buffer, dropped = {}, {}, 0
    stale = []
    while version < rounds:
        for i in optima:
            if i not in away and i not in buffer:
                away[i] = (clock + durations[i], version, w)
        assert len(away) <= concurrency
        due = min(t for t, _, _ in away.values())
        for i in [i for i in away if away[i][0] == due]:
            clock, then, began = away.pop(i)
            if max_staleness is not None and version - then > max_staleness:
                dropped += 1
                continue
            s = (1 + version - then) ** -0.5
            buffer[i] = (s * 0.5 * (optima[i] - began), version - then)
            if len(buffer) == size:
                w += rate * sum(d for d, _ in buffer.values()) / size
                stale.append(np.mean([t for _, t in buffer.values()]))
                version, buffer = version + 1, {}
    return w, stale, dropped


@pytest.mark.parametrize("max_staleness", [None, 1])
def test_it_equals_the_recursion(max_staleness):
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    model.compile(keras.optimizers.SGD(0.25), "mse")
    one = np.ones((1, 1), "float32")
    model.set_weights([0 * one])
    # No two of which ever come back at once.
    durations = {"a": 1.0, "b": 1.37, "c": 2.113, "d": 6.7071}
    process = FedBuff(
        model,
        server_optimizer=keras.optimizers.SGD(0.7),
        buffer_size=2,
        concurrency=4,
        durations=durations,
        max_staleness=max_staleness,
    )
    data = {i: (one, one * k) for k, i in enumerate(durations)}
    history = process.fit(data, rounds=12, verbose=0).history
    w, stale, dropped = recursion(12, 2, 4, durations, 0.7, max_staleness)
    np.testing.assert_allclose(process.state.trainable[0], [[w]], rtol=1e-5)
    np.testing.assert_allclose(history["staleness"], stale)
    assert history["client_trips"][-1] == 24 + dropped
    assert bool(dropped) == (max_staleness is not None)


@pytest.mark.backend_free
@pytest.mark.parametrize("rounds", [1, 3])
def test_a_resumed_run_equals_an_unbroken_one(tmp_path, rounds):
    durations = conditions.LogNormal(sigma=0.8)
    whole, first, second = (made(durations=durations) for _ in range(3))
    expected = fit(whole, 6, validation_data=DATA)
    fit(first, rounds, validation_data=DATA, checkpoint_dir=tmp_path)
    resumed = fit(second, 6, validation_data=DATA, checkpoint_dir=tmp_path)
    assert resumed == expected
    zoo.assert_equal(whole.state, second.state)
    assert max(expected["staleness"]) > 0
    fit(again := made(durations=durations), 2)
    fit(again, 4)
    zoo.assert_equal(whole.state, again.state)


@pytest.mark.backend_free
def test_each_state_goes_on_from_its_own_clock():
    process = made()
    fit(process, 2)
    early = process.state
    expected = fit(process, 2)
    assert fit(process, 2, initial_state=early) == expected


# Everyone is there in half of the hours.
BUSY = conditions.Conditions(
    conditions.Diurnal(0.9, 0.3, check_in=3600.0),
    conditions.LogNormal(1800.0, num_examples=10),
    conditions.Network(),
    drop_out=0.2,
    deadline=4 * 3600.0,
)


@pytest.mark.backend_free
def test_conditions_of_durations_alone_are_its_own():
    durations = conditions.LogNormal(sigma=0.8)
    expected = fit(own := made(durations=durations), 4)
    process = made(durations=None)
    given = conditions.Conditions(durations=durations)
    found = fit(process, 4, conditions=given)
    zoo.assert_equal(process.state.trainable, own.state.trainable)
    assert {n: found[n] for n in expected} == expected
    assert found["sim_hours"] == [s / 3600 for s in expected["seconds"]]
    with pytest.raises(ValueError, match="Leave one of them out"):
        fit(own, 1, conditions=given)


@pytest.mark.backend_free
def test_under_conditions_a_run_goes_on_exactly(tmp_path):
    def busy(process, rounds, **arguments):
        return process.fit(
            DATA, rounds, verbose=0, conditions=BUSY, **arguments
        )

    whole = busy(one := made(durations=None), 6)
    busy(made(durations=None), 2, checkpoint_dir=tmp_path)
    resumed = busy(two := made(durations=None), 6, checkpoint_dir=tmp_path)
    assert resumed.history == whole.history
    assert resumed.attendance == whole.attendance
    zoo.assert_equal(two.state, one.state)
    busy(again := made(durations=None), 2)
    busy(again, 4)
    zoo.assert_equal(again.state, one.state)
    assert sum(whole.history["num_dropped"]) > 0
    assert max(whole.history["staleness"]) > 0
    assert sum(whole.attendance.counted.values()) == 12
    # Those that are gone have downloaded, too.
    down = one.bytes_down(one.broadcast(one.state))
    lost = np.add(whole.history["num_dropped"], whole.history["num_late"])
    assert whole.history["bytes_down"] == ((2 + lost) * down).tolist()


@pytest.mark.backend_free
def test_of_private_metrics_only_the_clock_is_told():
    pytest.importorskip("dp_accounting")
    process = made(
        durations=None,
        aggregator=aggregators.PrivateMean(
            clip_norm=1.0, noise_multiplier=4.0, clients_per_round=2
        ),
        privacy=fl.privacy.Privacy(delta=1e-3, private_metrics=True),
    )
    history = process.fit(DATA, 1, verbose=0, conditions=BUSY)
    assert "sim_hours" in history.history
    assert not {"num_asked", "num_late"} & set(history.history)
    assert not hasattr(history, "attendance")


@pytest.mark.backend_free
def test_another_clock_is_another_run(tmp_path):
    durations = conditions.LogNormal(2.0)
    fit(made(durations=durations), 1, checkpoint_dir=tmp_path)
    others = {"concurrency": 3, "durations": conditions.LogNormal(3.0)}
    for name, other in others.items():
        given = {"durations": durations, name: other}
        with pytest.raises(ValueError, match=f"another run.*{name}"):
            fit(made(**given), 2, checkpoint_dir=tmp_path)


@pytest.mark.backend_free
def test_after_ctrl_c_it_goes_on():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.params["epochs"] == 5 and int(process.state.round_num) == 2:
                raise KeyboardInterrupt

    fit(whole := made(), 5)
    process = made()
    with pytest.raises(KeyboardInterrupt):
        fit(process, 5, callbacks=[Stop()])
    assert int(process.state.round_num) == 2
    fit(process, 3, callbacks=[keras.callbacks.Callback()])
    zoo.assert_equal(process.state, whole.state)


@pytest.mark.backend_free
def test_who_is_not_in_the_data_any_more_does_not_come_back():
    data = {i: c for i, c in enumerate(CLIENTS.values()) if i < 5}
    durations = {**dict.fromkeys(data, 1.0), 0: 1.5}
    process = made(buffer_size=3, concurrency=5, durations=durations)
    process.fit(data, 1, verbose=0)
    del data[0]
    history = process.fit(data, 3, verbose=0).history
    assert history["num_clients"] == [3] * 3


def test_memory_and_personal_layers_go_with_the_client():
    feedback = aggregators.Mean(
        [encoders.ErrorFeedback([encoders.TopK(0.5)])],
        weighting="uniform",
        denominator=2.0,
    )
    process = made(aggregator=feedback)
    history = fit(process, 6)
    assert history["loss"][-1] < history["loss"][0]
    assert len(process.state.client_states) >= 3


@pytest.mark.backend_free
def test_noise_is_accounted_as_everyone_in_every_round():
    dp_accounting = pytest.importorskip("dp_accounting")
    process = made(
        aggregator=aggregators.PrivateMean(
            clip_norm=1.0, noise_multiplier=4.0, clients_per_round=2
        ),
        privacy=fl.privacy.Privacy(delta=1e-3),
    )
    epsilons = fit(process, 3)["epsilon"]
    accountant = dp_accounting.rdp.RdpAccountant(
        neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_SPECIAL
    )
    event = dp_accounting.GaussianDpEvent(4.0)
    for epsilon in epsilons:
        accountant.compose(event)
        assert epsilon == pytest.approx(accountant.get_epsilon(1e-3))


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"aggregator": "median"}, "denominator"),
        ({"aggregator": aggregators.Mean()}, "denominator"),
        ({"aggregator": SECURE}, "mean of floats"),
        (
            {
                "aggregator": aggregators.Mean(
                    [encoders.Skellam(1.0, 1.0, 2, bits=16)], "uniform", 2.0
                )
            },
            "mean of floats",
        ),
        (
            {
                "aggregator": aggregators.Mean(
                    [encoders.HadamardRotation()],
                    weighting="uniform",
                    denominator=2.0,
                )
            },
            "round to round",
        ),
        ({"algorithm": ControlVariates(6)}, "round to round"),
        (
            {"client": fl.LocalTraining(dp=fl.clients.ExampleDP(1.0, 1.0))},
            "how often it comes back",
        ),
        ({"algorithm": DynamicRegularizer(1.0, 6)}, "updates that count alike"),
        ({"durations": -1.0}, "durations"),
        ({"buffer_size": 0}, "buffer_size"),
        ({"max_staleness": -1}, "max_staleness"),
    ],
)
def test_what_cannot_be_weighed_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        made(**arguments)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "given", "words"),
    [
        ({}, {"clients_per_round": 2}, "Leave `clients_per_round`"),
        ({"buffer_size": 7, "concurrency": 9}, {}, "the data have 6"),
        ({"durations": {"client_0": 1.0}}, {}, "seconds of 'client_"),
        ({"durations": Backwards()}, {}, "seconds of 'client_.*-1"),
    ],
)
def test_what_fit_cannot_run_is_refused(arguments, given, words):
    with pytest.raises(ValueError, match=words):
        fit(made(**arguments), 1, **given)


@pytest.mark.backend_free
def test_it_is_made_again_from_its_config():
    process = made(durations=conditions.HalfNormal(3.0), max_staleness=4)
    again = fl.LearningProcess.from_config(process.get_config())
    assert again.durations == conditions.HalfNormal(3.0)
    assert (again.buffer_size, again.max_staleness) == (2, 4)


def test_a_state_of_a_file_has_those_under_way(tmp_path):
    whole = made()
    history = fit(whole, 4)
    half = made()
    fit(half, 2)
    half.save_state(half.state, tmp_path / "state")
    again = made()
    state = again.load_state(tmp_path / "state")
    # As the version before wrote it.
    old = {
        name: state.schedule[name]
        for name in ("seconds", "starts", "client_trips", "broadcasts")
    }
    trips = state.schedule["under_way"].items()
    old["under_way"] = {i: trip[:3] for i, trip in trips}
    for schedule in (state.schedule, old):
        start = state._replace(schedule=schedule)
        rest = fit(again, 2, initial_state=start)
        assert rest["seconds"] == history["seconds"][2:]
        zoo.assert_equal(again.state.trainable, whole.state.trainable)
