"""FedDyn against what is known of quadratics, and against NumPy."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators as ag
from fedlearn import encoders as en
from tests import zoo
from tests.algorithms import quadratics as q


def process_of(**kwargs):
    kwargs.setdefault("client", fl.LocalTraining(**q.FULL_BATCH))
    options = {"alpha": 1.0, "population": 4, **kwargs}
    return fl.algorithms.FedDyn(q.model(0.1), **options)


@pytest.fixture(scope="module", params=["sequential", "vectorized"])
def process(request):
    return process_of(executor=request.param)


@pytest.mark.backend_free
@pytest.mark.parametrize("process", ["sequential"], indirect=True)
def test_it_ends_at_the_optimum(process):
    state, _ = q.run(process, [q.EVERYONE] * 80)
    np.testing.assert_allclose(q.flat(state.trainable), q.optimum(), atol=1e-5)
    # What clients keep are their gradients there, which add up to zero.
    for i, kept in state.client_states.items():
        found = q.flat(kept.algorithm)
        expected = q.gradient(q.optimum(), *q.CLIENTS[i])
        np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(q.flat(state.algorithm), 0.0, atol=1e-5)


def feddyn_in_numpy(cohorts, alpha, population):
    """Algorithm 1."""
    x, h = np.zeros(4), np.zeros(4)
    own = {i: np.zeros(4) for i in q.CLIENTS}
    for cohort in cohorts:
        ends = {}
        for i in cohort:

            def bent(g, y, rows, x=x, g_k=own[i]):
                return g - g_k + alpha * (y - x)

            ends[i] = q.trained(x, q.CLIENTS[i], 0.1, corrected=bent)
        for i, y in ends.items():
            own[i] = own[i] - alpha * (y - x)
        h = h - alpha / population * sum(y - x for y in ends.values())
        x = np.mean(list(ends.values()), axis=0) - h / alpha
    return x, h, own


def test_rounds_of_some_clients_are_those_of_numpy(process):
    state, _ = q.run(process, q.SOME)
    x, h, own = feddyn_in_numpy(q.SOME, 1.0, 4)
    np.testing.assert_allclose(q.flat(state.trainable), x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(q.flat(state.algorithm), h, rtol=1e-4, atol=1e-5)
    for i, kept in state.client_states.items():
        found = q.flat(kept.algorithm)
        np.testing.assert_allclose(found, own[i], rtol=1e-4, atol=1e-5)


@pytest.mark.backend_free
def test_with_no_regularizer_and_many_clients_it_is_fedavg():
    process = process_of(alpha=1e-7, population=10**9, executor="sequential")
    plain = fl.FederatedAveraging(
        q.model(0.1),
        client=process.client,
        aggregator=ag.Mean(weighting="uniform"),
        executor="sequential",
    )
    one, two = (q.run(p, q.SOME)[0].trainable for p in (process, plain))
    zoo.assert_close(one, two, 1e-5, 1e-5)


def test_a_run_that_goes_on_is_the_same_to_the_bit(process, tmp_path):
    q.assert_resumes(process, tmp_path)


def test_the_servers_state_stays_at_the_server(process):
    assert process.broadcast(process.initialize()).algorithm == ()


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"aggregator": "median"}, "needs the mean.*Median leaves some"),
        (
            {"aggregator": ag.Mean([en.UniformQuantization(8)])},
            "UniformQuantization changes.*ErrorFeedback",
        ),
        (
            {
                "aggregator": ag.PrivateMean(
                    clip_norm=1.0, noise_multiplier=1.0, clients_per_round=4
                )
            },
            "needs the mean.*noise would add up",
        ),
        ({"server_optimizer": "fedadam"}, "take another one.*SGD\\(1.0\\)"),
        (
            {"server_optimizer": keras.optimizers.SGD(1.0, momentum=0.9)},
            "take another one",
        ),
        ({"client": "fedprox:0.1"}, "without `proximal`"),
        ({"alpha": 0.0}, "`alpha` must be"),
    ],
    ids=lambda value: None,
)
def test_what_would_lead_elsewhere_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        process_of(**arguments)


@pytest.mark.backend_free
def test_a_callback_does_not_change_the_servers_step():
    rate = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5)
    with pytest.raises(ValueError, match="a part of FedDyn and stays"):
        process_of().fit(q.CLIENTS, 1, callbacks=[rate], verbose=0)
