"""Ditto: a personal model near a global one that knows nothing of it."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from tests import zoo
from tests.algorithms import quadratics as q

EXECUTORS = ["sequential", "vectorized"]
FULL_BATCH = {**q.FULL_BATCH, "epochs": 2}


def process_of(model=None, **kwargs):
    kwargs.setdefault("client", fl.LocalTraining(**FULL_BATCH))
    return fl.algorithms.Ditto(model or q.model(), **kwargs)


def closed_form(x, y, w, strength):
    """`(A + strength I)^-1 (A b + strength w)` of a mean squared error."""
    x = q.with_ones(x)
    a, ab = 2 * x.T @ x / len(x), 2 * x.T @ y.ravel() / len(x)
    return np.linalg.solve(a + strength * np.eye(4), ab + strength * w)


@pytest.mark.parametrize(
    ("executor", "strength"), [("sequential", 0.5), ("vectorized", 3.0)]
)
def test_personal_models_end_at_the_closed_form(executor, strength):
    process = process_of(q.model(0.1), strength=strength, executor=executor)
    state = q.run(process, [q.EVERYONE] * 150)[0]
    w = q.flat(state.trainable)
    for i, (x, y) in q.CLIENTS.items():
        expected = closed_form(x, y, w, strength)
        found = q.flat(process.get_model(state, client=i).get_weights())
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        assert np.abs(found - w).max() > 0.05


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_global_model_is_fedavgs_to_the_bit(executor):
    client = fl.LocalTraining("adam", batch_size=4, epochs=2)
    make = (fl.FederatedAveraging, fl.algorithms.Ditto)
    plain, ditto = (
        kind(zoo.classifier(), client, executor=executor) for kind in make
    )
    clients = zoo.clients((8, 5, 4))
    one, two = (
        q.run(p, [clients] * 3, clients=clients)[0] for p in (plain, ditto)
    )
    zoo.assert_equal(two.trainable, one.trainable)
    zoo.assert_equal(two.non_trainable, one.non_trainable)


def test_with_strength_0_clients_train_by_themselves():
    # Keras's own fit, from the server's weights of a client's first round.
    process = process_of(
        zoo.classifier(keras.optimizers.SGD(0.1)),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        strength=0,
        executor="vectorized",
    )
    cohort = zoo.clients((8, 5, 4))
    before, _ = q.run(process, [["client_2"]], clients=cohort)
    state, _ = q.run(process, [cohort] * 3, before, cohort)
    for i in ("client_0", "client_1"):
        alone = process.get_model(before)
        zoo.fit(alone, cohort[i], batch_size=4, epochs=3, shuffle=False)
        own = process.get_model(state, client=i)
        # Statistics, too.
        assert len(own.non_trainable_variables) == 2
        zoo.assert_close(zoo.weights_of(own), zoo.weights_of(alone), atol=1e-5)
    new = process.get_model(state, client="new")
    zoo.assert_equal(zoo.weights_of(new), zoo.weights_in(process, state))


def test_an_optimizer_that_averages_weights_begins_with_the_personal_ones():
    optimizer = keras.optimizers.ScheduleFreeAdamW(0.1)
    client = fl.LocalTraining(optimizer, batch_size=4, shuffle=False)
    ditto = process_of(client=client, strength=0)
    plain = fl.FederatedAveraging(q.model(), client=client)
    before, _ = q.run(ditto, ["013"] * 2)
    after, _ = q.run(ditto, ["013"], before)
    for i in "013":
        own = [np.array(w) for w in before.client_states[i].algorithm.weights]
        alone = plain.initialize()._replace(trainable=own)
        expected, _ = q.run(plain, [i], alone)
        zoo.assert_close(
            after.client_states[i].algorithm.weights, expected.trainable
        )


@pytest.mark.backend_free
def test_evaluation_is_of_personal_models_and_of_the_servers():
    process = process_of()
    state, _ = q.run(process, ["012"] * 3)
    found = process.evaluate(state, q.CLIENTS, per_client=True)
    assert found["without_personal"] == ["3"]
    models = {i: process.get_model(state, client=i) for i in q.CLIENTS}
    for metrics, of in (
        (found, models.get),
        (found["global"], lambda i: process.get_model(state)),
    ):
        losses = {
            i: float(np.mean((of(i).predict(x, verbose=0) - y) ** 2))
            for i, (x, y) in q.CLIENTS.items()
        }
        for i, loss in losses.items():
            one = metrics["per_client"][i]["loss"]
            assert one == pytest.approx(loss, rel=1e-4)
        spread = metrics["statistics"]["loss"]
        worst = max(losses.values())
        assert spread["highest_tenth"] == pytest.approx(worst, rel=1e-4)
        pooled = np.average(list(losses.values()), weights=q.SIZES)
        assert metrics["loss"] == pytest.approx(pooled, rel=1e-4)
    assert "global" not in process.evaluate(state, q.CLIENTS)


@pytest.mark.backend_free
def test_what_fit_logs_of_validation_is_as_of_one_model():
    history = process_of().fit(
        q.CLIENTS, rounds=1, validation_data=q.CLIENTS, verbose=0
    )
    named = {n for n in history.history if n.startswith("val_")}
    assert named == {"val_loss"}
    assert set(history.per_client) == set(q.CLIENTS)


@pytest.mark.backend_free
def test_it_sends_and_gets_what_fedavg_does():
    ditto, plain = (
        q.run(p, [q.EVERYONE])[1]
        for p in (process_of(), fl.FederatedAveraging(q.model()))
    )
    for name in ("bytes_up", "bytes_down"):
        assert ditto[name] == plain[name]


def test_a_client_begins_with_what_it_was_sent():
    process = process_of(
        q.model(1e-9), broadcast_encoders="float16", strength=0
    )
    weights = np.full((3, 1), 0.1001, "float32"), np.zeros(1, "float32")
    state = process.initialize()._replace(trainable=list(weights))
    state, _ = q.run(process, [q.EVERYONE], state)
    kept = state.client_states["0"].algorithm.weights
    sent = np.asarray(weights[0], np.float16).astype(np.float32)
    np.testing.assert_allclose(kept[0], sent, atol=1e-6)


@pytest.mark.backend_free
def test_a_run_that_goes_on_is_the_same_to_the_bit(tmp_path):
    q.assert_resumes(process_of(), tmp_path)


def test_a_personal_model_that_diverges_is_not_kept():
    client = fl.LocalTraining(batch_size=1, epochs=2)
    process = process_of(q.model(1e-3), client=client, strength=1e9)
    state, metrics = process.next(process.initialize(), [q.CLIENTS["0"]])
    assert metrics["num_rejected"] == 1
    for a in state.client_states["0"].algorithm.weights:
        assert np.isfinite(a).all()


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"strength": -1}, "`strength` must be"),
        ({"client": "fedprox:0.1"}, "without `proximal`"),
        (
            {"client": fl.LocalTraining(statistics="local")},
            "statistics of their own",
        ),
        (
            {"client": fl.LocalTraining(dp=fl.clients.ExampleDP(1.0, 1.0))},
            "two gradients of a batch",
        ),
    ],
)
def test_what_two_models_cannot_take_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        process_of(**arguments)
