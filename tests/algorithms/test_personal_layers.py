"""FedPer and FedBN: what is a client's own stays with it."""

import json

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import aggregators as ag
from fedlearn import encoders as en
from fedlearn.backend.compile_clock import clock
from fedlearn.messages import wire
from tests import zoo
from tests.algorithms import quadratics as q

EXECUTORS = ["sequential", "vectorized"]
ONE_STEP = {"batch_size": 100, "shuffle": False}


def is_bias(path):
    return path.endswith("bias")


def process_of(model=None, **kwargs):
    kwargs.setdefault("client", fl.LocalTraining(**ONE_STEP))
    kwargs.setdefault("personal", is_bias)
    return fl.algorithms.FedPer(model or q.model(), **kwargs)


def run(process, rounds, cohort=q.CLIENTS, state=None):
    state = process.initialize(seed=1) if state is None else state
    for _ in range(rounds):
        state, metrics = process.next(state, cohort)
    return state, metrics


def with_dummies():
    """Least squares of one kernel, and a bias of each client's own."""
    rows, labels = [], []
    for i, (x, y) in enumerate(q.CLIENTS.values()):
        dummies = np.zeros((len(x), len(q.CLIENTS)))
        dummies[:, i] = 1
        rows.append(np.c_[x, dummies])
        labels.append(y.ravel())
    found, *_ = np.linalg.lstsq(np.vstack(rows), np.hstack(labels), rcond=None)
    return found[:3], dict(zip(q.CLIENTS, found[3:], strict=True))


@pytest.mark.backend_free
def test_own_biases_end_at_least_squares_with_dummies():
    # The kernel takes a step of the sum's gradient, each bias of its own.
    process = process_of(q.model(0.1), executor="sequential")
    state, _ = run(process, 350)
    kernel, biases = with_dummies()
    np.testing.assert_allclose(
        np.ravel(state.trainable[0]), kernel, rtol=1e-3, atol=1e-3
    )
    losses = {}
    for i, (x, y) in q.CLIENTS.items():
        (own,) = state.client_states[i].personal
        np.testing.assert_allclose(own, [biases[i]], rtol=1e-3, atol=1e-3)
        model = process.get_model(state, client=i)
        zoo.assert_equal(zoo.weights_of(model)[1:], [own])
        error = x @ kernel + biases[i] - y.ravel()
        losses[i] = float(np.mean(error**2))
    found = process.evaluate(state, q.CLIENTS, per_client=True)
    for i, loss in losses.items():
        assert found["per_client"][i]["loss"] == pytest.approx(loss, rel=1e-3)
    sizes = dict(zip(q.CLIENTS, q.SIZES, strict=True))
    pooled = sum(losses[i] * n for i, n in sizes.items()) / sum(q.SIZES)
    assert found["loss"] == pytest.approx(pooled, rel=1e-3)


@pytest.mark.backend_free
def test_pooled_data_are_no_client_that_was_trained():
    import tensorflow as tf

    process = process_of(executor="sequential")
    pooled = tuple(map(np.concatenate, zip(*q.CLIENTS.values(), strict=True)))
    process.fit(q.CLIENTS, 3, verbose=0)
    server = process.get_model()
    of_server = pytest.approx(fl.evaluate(server, [pooled])["loss"], rel=1e-6)
    found = process.evaluate([pooled], per_client=True)
    assert found["loss"] == of_server
    assert found["without_personal"] == ["0"]
    # A list with a place for each of them is theirs.
    listed = process.evaluate([*q.CLIENTS.values()], per_client=True)
    assert listed == process.evaluate(q.CLIENTS, per_client=True)
    assert listed["without_personal"] == []
    data = tf.data.Dataset.from_tensor_slices(pooled).batch(8)
    for validation in (pooled, data):
        process.fit(q.CLIENTS, 1, validation_data=validation, verbose=0)
        (loss,) = process.model.history.history["val_loss"]
        after = fl.evaluate(process.get_model(), [pooled])["loss"]
        assert loss == pytest.approx(after, rel=1e-6)


@pytest.mark.backend_free
def test_fit_evaluates_each_client_once(monkeypatch):
    process = process_of(executor="sequential")
    counted, count = [], process.functional_model.count_batch
    monkeypatch.setattr(
        process.functional_model,
        "count_batch",
        lambda *args: counted.append(1) or count(*args),
    )
    process.fit(q.CLIENTS, 2, validation_data=q.CLIENTS, verbose=0)
    assert len(counted) == 2 * len(q.CLIENTS)


@pytest.mark.backend_free
def test_fine_tuning_is_compiled_once():
    process = process_of(executor="sequential")

    def tuned(epochs):
        training = fl.LocalTraining(batch_size=4, epochs=epochs)
        found = process.evaluate(
            process.initialize(), q.CLIENTS, fine_tune=training
        )
        return found["loss"], clock.seconds

    one, two, three = tuned(2), tuned(2), tuned(3)
    assert one == two
    assert three[0] != two[0]
    assert three[1] > two[1]
    process.model.optimizer.learning_rate = 0.001
    assert tuned(2)[0] != two[0]


def test_a_client_that_is_new_has_the_models_own():
    process = process_of()
    state, _ = run(process, 3)
    zoo.assert_equal(state.trainable[1:], process.initialize().trainable[1:])
    new = zoo.weights_of(process.get_model(state, client="new"))
    zoo.assert_equal(new, state.trainable)


@pytest.mark.backend_free
def test_it_is_neither_sent_nor_broadcast_nor_counted():
    process = process_of(executor="sequential")
    plain = fl.FederatedAveraging(q.model(), executor="sequential")
    assert [s.shape for s in process.update_spec] == [(3, 1)]
    state, few = run(process, 1)
    _, many = run(plain, 1)
    for name in ("bytes_up", "bytes_down"):
        assert few[name] <= many[name] - 4 * 4
    broadcast = process.broadcast(state)
    assert [a.shape for a in broadcast.sent.trainable] == [(3, 1)]
    assert few["bytes_down"] == 4 * len(wire.pack(broadcast.sent))


@pytest.mark.parametrize(
    "aggregator",
    [
        ag.PrivateMean(
            clip_norm=1.0, noise_multiplier=1.0, clients_per_round=4
        ),
        ag.Mean([en.ErrorFeedback([en.TopK(0.5)]), en.EntropyCoding()]),
        ag.Median(),
    ],
    ids=lambda a: type(a).__name__,
)
def test_what_is_done_to_updates_is_not_done_to_it(aggregator):
    # In the first round clients start alike, whatever the server does then.
    plain, other = (
        run(process_of(aggregator=a), 1)[0] for a in (None, aggregator)
    )
    for i in q.CLIENTS:
        zoo.assert_close(
            other.client_states[i].personal, plain.client_states[i].personal
        )
    assert np.abs(other.trainable[0] - plain.trainable[0]).max() > 1e-4


def test_neither_fedprox_nor_the_server_pulls_at_it():
    client = fl.LocalTraining(**ONE_STEP, epochs=1, proximal=1e3)
    state, _ = run(
        process_of(
            q.model(1e-4),
            client=client,
            server_optimizer=keras.optimizers.AdamW(0.1, weight_decay=0.1),
        ),
        1,
    )
    zoo.assert_equal(state.trainable[1:], [np.zeros(1, "float32")])
    free, held = (
        run(
            process_of(
                q.model(1e-4),
                client=fl.LocalTraining(
                    batch_size=100, epochs=3, shuffle=False, proximal=mu
                ),
            ),
            1,
        )[0]
        for mu in (0.0, 1e3)
    )
    assert np.abs(held.trainable[0] - free.trainable[0]).max() > 1e-6
    for i, (x, _) in q.CLIENTS.items():
        (own,), (other,) = (s.client_states[i].personal for s in (held, free))
        # Nearly: by way of the kernel only, which hardly moves.
        own, other = np.asarray(own), np.asarray(other)
        assert own == pytest.approx(other, rel=1e-2, abs=1e-4), len(x)


@pytest.mark.backend_free
def test_a_run_that_goes_on_is_the_same_to_the_bit(tmp_path):
    process = process_of()
    state, _ = run(process, 2)
    process.save_state(state, tmp_path / "state")
    other = process_of()
    loaded = other.load_state(tmp_path / "state")
    one, two = (
        run(p, 2, state=s)[0] for p, s in ((process, state), (other, loaded))
    )
    zoo.assert_equal(two.trainable, one.trainable)
    for i in q.CLIENTS:
        zoo.assert_equal(
            two.client_states[i].personal, one.client_states[i].personal
        )


def batch_norms():
    return zoo.classifier(keras.optimizers.SGD(0.1))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_fedbn_is_keras_fit_at_each_client(executor):
    process = fl.algorithms.FedBN(
        batch_norms(),
        client=fl.LocalTraining(batch_size=8, shuffle=False),
        executor=executor,
    )
    cohort = zoo.clients((8, 12, 7))
    state, _ = process.next(process.initialize(), cohort)
    models = {i: batch_norms() for i in cohort}
    for i, model in models.items():
        zoo.fit(model, cohort[i], batch_size=8, shuffle=False)
    shared = [0, 1, 4, 5]
    trained = {i: zoo.numpy(m.trainable_variables) for i, m in models.items()}
    for k in shared:
        mean = sum(len(cohort[i][1]) / 27 * trained[i][k] for i in models)
        zoo.assert_close([state.trainable[k]], [mean])
    for i, model in models.items():
        own = [*trained[i][2:4], *zoo.numpy(model.non_trainable_variables)]
        zoo.assert_close(state.client_states[i].personal, own)
    zoo.assert_equal(state.trainable[2:4], process.initialize().trainable[2:4])


@pytest.mark.backend_free
@pytest.mark.parametrize(
    "personal",
    [
        "batch_normalization",
        keras.layers.BatchNormalization,
        ["BatchNormalization"],
        lambda path: "batch_normalization" in path,
    ],
    ids=["name", "class", "class name", "path"],
)
def test_ways_to_say_what_is_personal(personal):
    model = batch_norms()
    model.layers[1].name = "batch_normalization"
    process = fl.algorithms.FedPer(model, personal=personal)
    assert [s.shape for s in process.update_spec] == [
        (4, 5),
        (5,),
        (5, 3),
        (3,),
    ]


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("personal", "match"),
    [
        ("head", r"No variable.*by 'head'.*layers are \['line'\]"),
        (keras.layers.Dense, "All trained weights.*share nothing"),
    ],
)
def test_nothing_and_everything_are_refused(personal, match):
    with pytest.raises(ValueError, match=match):
        process_of(personal=personal)


@pytest.mark.backend_free
@pytest.mark.parametrize("kind", ["FedPer", "FedBN"])
def test_they_are_made_again_from_their_configs(kind):
    model = batch_norms()
    process = (
        fl.algorithms.FedBN(model)
        if kind == "FedBN"
        else fl.algorithms.FedPer(model, personal=[model.layers[0].name])
    )
    config = json.loads(json.dumps(process.get_config()))
    copy = fl.LearningProcess.from_config(config)
    assert type(copy).__name__ == kind
    assert copy.algorithm == process.algorithm


@pytest.mark.backend_free
def test_one_misspelt_layer_among_others_is_told():
    layers = [
        keras.layers.Dense(n, name=name)
        for n, name in ((2, "head"), (1, "out"))
    ]
    model = keras.Sequential([keras.Input((2,)), *layers])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"in it \['haed'\]"):
        fl.algorithms.FedPer(model, personal=["out", "haed"])
