"""Mime and MimeLite against central momentum, known optima, and NumPy."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators as ag
from fedlearn import encoders as en
from tests import zoo
from tests.algorithms import quadratics as q

KINDS = {"mime": fl.algorithms.Mime, "mimelite": fl.algorithms.MimeLite}
RATE, RHO = 0.02, 0.9


def process_of(kind, model=None, epochs=2, batch_size=4, **kwargs):
    client = fl.LocalTraining(
        batch_size=batch_size, epochs=epochs, shuffle=False
    )
    kwargs.setdefault("client", client)
    return KINDS[kind](model or q.model(RATE, RHO), **kwargs)


def mime_in_numpy(cohorts, corrected):
    """Both, with momentum; clients count by their examples."""
    x, velocity = np.zeros(4), np.zeros(4)
    for cohort in cohorts:
        sizes = np.array([len(q.CLIENTS[i][1]) for i in cohort])
        share = sizes / sizes.sum()
        full = share @ [q.gradient(x, *q.CLIENTS[i]) for i in cohort]
        moves = []
        for i in cohort:

            def step(g, y, rows, i=i, x=x, full=full, velocity=velocity):
                if corrected:
                    features, labels = (a[rows] for a in q.CLIENTS[i])
                    g = g - q.gradient(x, features, labels) + full
                return g - RHO * velocity / RATE

            end = q.trained(x, q.CLIENTS[i], RATE, 4, 2, corrected=step)
            moves.append(end - x)
        velocity = RHO * velocity - RATE * full
        x = x + share @ np.stack(moves)
    return x, velocity


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
@pytest.mark.parametrize("kind", KINDS)
def test_rounds_of_some_clients_are_those_of_numpy(kind, executor, tmp_path):
    process = process_of(kind, executor=executor)
    state, metrics = q.run(process, q.SOME)
    x, velocity = mime_in_numpy(q.SOME, kind == "mime")
    np.testing.assert_allclose(q.flat(state.trainable), x, rtol=1e-4, atol=1e-5)
    momentum = state.algorithm[0][2:]  # after the steps and the rate
    np.testing.assert_allclose(q.flat(momentum), velocity, rtol=1e-4, atol=1e-5)
    assert np.isfinite(metrics["loss"])
    q.assert_resumes(process, tmp_path)


def pooled_optimum():
    x, y = (np.concatenate(a) for a in zip(*q.CLIENTS.values(), strict=True))
    return np.linalg.lstsq(q.with_ones(x), y.ravel(), rcond=None)[0]


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("kind", "epochs"), [("mime", 5), ("mimelite", 1)], ids=KINDS
)
def test_it_ends_at_the_pooled_optimum(kind, epochs):
    # Mime however many steps clients take, MimeLite with one.
    process = process_of(
        kind, epochs=epochs, batch_size=100, executor="sequential"
    )
    state, _ = q.run(process, [q.EVERYONE] * 250)
    expected = pooled_optimum()
    np.testing.assert_allclose(q.flat(state.trainable), expected, atol=1e-5)


def test_one_step_of_adam_a_round_is_kerass_on_the_pooled_data():
    model = q.model()
    model.compile(keras.optimizers.Adam(0.1), "mse")
    process = process_of(
        "mimelite", model, epochs=1, batch_size=100, executor="sequential"
    )
    central = q.model()
    central.compile(keras.optimizers.Adam(0.1), "mse")
    data = tuple(
        np.concatenate(a) for a in zip(*q.CLIENTS.values(), strict=True)
    )
    # A client's step is along its own gradient, so all are given the same.
    alike = dict.fromkeys(q.EVERYONE, data)
    state, _ = q.run(process, [q.EVERYONE] * 3, clients=alike)
    zoo.fit(central, data, batch_size=100, epochs=3, shuffle=False)
    zoo.assert_close(state.trainable, zoo.weights_of(central), 1e-4, 1e-5)


@pytest.mark.backend_free
def test_with_an_optimizer_that_keeps_nothing_mimelite_is_fedavg():
    process = process_of("mimelite", q.model(RATE), executor="sequential")
    plain = fl.FederatedAveraging(
        q.model(RATE), client=process.client, executor="sequential"
    )
    one, two = (q.run(p, q.SOME[:2])[0].trainable for p in (process, plain))
    zoo.assert_equal(one, two)


@pytest.mark.backend_free
def test_what_is_sent_is_counted():
    plain = fl.FederatedAveraging(q.model(RATE, RHO), executor="sequential")
    _, few = q.run(plain, q.SOME[:1])
    for kind in KINDS:
        process = process_of(kind, executor="sequential")
        _, many = q.run(process, q.SOME[:1])
        for name in ("bytes_up", "bytes_down"):
            assert many[name] >= few[name] + 3 * 4 * 4


def test_a_clip_is_of_update_and_gradient_together():
    clip = ag.PrivateMean(0.5, noise_multiplier=0.0, clients_per_round=1)
    process = process_of("mimelite", aggregator=clip, executor="sequential")
    state, _ = q.run(process, [("0",)])
    gradient = -q.flat(state.algorithm[0][2:]) / RATE
    both = np.concatenate([q.flat(state.trainable), gradient])
    assert np.linalg.norm(both) == pytest.approx(0.5, rel=1e-4)
    assert np.linalg.norm(gradient) < 0.5


def fit_with(optimizer):
    return {"client": fl.LocalTraining(optimizer)}


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("kind", "arguments", "match"),
    [
        ("mime", {"aggregator": "median"}, "needs the mean.*Median leaves"),
        (
            "mime",
            {
                "aggregator": ag.PrivateMean(
                    clip_norm=1.0, noise_multiplier=1.0, clients_per_round=4
                )
            },
            "doesn't cover gradients",
        ),
        (
            "mime",
            {"aggregator": ag.Mean(weighting="uniform", denominator=4)},
            "needs the mean.*fixed `denominator`",
        ),
        (
            "mime",
            {"aggregator": ag.Mean([en.UniformQuantization(8)])},
            "UniformQuantization changes what is sent\\. Use",
        ),
        (
            "mime",
            {"aggregator": ag.Mean([en.ErrorFeedback([en.TopK(0.5)])])},
            "ErrorFeedback would add.*MimeLite",
        ),
        (
            "mimelite",
            fit_with(
                keras.optimizers.SGD(
                    keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.9)
                )
            ),
            "has a schedule",
        ),
        ("mimelite", fit_with(keras.optimizers.Ftrl(0.1)), "Ftrl follows from"),
        ("mime", {"client": "fedprox:0.1"}, "without `proximal`"),
        (
            "mime",
            {
                "client": fl.LocalTraining(
                    dp=fl.clients.ExampleDP(1.0, noise_multiplier=1.0)
                )
            },
            "what `dp` guarantees",
        ),
    ],
    ids=lambda value: None,
)
def test_what_its_state_cannot_do_is_refused(kind, arguments, match):
    with pytest.raises(ValueError, match=match):
        process_of(kind, **arguments)


def test_a_round_of_nobody_leaves_the_momentum():
    process = fl.algorithms.MimeLite(
        q.model(0.05, 0.9), fl.LocalTraining(batch_size=4)
    )
    before, _ = q.run(process, q.SOME[:1])
    assert np.abs(q.flat(before.algorithm[0][2:])).max() > 0.01
    broadcast = process.broadcast(before)
    nobody = process.empty_update(broadcast)
    empty = tuple(a[:0] for a in q.CLIENTS["0"])
    of_empty = process.client_update(broadcast, empty, seed=0)
    for total in (nobody, of_empty):
        after, _ = process.server_update(before, broadcast, total)
        zoo.assert_equal(after.algorithm, before.algorithm)
        zoo.assert_equal(after.trainable, before.trainable)
