"""SCAFFOLD against what is known of quadratics, and against NumPy."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators as ag
from fedlearn import encoders as en
from tests import zoo
from tests.algorithms import quadratics as q

EXECUTORS = ["sequential", "vectorized"]


def process_of(model=None, **kwargs):
    kwargs.setdefault("client", fl.LocalTraining(**q.FULL_BATCH))
    kwargs.setdefault("population", 4)
    return fl.algorithms.Scaffold(model or q.model(), **kwargs)


def run(process, rounds, cohort=q.CLIENTS, state=None):
    state = process.initialize(seed=1) if state is None else state
    for _ in range(rounds):
        state, _ = process.next(state, cohort)
    return state


def variates(state):
    return {
        i: q.flat(kept.algorithm) for i, kept in state.client_states.items()
    }


@pytest.mark.backend_free
def test_it_ends_at_the_optimum_where_averages_drift():
    process = process_of(q.model(0.1), executor="sequential")
    state = run(process, 100)
    np.testing.assert_allclose(q.flat(state.trainable), q.optimum(), atol=1e-5)
    mean = np.mean(list(variates(state).values()), axis=0)
    np.testing.assert_allclose(q.flat(state.algorithm), mean, atol=1e-5)
    drifting = fl.FederatedAveraging(
        q.model(0.1),
        client=process.client,
        aggregator=ag.Mean(weighting="uniform"),
        executor="sequential",
    )
    away = q.flat(run(drifting, 100).trainable) - q.optimum()
    assert np.abs(away).max() > 0.05


SLOWER = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.99)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("rate", "momentum"), [(0.02, 0.9), (SLOWER, 0.0)], ids=["momentum", "rate"]
)
def test_it_does_where_option_two_is_no_gradient(rate, momentum):
    # With this momentum it diverges.
    process = process_of(q.model(rate, momentum), executor="sequential")
    state = run(process, 150)
    np.testing.assert_allclose(q.flat(state.trainable), q.optimum(), atol=1e-5)
    for i, kept in variates(state).items():
        expected = q.gradient(q.optimum(), *q.CLIENTS[i])
        np.testing.assert_allclose(kept, expected, atol=1e-4)


def scaffold_in_numpy(cohorts, rate, momentum, batch_size):
    """Algorithm 1, with the mean of raw gradients for option II."""
    x, c = np.zeros(4), np.zeros(4)
    own = {i: np.zeros(4) for i in q.CLIENTS}
    for cohort in cohorts:
        moves, changes = [], []
        for i in cohort:
            raw = []

            def corrected(g, y, rows, raw=raw, change=c - own[i]):
                raw.append(g)
                return g + change

            y = q.trained(
                x, q.CLIENTS[i], rate, batch_size, 2, momentum, corrected
            )
            moves.append(y - x)
            changes.append(np.mean(raw, axis=0) - own[i])
        for i, change in zip(cohort, changes, strict=True):
            own[i] = own[i] + change
        x = x + np.mean(moves, axis=0)
        c = c + len(cohort) / 6 * np.mean(changes, axis=0)
    return x, c, own


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rounds_of_some_clients_are_those_of_numpy(executor, momentum):
    cohorts = [("0", "1"), ("2", "0", "3"), ("3",), ("1", "2")] * 2
    process = process_of(
        q.model(0.02, momentum),
        client=fl.LocalTraining(batch_size=4, epochs=2, shuffle=False),
        population=6,
        executor=executor,
    )
    state = process.initialize()
    for cohort in cohorts:
        state, _ = process.next(state, {i: q.CLIENTS[i] for i in cohort})
    x, c, own = scaffold_in_numpy(cohorts, 0.02, momentum, 4)
    np.testing.assert_allclose(q.flat(state.trainable), x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(q.flat(state.algorithm), c, rtol=1e-4, atol=1e-5)
    for i, found in variates(state).items():
        np.testing.assert_allclose(found, own[i], rtol=1e-4, atol=1e-5)


def test_the_sum_of_client_updates_is_its_round_too():
    process = process_of()
    state = run(process, 2)
    expected, metrics = process.next(state, q.CLIENTS)
    broadcast, total = process.broadcast(state), 0
    for i, data in q.CLIENTS.items():
        update, _ = process.client_update(
            broadcast,
            data,
            process.client_seed(state, i),
            state.client_states[i],
            i,
        )
        total += update
    after, found = process.server_update(state, broadcast, total)
    assert found == pytest.approx(metrics, rel=1e-6)
    zoo.assert_close(after.algorithm, expected.algorithm)
    for i, kept in variates(expected).items():
        zoo.assert_close([variates(after)[i]], [kept])


@pytest.mark.backend_free
def test_what_it_sends_is_counted():
    plain = fl.FederatedAveraging(q.model(), executor="sequential")
    process = process_of(executor="sequential")
    (_, few), (_, many) = (
        p.next(p.initialize(), q.CLIENTS) for p in (plain, process)
    )
    for name in ("bytes_up", "bytes_down"):
        assert many[name] >= few[name] + 4 * 4 * 4


def test_a_client_without_examples_keeps_its_variate():
    process = process_of()
    state = run(process, 1)
    x, y = q.CLIENTS["0"]
    after, _ = process.next(state, {**q.CLIENTS, "0": (x[:0], y[:0])})
    zoo.assert_equal([variates(after)["0"]], [variates(state)["0"]])


@pytest.mark.parametrize(
    "aggregator",
    [
        None,
        ag.Mean(weighting="uniform", denominator=3.0),
        ag.SecureSum(clients_per_round=3, bits=24, value_range=20.0),
    ],
)
def test_the_servers_variate_is_the_mean_of_all_clients(aggregator):
    process = process_of(population=7, aggregator=aggregator)
    x, y = q.CLIENTS["0"]
    everyone = {
        **q.CLIENTS,
        "empty": (x[:0], y[:0]),
        "bad": (np.full_like(x, np.nan), y),
    }
    state = process.initialize()
    for cohort in [("0", "1", "empty"), ("2", "bad"), ("3", "0", "bad")] * 2:
        state, _ = process.next(state, {i: everyone[i] for i in cohort})
    mean = np.sum(list(variates(state).values()), axis=0) / 7
    assert np.abs(mean).max() > 0.05
    np.testing.assert_allclose(q.flat(state.algorithm), mean, atol=1e-4)


def test_a_run_that_goes_on_is_the_same_to_the_bit(tmp_path):
    process = process_of()
    state = run(process, 2)
    process.save_state(state, tmp_path / "state")
    other = process_of()
    loaded = other.load_state(tmp_path / "state")
    one, two = run(process, 2, state=state), run(other, 2, state=loaded)
    zoo.assert_equal(two.trainable, one.trainable)
    zoo.assert_equal(two.algorithm, one.algorithm)
    for i in q.CLIENTS:
        zoo.assert_equal([variates(two)[i]], [variates(one)[i]])


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("aggregator", "tolerance"),
    [
        (ag.SecureSum(clients_per_round=4, value_range=50.0, bits=20), 1e-2),
        (
            ag.Mean(
                [en.ErrorFeedback([en.UniformQuantization(8)])],
                weighting="uniform",
            ),
            1e-3,
        ),
    ],
    ids=["secure", "feedback"],
)
def test_it_composes_with(aggregator, tolerance):
    state = run(process_of(aggregator=aggregator, executor="sequential"), 120)
    np.testing.assert_allclose(
        q.flat(state.trainable), q.optimum(), atol=tolerance
    )


@pytest.mark.backend_free
def test_it_composes_with_examples_gradients_and_own_statistics():
    dp = fl.clients.ExampleDP(1e6, 0.0, batches="shuffled")
    options = {"batch_size": 4, "epochs": 2, "shuffle": False}
    plain, private = (
        process_of(client=fl.LocalTraining(**options, dp=one))
        for one in (None, dp)
    )
    zoo.assert_close(
        run(private, 3).trainable, run(plain, 3).trainable, 1e-4, 1e-5
    )
    live = fl.algorithms.Scaffold(
        zoo.classifier(),
        client=fl.LocalTraining(batch_size=4, statistics="local"),
        population=3,
    )
    state, metrics = live.next(live.initialize(), zoo.clients((8, 5, 4)))
    assert np.isfinite(metrics["loss"])
    kept = state.client_states["client_0"]
    assert (len(kept.algorithm), len(kept.personal)) == (6, 2)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"aggregator": "median"}, "needs the mean.*Median leaves some"),
        (
            {"aggregator": ag.Mean([en.UniformQuantization(8)])},
            "needs the mean.*UniformQuantization changes.*ErrorFeedback",
        ),
        (
            {
                "aggregator": ag.PrivateMean(
                    clip_norm=1.0, noise_multiplier=1.0, clients_per_round=4
                )
            },
            "needs the mean.*noise would add up",
        ),
        ({"client": "fedprox:0.1"}, "without `proximal`"),
        ({"population": 0}, "`population` must be"),
        (
            {
                "client": fl.LocalTraining(
                    keras.optimizers.LossScaleOptimizer(
                        keras.optimizers.SGD(0.1)
                    )
                )
            },
            "LossScaleOptimizer scales",
        ),
    ],
    ids=lambda value: None,
)
def test_what_would_make_its_variates_wrong_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        process_of(**arguments)


@pytest.mark.backend_free
@pytest.mark.parametrize("kind", [fl.algorithms.Scaffold, fl.algorithms.FedDyn])
def test_a_population_of_fewer_than_there_are_is_refused(kind):
    process = kind(q.model(), population=3)
    with pytest.raises(ValueError, match="population=3, but the data have 4"):
        process.fit(q.CLIENTS, 1, verbose=0)
