import keras
import numpy as np
import pytest
from keras import ops

import fedlearn as fl
from fedlearn import backend, core, seeds
from tests import zoo

DATA = zoo.clients((5, 5, 5), zoo.line)
MODEL = zoo.regression()
WEIGHTS = core.to_type(MODEL.trainable_variables)
STATE = {"rounds": "int32", "model": WEIGHTS}
SEED = core.FederatedType(("uint32", (2,)), core.SERVER)


@core.federated_computation()
def initialize():
    start = {"rounds": 0, "model": MODEL.get_weights()}
    return core.federated_value(start, core.SERVER)


@core.federated_computation(core.FederatedType(STATE, core.SERVER), DATA)
def descend(state, data):
    """One step of gradient descent, and its loss."""

    def loss(weights, x, y):
        return ops.mean((x @ weights[0] + weights[1] - y) ** 2), ()

    def gradient(weights, examples):
        (value, _), found = backend.value_and_grad(loss)(
            list(weights), *examples
        )
        return found, value

    def step(state, gradients):
        pairs = zip(state["model"], gradients, strict=True)
        return {
            "rounds": state["rounds"] + 1,
            "model": [w - 0.1 * g for w, g in pairs],
        }

    sent = core.federated_broadcast(state.model)
    found, value = core.federated_map(gradient, (sent, data))
    mean = core.federated_mean(found)
    after = core.federated_apply(step, (state, mean))
    return after, {"loss": core.federated_mean(value)}


@pytest.fixture(scope="module")
def process():
    return core.as_process(initialize, descend, MODEL)


def test_fit_is_gradient_descent(process, tmp_path):
    best = keras.callbacks.EarlyStopping("val_loss", patience=1)
    history = process.fit(
        DATA,
        rounds=3,
        clients_per_round=2,
        validation_data=DATA,
        callbacks=[best],
        verbose=0,
        seed=7,
        initial_state=process.initialize(7),
    )
    sampler = fl.samplers.Uniform(DATA, 2, seed=7)
    weights = zoo.numpy(zoo.regression().trainable_variables)
    for round_num in range(3):
        drawn = [DATA[i] for i in sampler.sample(round_num)]
        found = [zoo.gradient(weights, data) for data in drawn]
        errors = [x @ weights[0] + weights[1] - y for x, y in drawn]
        loss = np.mean([np.mean(e**2) for e in errors])
        assert history.history["loss"][round_num] == pytest.approx(loss, 1e-5)
        weights = [
            w - 0.1 * np.mean(g, axis=0)
            for w, g in zip(weights, zip(*found, strict=True), strict=True)
        ]
    zoo.assert_close(process.value(process.state)["model"], weights)
    zoo.assert_close(zoo.weights_of(process.model), weights)
    expected = fl.evaluate(process.model, DATA)["loss"]
    assert history.history["val_loss"][-1] == pytest.approx(expected)
    assert process.value(process.state)["rounds"] == 3


def test_a_resumed_run_equals_an_unbroken_one(process, tmp_path):
    def run(rounds, folder, fresh=None):
        process.state = None
        process.fit(
            DATA,
            rounds=rounds,
            clients_per_round=1,
            verbose=0,
            checkpoint_dir=tmp_path / folder,
            initial_state=fresh,
        )
        return process.value(process.state)

    whole = run(4, "whole", process.initialize())
    run(2, "parts", process.initialize())
    zoo.assert_equal(run(4, "parts"), whole)
    with pytest.raises(ValueError, match="another run: next was"):
        core.as_process(initialize, noisy, MODEL).fit(
            DATA, 5, verbose=0, checkpoint_dir=tmp_path / "parts"
        )


@core.federated_computation(core.FederatedType(STATE, core.SERVER), SEED, DATA)
def noisy(state, seed, data):
    count = core.federated_sum(
        core.federated_map(lambda x, y: ops.shape(x)[0] * 0 + 1, data)
    )
    word = core.federated_apply(
        lambda s: ops.cast(ops.right_shift(s[0], 8), "float32"), seed
    )
    return state, {"clients": count, "word": word}


@pytest.mark.backend_free
def test_without_a_model():
    @core.federated_computation(SEED)
    def begin(seed):
        return seed

    @core.federated_computation(SEED, SEED, "{int32}@CLIENTS")
    def next(state, seed, values):
        total = core.federated_sum(values)
        return seed, {"total": total}

    process = core.as_process(begin, next)
    start = process.initialize(2**33 + 5)
    assert process.value(start).tolist() == [5, 2]
    data = {str(i): np.array(i) for i in range(3)}
    first, metrics = process.next(start, data)
    assert metrics == {"total": 3.0}
    second, _ = process.next(first, data)
    words = [process.value(s).tolist() for s in (first, second)]
    for round_num, (low, high) in enumerate(words):
        drawn = seeds.fold(2**33 + 5, "computation", round_num)
        assert high << 32 | low == drawn
    again, _ = process.next(start, data)
    assert process.value(again).tolist() == words[0]
    with pytest.raises(ValueError, match="no model"):
        process.evaluate(start, [zoo.line(3)])


@pytest.mark.backend_free
def test_nobody_takes_part(process):
    state = process.initialize()
    empty = (
        s for s in range(99) if not fl.samplers.Poisson(DATA, 1, s).sample(0)
    )
    sampler = fl.samplers.Poisson(DATA, 1, next(empty))
    turn = process.schedule(DATA, sampler).next(process, state, DATA)
    after, metrics, clients = turn
    assert (metrics, clients, int(after.round_num)) == ({}, {}, 1)
    zoo.assert_equal(process.value(after), process.value(state))


@pytest.mark.backend_free
def test_pairs_that_do_not_fit():
    number = core.FederatedType("float32", core.SERVER)
    values = core.FederatedType("float32", core.CLIENTS)

    def pair(starts, *takes, gives):
        begin = core.federated_computation()(
            lambda: core.federated_value(starts, core.SERVER)
        )
        return begin, core.federated_computation(*takes)(gives)

    def mean(state, x):
        return core.federated_mean(x), {"mean": core.federated_mean(x)}

    def integer(state, x):
        return core.federated_apply(lambda s: ops.cast(s, "int32"), state), {
            "mean": core.federated_mean(x)
        }

    def nameless(state, x):
        return state, core.federated_mean(x)

    def nested(state, x):
        return state, {"all": {"mean": core.federated_mean(x)}}

    for starts, gives, why in [
        (0, mean, "`initialize` must give the state .*\n.*float32\n.*int32"),
        (0.0, integer, "`next` must give the state .*\n.*float32\n.*int32"),
        (0.0, nameless, "numbers with names"),
        (0.0, nested, "numbers with names"),
        (0.0, lambda s, x: s, r"`next` must be \(<S@SERVER, {D}@CLIENTS>"),
    ]:
        with pytest.raises(core.FederatedTypeError, match=why):
            core.as_process(*pair(starts, number, values, gives=gives))
    fitting = pair(0.0, number, values, gives=mean)
    with pytest.raises(core.FederatedTypeError, match="an element `model`"):
        core.as_process(*fitting, MODEL)
    with pytest.raises(ValueError, match="`conditions` are of a Learning"):
        core.as_process(*fitting).fit([1.0], 1, conditions="phones")
