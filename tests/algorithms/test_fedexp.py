"""FedExP: where clients have a common optimum, alike clients, and NumPy."""

import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators as ag
from fedlearn import encoders as en
from tests import zoo
from tests.algorithms import quadratics as q

BEST = np.array([1.0, -2.0, 0.5, 3.0])
# Clients who differ, and whose losses are all zero at one place.
COMMON = {
    i: (x, (q.with_ones(x) @ BEST)[:, None].astype("float32"))
    for i, (x, _) in q.CLIENTS.items()
}


@pytest.fixture(scope="module", params=["sequential", "vectorized"])
def process(request):
    return fl.algorithms.FedExP(
        q.model(0.1),
        client=fl.LocalTraining(**q.FULL_BATCH),
        epsilon=1e-8,
        executor=request.param,
    )


def fedexp_in_numpy(cohorts, clients, epsilon):
    x = np.zeros(4)
    for cohort in cohorts:
        sizes = np.array([len(clients[i][1]) for i in cohort])
        share = sizes / sizes.sum()
        updates = np.stack([q.trained(x, clients[i], 0.1) - x for i in cohort])
        mean = share @ updates
        norms = share @ np.sum(updates**2, axis=1)
        times = max(1.0, norms / (2 * (mean @ mean + epsilon)))
        x = x + times * mean
    return x, times


@pytest.mark.backend_free
@pytest.mark.parametrize("process", ["sequential"], indirect=True)
def test_it_ends_where_all_losses_are_zero(process):
    state, _ = q.run(process, [q.EVERYONE] * 150, clients=COMMON)
    np.testing.assert_allclose(q.flat(state.trainable), BEST, atol=1e-5)


def test_rounds_of_some_clients_are_those_of_numpy(process):
    state, metrics = q.run(process, q.SOME, clients=COMMON)
    x, times = fedexp_in_numpy(q.SOME, COMMON, 1e-8)
    np.testing.assert_allclose(q.flat(state.trainable), x, rtol=1e-4, atol=1e-5)
    assert metrics["extrapolation"] == pytest.approx(times, rel=1e-3)


def test_among_clients_that_are_alike_it_is_fedavg(process, tmp_path):
    alike = dict.fromkeys("012", q.CLIENTS["0"])
    plain = fl.FederatedAveraging(
        q.model(0.1), client=process.client, executor=process.executor
    )
    (one, metrics), (two, _) = (
        q.run(p, [tuple(alike)] * 2, clients=alike) for p in (process, plain)
    )
    assert metrics["extrapolation"] == 1
    zoo.assert_equal(one.trainable, two.trainable)
    q.assert_resumes(process, tmp_path)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("aggregator", "match"),
    [
        (
            ag.Mean([en.ErrorFeedback([en.TopK(0.5)])]),
            "needs the mean.*ErrorFeedback changes",
        ),
        ("median", "needs the mean.*Median leaves some"),
        (
            ag.PrivateMean(
                clip_norm=1.0, noise_multiplier=1.0, clients_per_round=4
            ),
            "noise would be most of the mean's norm",
        ),
    ],
    ids=lambda value: None,
)
def test_what_has_no_mean_is_refused(aggregator, match):
    with pytest.raises(ValueError, match=match):
        fl.algorithms.FedExP(q.model(), aggregator=aggregator)


def test_noise_of_clients_would_lengthen_steps():
    client = fl.LocalTraining(dp=fl.clients.ExampleDP(1.0, 1.0))
    with pytest.raises(ValueError, match="would make its steps longer"):
        fl.algorithms.FedExP(q.model(), client)
