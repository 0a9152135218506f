"""q-FedAvg: the optimum of powers of losses, FedAvg at 0, and NumPy."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators as ag
from fedlearn import encoders as en
from tests import zoo
from tests.algorithms import quadratics as q

RATE = 0.1

FEEDBACK = ag.Mean([en.ErrorFeedback([en.TopK(0.5)])], weighting="uniform")


def process_of(epochs=5, **kwargs):
    client = fl.LocalTraining(batch_size=100, epochs=epochs, shuffle=False)
    options = {"q": 1.0, "client": client, **kwargs}
    return fl.algorithms.QFedAvg(q.model(RATE), **options)


@pytest.fixture(scope="module", params=["sequential", "vectorized"])
def process(request):
    return process_of(executor=request.param)


@pytest.mark.backend_free
def test_one_step_a_round_ends_at_the_optimum_of_squared_losses():
    process = process_of(epochs=1, executor="sequential")
    state, _ = q.run(process, [q.EVERYONE] * 500)
    weights = np.zeros(4)
    for _ in range(20):  # Newton's method, for half the sum of squares
        slope, curvature = np.zeros(4), np.zeros((4, 4))
        for x, y in q.CLIENTS.values():
            g, loss = q.gradient(weights, x, y), q.loss(weights, x, y)
            x = q.with_ones(x)
            slope += loss * g
            curvature += loss * 2 * x.T @ x / len(x) + np.outer(g, g)
        weights = weights - np.linalg.solve(curvature, slope)
    np.testing.assert_allclose(slope, 0, atol=1e-9)
    np.testing.assert_allclose(q.flat(state.trainable), weights, atol=1e-5)


def qfedavg_in_numpy(cohorts, power):
    x = np.zeros(4)
    for cohort in cohorts:
        delta, h = np.zeros(4), 0.0
        for i in cohort:
            loss = q.loss(x, *q.CLIENTS[i])
            moved = (x - q.trained(x, q.CLIENTS[i], RATE)) / RATE
            delta += loss**power * moved
            h += power * loss ** (power - 1) * moved @ moved
            h += loss**power / RATE
        x = x - delta / h
    return x


def test_rounds_of_some_clients_are_those_of_numpy(process):
    state, _ = q.run(process, q.SOME)
    x = qfedavg_in_numpy(q.SOME, 1.0)
    np.testing.assert_allclose(q.flat(state.trainable), x, rtol=1e-4, atol=1e-5)


def test_losses_are_of_all_examples_where_the_round_began():
    # In batches of 4, which the sizes aren't multiples of.
    process = process_of(
        q=2.0,
        lipschitz=7.0,
        client=fl.LocalTraining(batch_size=4, max_steps=1, shuffle=False),
    )
    state, _ = q.run(process, [("1",)])
    x, y = q.CLIENTS["1"]
    loss = q.loss(np.zeros(4), x, y)
    moved = -RATE * q.gradient(np.zeros(4), x[:4], y[:4])
    h = 2 * loss * 7.0 * moved @ moved + loss**2
    expected = loss**2 * moved / h
    np.testing.assert_allclose(q.flat(state.trainable), expected, rtol=1e-5)


@pytest.mark.backend_free
def test_at_zero_it_is_fedavg():
    process, plain = (
        kind(
            q.model(RATE),
            client=fl.LocalTraining(**q.FULL_BATCH),
            aggregator=ag.Mean(weighting="uniform"),
            executor="sequential",
            **more,
        )
        for kind, more in (
            (fl.algorithms.QFedAvg, {"q": 0.0}),
            (fl.FederatedAveraging, {}),
        )
    )
    one, two = (q.run(p, q.SOME[:2])[0].trainable for p in (process, plain))
    zoo.assert_close(one, two, 1e-6, 1e-7)


@pytest.mark.backend_free
def test_a_run_that_goes_on_is_the_same_to_the_bit(process, tmp_path):
    q.assert_resumes(process, tmp_path)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"aggregator": FEEDBACK}, "needs the mean.*ErrorFeedback changes"),
        ({"aggregator": "median"}, "needs the mean.*Median leaves some"),
        (
            {
                "aggregator": ag.PrivateMean(
                    clip_norm=1.0, noise_multiplier=1.0, clients_per_round=4
                )
            },
            "losses are of clients' data",
        ),
        ({"q": -1.0}, "`q` must be"),
        ({"lipschitz": 0.0}, "`lipschitz` must be"),
        (
            {
                "client": fl.LocalTraining(
                    keras.optimizers.MultiOptimizer(
                        keras.optimizers.OptimizerMap(
                            default_optimizer=keras.optimizers.SGD(0.1)
                        )
                    )
                )
            },
            "Give `lipschitz`",
        ),
        (
            {
                "client": fl.LocalTraining(
                    dp=fl.clients.ExampleDP(1.0, noise_multiplier=1.0)
                )
            },
            "looks at the examples before",
        ),
    ],
    ids=lambda value: None,
)
def test_what_its_weights_cannot_do_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        process_of(**arguments)
