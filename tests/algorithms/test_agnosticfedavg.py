"""Agnostic federated learning: its saddle point, FedAvg at 0, and NumPy."""

import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators as ag
from fedlearn import encoders as en
from tests import zoo
from tests.algorithms import quadratics as q

RATE = 0.1
TOWNS = {"0": "b", "1": "a", "2": "b", "3": "c"}

FEEDBACK = ag.Mean([en.ErrorFeedback([en.TopK(0.5)])], weighting="uniform")


def process_of(epochs=1, **kwargs):
    client = fl.LocalTraining(batch_size=100, epochs=epochs, shuffle=False)
    options = {"domains": q.EVERYONE, "client": client, **kwargs}
    return fl.algorithms.AgnosticFedAvg(q.model(RATE), **options)


@pytest.mark.backend_free
def test_it_ends_at_the_saddle_point():
    process = process_of(domain_learning_rate=0.02, executor="sequential")
    state, metrics = q.run(process, [q.EVERYONE] * 450)
    weights, mixture = q.flat(state.trainable), np.array(state.algorithm)
    # Weights are the best for the mixture,
    matrix, target = np.zeros((4, 4)), np.zeros(4)
    for share, (x, y) in zip(mixture, q.CLIENTS.values(), strict=True):
        x = q.with_ones(x)
        matrix += share * x.T @ x / len(x)
        target += share * x.T @ y.ravel() / len(x)
    best = np.linalg.solve(matrix, target)
    np.testing.assert_allclose(weights, best, atol=1e-5)
    # and the mixture is of those whose loss is the largest.
    losses = np.array([q.loss(weights, *data) for data in q.CLIENTS.values()])
    largest = losses.max()
    assert metrics["worst_loss"] == pytest.approx(largest, rel=1e-5)
    np.testing.assert_allclose(losses[mixture > 0], largest, rtol=1e-5)
    assert (mixture > 0).tolist() == [True, True, False, True]
    assert mixture.sum() == pytest.approx(1)


def on_simplex(point):
    """By bisection of what is taken off every coordinate."""
    low, high = point.min() - 1, point.max()
    for _ in range(100):
        level = (low + high) / 2
        if np.maximum(point - level, 0).sum() > 1:
            low = level
        else:
            high = level
    return np.maximum(point - level, 0)


def afl_in_numpy(cohorts, rate):
    names = sorted(set(TOWNS.values()))
    of = {i: names.index(town) for i, town in TOWNS.items()}
    sizes = np.array([1, 2, 1])
    x, mixture = np.zeros(4), sizes / 4
    for cohort in cohorts:
        shares = np.array([(mixture / sizes)[of[i]] for i in cohort])
        losses, seen = np.zeros(3), np.zeros(3)
        for i in cohort:
            losses[of[i]] += q.loss(x, *q.CLIENTS[i])
            seen[of[i]] += 1
        ends = [q.trained(x, q.CLIENTS[i], RATE) - x for i in cohort]
        x = x + shares @ np.stack(ends) / shares.sum()
        mixture = on_simplex(mixture + rate * losses / np.maximum(seen, 1))
    return x, mixture


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
def test_rounds_of_some_clients_are_those_of_numpy(executor, tmp_path):
    process = process_of(5, domains=TOWNS, executor=executor)
    assert process.domain_names == ["a", "b", "c"]
    state, _ = q.run(process, q.SOME)
    x, mixture = afl_in_numpy(q.SOME, 0.1)
    np.testing.assert_allclose(q.flat(state.trainable), x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state.algorithm, mixture, rtol=1e-4, atol=1e-6)
    q.assert_resumes(process, tmp_path)
    with pytest.raises(ValueError, match="'new' has no domain"):
        process.next(state, {"new": q.CLIENTS["0"]})
    with pytest.raises(ValueError, match="keeps which domain"):
        process.client_update(process.broadcast(state), q.CLIENTS["0"], seed=1)


@pytest.mark.backend_free
def test_with_a_mixture_that_stays_it_is_fedavg():
    process = process_of(5, domain_learning_rate=0, executor="sequential")
    plain = fl.FederatedAveraging(
        q.model(RATE),
        client=process.client,
        aggregator=ag.Mean(weighting="uniform"),
        executor="sequential",
    )
    one, two = (q.run(p, q.SOME)[0].trainable for p in (process, plain))
    zoo.assert_close(one, two, 1e-5, 1e-6)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"aggregator": FEEDBACK}, "needs the mean.*ErrorFeedback changes"),
        ({"aggregator": "median"}, "needs the mean.*Median leaves some"),
        ({"aggregator": "mean"}, "examples don't count.*uniform"),
        (
            {
                "aggregator": ag.PrivateMean(
                    clip_norm=1.0, noise_multiplier=1.0, clients_per_round=4
                )
            },
            "losses are of clients' data",
        ),
        ({"domain_learning_rate": -1}, "`domain_learning_rate` must be"),
    ],
    ids=lambda value: None,
)
def test_what_its_mixture_cannot_do_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        process_of(**arguments)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("domains", "match"),
    [
        ({"0": None}, r"domains\['0'\]` must be a domain's name.*NoneType"),
        (q.CLIENTS, "must be a domain's name.*tuple.*clients' ids"),
        ("abc", "single id 'abc'"),
        (["0", "0"], "more than once"),
    ],
    ids=lambda value: None,
)
def test_what_is_no_domain_is_refused(domains, match):
    with pytest.raises((TypeError, ValueError), match=match):
        process_of(domains=domains)


@pytest.mark.backend_free
def test_other_domains_are_another_run(tmp_path):
    given = {"verbose": 0, "checkpoint_dir": tmp_path}
    one, other = (
        process_of(domains=dict(zip("0123", names, strict=True)))
        for names in ("aabb", "abab")
    )
    one.fit(q.CLIENTS, 1, **given)
    with pytest.raises(ValueError, match=r"another run.*domains"):
        other.fit(q.CLIENTS, 2, **given)
