"""FedNova: its fixed point, its weights of gradients, and NumPy."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators as ag
from fedlearn import encoders as en
from tests import zoo
from tests.algorithms import quadratics as q

RATE = 0.05
# Clients whose batches are all alike, of which they have 1, 3 and 6.
REPEATS = {"0": 1, "2": 3, "3": 6}
ALIKE = {
    i: tuple(np.concatenate([a[:7]] * n) for a in q.CLIENTS[i])
    for i, n in REPEATS.items()
}

FEEDBACK = ag.Mean([en.ErrorFeedback([en.TopK(0.5)])], weighting="uniform")


def process_of(model=None, batch_size=4, epochs=1, proximal=0.0, **kwargs):
    client = fl.LocalTraining(
        batch_size=batch_size, epochs=epochs, shuffle=False, proximal=proximal
    )
    kwargs.setdefault("client", client)
    kwargs.setdefault("executor", "sequential")
    return fl.algorithms.FedNova(model or q.model(RATE), **kwargs)


def of_momentum(steps, rho=0.9):
    return (steps - rho * (1 - rho**steps) / (1 - rho)) / (1 - rho)


def of_proximal(steps, rate_times_mu):
    return (1 - (1 - rate_times_mu) ** steps) / rate_times_mu


@pytest.mark.backend_free
def test_unlike_steps_end_at_the_fixed_point_of_normalized_updates():
    process = process_of(batch_size=7)
    state, _ = q.run(process, [tuple(ALIKE)] * 500, clients=ALIKE)
    # Updates are (I - (I - lr A)^tau)(w_k - w); the shares cancel tau.
    matrix, target = np.zeros((4, 4)), np.zeros(4)
    for i, tau in REPEATS.items():
        x, y = (a[:7] for a in q.CLIENTS[i])
        x = q.with_ones(x)
        a = 2 * x.T @ x / 7
        best = np.linalg.solve(a, 2 * x.T @ y.ravel() / 7)
        power = np.linalg.matrix_power(np.eye(4) - RATE * a, tau)
        share = (np.eye(4) - power) * tau / 10 / tau
        matrix, target = matrix + share, target + share @ best
    expected = np.linalg.solve(matrix, target)
    np.testing.assert_allclose(q.flat(state.trainable), expected, atol=1e-5)


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
def test_rounds_of_some_clients_are_those_of_numpy(executor):
    process = process_of(q.model(0.02, 0.9), epochs=2, executor=executor)
    state, metrics = q.run(process, q.SOME)
    x = np.zeros(4)
    for cohort in q.SOME:
        sizes = np.array([len(q.CLIENTS[i][1]) for i in cohort])
        share = sizes / sizes.sum()
        weights = of_momentum(2 * -(-sizes // 4))
        updates = [
            q.trained(x, q.CLIENTS[i], 0.02, 4, 2, momentum=0.9) - x
            for i in cohort
        ]
        steps = share @ weights
        x = x + steps * (share / weights) @ np.stack(updates)
    np.testing.assert_allclose(q.flat(state.trainable), x, rtol=1e-4, atol=1e-5)
    assert metrics["effective_steps"] == pytest.approx(steps, rel=1e-6)


def test_the_proximal_term_counts():
    process = process_of(epochs=3, proximal=0.5)
    _, metrics = q.run(process, [("2",)])
    expected = of_proximal(9, RATE * 0.5)
    assert metrics["effective_steps"] == pytest.approx(expected, rel=1e-6)


def test_weights_are_those_of_gradients_that_are_all_one():
    # Nesterov's and the proximal term, by a model whose gradient is one.
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False)]
    )
    model.compile(
        keras.optimizers.SGD(RATE, momentum=0.8, nesterov=True),
        loss=lambda y, y_pred: y_pred,
    )
    ones = {"0": (np.ones((5, 1), "float32"), np.ones((5, 1), "float32"))}
    process = process_of(model, batch_size=1, epochs=2, proximal=0.7)
    start = process.initialize()
    state, metrics = process.next(start, ones)
    moved = float(np.ravel(state.trainable[0] - start.trainable[0])[0])
    expected = -moved / RATE
    assert metrics["effective_steps"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.backend_free
def test_with_as_many_steps_it_is_fedavg(tmp_path):
    client = fl.LocalTraining(batch_size=4, max_steps=2, shuffle=False)
    process = process_of(client=client)
    plain = fl.FederatedAveraging(
        q.model(RATE), client=client, executor="sequential"
    )
    one, two = (q.run(p, q.SOME)[0].trainable for p in (process, plain))
    zoo.assert_close(one, two, 1e-5, 1e-6)
    q.assert_resumes(process, tmp_path)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"client": fl.LocalTraining("adam")}, "SGD.*not of the client's Adam"),
        (
            {
                "client": fl.LocalTraining(
                    keras.optimizers.SGD(0.1, weight_decay=0.1)
                )
            },
            "SGD with weight_decay.*regularizers",
        ),
        ({"aggregator": FEEDBACK}, "needs the mean.*ErrorFeedback changes"),
        (
            {"aggregator": ag.Mean(weighting="uniform", denominator=4)},
            "needs the mean.*fixed `denominator`",
        ),
        ({"aggregator": "krum:1"}, "needs the mean.*Krum leaves some"),
        (
            {
                "aggregator": ag.PrivateMean(
                    clip_norm=1.0, noise_multiplier=1.0, clients_per_round=4
                )
            },
            "steps follow from a client's examples",
        ),
    ],
    ids=lambda value: None,
)
def test_what_it_cannot_weigh_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        process_of(**arguments)
