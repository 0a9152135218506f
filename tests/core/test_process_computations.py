import subprocess
import sys

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import backend, core
from fedlearn.clients.program import seed_words
from tests import zoo


def private():
    """Noise, encoders both ways, and rates that change from round to round."""
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    return fl.FederatedAveraging(
        zoo.regression(),
        client=fl.LocalTraining(
            keras.optimizers.SGD(rate), batch_size=4, epochs=2
        ),
        aggregator=fl.aggregators.PrivateMean(
            clip_norm="adaptive",
            noise_multiplier=0.7,
            clients_per_round=2,
            encoders="rotation+uniform:8",
        ),
        privacy=fl.privacy.Privacy(delta=1e-3, private_metrics=True),
        broadcast_encoders="uniform:8",
        server_optimizer="fedadam:0.01",
    )


def scaffold():
    return fl.algorithms.Scaffold(
        zoo.regression(), client=fl.LocalTraining(batch_size=4), population=3
    )


def mimelite():
    """Clients look at all their examples before the first step."""
    return fl.algorithms.MimeLite(
        zoo.regression(keras.optimizers.SGD(0.1, momentum=0.9)),
        client=fl.LocalTraining(batch_size=4),
    )


def simulated(next):
    """`next`, in which the server keeps what clients keep."""

    @core.federated_computation(*next.type.parameter.elements)
    def collecting(state, drawn, clients):
        state, metrics, kept = next(state, drawn, clients)
        return state, metrics, core.federated_collect(kept)

    return collecting


@pytest.mark.parametrize(
    ("build", "make", "sizes"),
    [
        # With BatchNormalization, two epochs but three steps.
        pytest.param(zoo.classifier_process, zoo.points, (9, 9), id="fedavg"),
        pytest.param(
            private, zoo.line, (9, 9), id="private", marks=pytest.mark.slow
        ),
        pytest.param(scaffold, zoo.line, (9, 9), id="scaffold"),
        # One of whole batches alone.
        pytest.param(
            mimelite,
            zoo.line,
            (9, 8),
            id="mimelite",
            marks=pytest.mark.backend_free,
        ),
    ],
)
def test_next_is_that_of_the_process(build, make, sizes, tmp_path):
    process, data = build(), zoo.clients(sizes, make)
    process.build(data.element_spec)
    computations = core.from_process(process)
    next = computations.next
    if keeps := bool(computations.plan.kept.elements):
        with pytest.raises(TypeError, match="can't be looked at"):
            next({}, [], [])
        next = simulated(next)
    seed = 2**33 + 5
    state = process.initialize(seed)
    found, kept = computations.initialize(np.array([5, 2], "uint32")), {}
    assert computations.state(state)["seed"].tolist() == [5, 2]
    for _ in range(2):
        state, metrics = process.next(state, data)
        found, told, *more = next(found, *computations.draw(found, data, kept))
        for n, client_id in enumerate(data if keeps else ()):
            kept[client_id] = [a[n] for a in more[0]]
            expected = keras.tree.flatten(state.client_states[client_id])
            zoo.assert_close(kept[client_id], zoo.numpy(expected))
        assert not any(n.startswith("bytes") for n in told)
        without = {n: v for n, v in metrics.items() if "bytes" not in n}
        assert told == pytest.approx(without, rel=1e-5)
        after = computations.server_state(found)
        pairs = (
            keras.tree.flatten(s._replace(client_states=()))
            for s in (after, state)
        )
        zoo.assert_close(*map(zoo.numpy, pairs))
    assert int(after.seed) == seed
    computations.next.save(tmp_path / "next.flc")  # nothing but operations


@pytest.mark.backend_free
def test_what_is_no_computation():
    data = zoo.clients((9,), zoo.line)
    model = zoo.regression()
    average = fl.FederatedAveraging(model)
    with pytest.raises(ValueError, match=r"process\.build\(data"):
        core.from_process(average)
    for process, why in {
        fl.FederatedAveraging(model, aggregator="median"): "side by side",
        fl.FederatedAveraging(
            model, client=fl.LocalTraining(dp=fl.clients.ExampleDP(1.0, 0.5))
        ): "whole epochs",
        # Whose batches of 9 examples are as long as if it had none of its own.
        fl.algorithms.FedRecon(
            model,
            client=fl.LocalTraining(batch_size=4),
            personal=lambda path: "bias" in path,
            reconstruct_steps=1,
        ): "whole epochs",
        fl.FederatedAveraging(
            model,
            client=fl.LocalTraining(
                dp=fl.clients.ExampleDP(1.0, 0.5, batches="shuffled")
            ),
        ): "`dp`",
        fl.algorithms.FedNova(
            model,
            aggregator=fl.aggregators.SecureSum(
                value_range=1.0, clients_per_round=2
            ),
        ): "clips",
        fl.algorithms.Mime(model): "`next` of its own",
        fl.FederatedAveraging(
            model,
            aggregator=fl.aggregators.Mean(
                [fl.encoders.Skellam(1.0, 1.0, 5)], "uniform", 5.0
            ),
        ): "shares of noise",
    }.items():
        process.build(data.element_spec)
        with pytest.raises(ValueError, match=why):
            core.from_process(process)


def two_losses():
    inputs = {n: keras.Input((1,), name=n) for n in "ba"}
    joined = keras.layers.Concatenate()(list(inputs.values()))
    outputs = {
        n: keras.layers.Dense(1, name=n)(joined) for n in ("sum", "product")
    }
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"sum": "mse", "product": "mae"})
    x = {n: np.arange(5.0)[:, None].astype("float32") for n in "ab"}
    y = {"sum": x["a"] + x["b"], "product": x["a"] * x["b"]}
    data = fl.FederatedDataset.from_clients({"a": (x, y)})
    process = fl.FederatedAveraging(
        zoo.set_weights(model),
        client=fl.LocalTraining(batch_size=2, shuffle=False),
    )
    process.build(data.element_spec)
    return process, data


def test_several_inputs_and_losses():
    process, data = two_losses()
    if backend.name == "tensorflow":
        with pytest.raises(ValueError, match="several losses"):
            core.from_process(process)
        return
    computations = core.from_process(process)
    state = process.initialize()
    drawn = computations.draw(computations.state(state), data)
    found, told = computations.next(computations.state(state), *drawn)
    expected, metrics = process.next(state, data)
    zoo.assert_close(found["trainable"], zoo.numpy(expected.trainable))
    assert told["sum_loss"] == pytest.approx(metrics["sum_loss"], rel=1e-5)


@pytest.mark.backend_free
def test_clients_that_the_process_would_refuse_or_pass_over():
    process = fl.FederatedAveraging(
        zoo.regression(),
        aggregator=fl.aggregators.SecureSum(
            value_range=1.0, clients_per_round=2
        ),
    )
    process.build(zoo.spec_of(zoo.line(1)))
    computations = core.from_process(process)
    state = computations.state(process.initialize())
    room = process.aggregator.encoders[-1].room
    with pytest.raises(ValueError, match="may wrap around"):
        computations.draw(state, zoo.clients([1] * (room + 1), zoo.line))
    nobody = tuple(a[:0] for a in zoo.line(1))
    with pytest.raises(ValueError, match="Client '1' has no examples"):
        computations.draw(state, [zoo.line(2), nobody])


DEVICE = """
import sys, jax, numpy
from jax import export
given = numpy.load("given.npz")
start, step, finish = (
    export.deserialize(bytearray(f)).call
    for f in numpy.load("client.npz").values()
)
sent = [given[f"sent_{i}"] for i in range(int(given["num_sent"]))]
for n in (20, 13, 8, 1):
    x, y, seed = given[f"x_{n}"], given[f"y_{n}"], given["seed"]
    carry = start(*sent, seed)
    for rows in (slice(i, i + 8) for i in range(0, n, 8)):
        carry = step(*sent, *carry, x[rows], y[rows])
    message = finish(*sent, *carry, numpy.int32(n), seed)
    numpy.savez(f"message_{n}.npz", *message)
assert not {"keras", "fedlearn", "tensorflow"} & set(sys.modules)
"""


@pytest.mark.skipif(backend.name != "jax", reason="a file of jax.export")
@pytest.mark.integration
@pytest.mark.slow
def test_a_client_needs_neither_keras_nor_fedlearn(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    process = fl.FederatedAveraging(
        zoo.set_weights(model),
        client=fl.LocalTraining(batch_size=8, shuffle=False),
    )
    process.build(zoo.spec_of(zoo.points(1)))
    core.from_process(process).plan.save(tmp_path / "client.npz")
    broadcast = process.broadcast(process.initialize())
    sent = zoo.numpy(keras.tree.flatten(broadcast.sent))
    given = {f"sent_{i}": a for i, a in enumerate(sent)}
    given.update(num_sent=len(sent), seed=seed_words(7))
    for n in (20, 13, 8, 1):
        given[f"x_{n}"], given[f"y_{n}"] = zoo.points(n)
    np.savez(tmp_path / "given.npz", **given)
    subprocess.run([sys.executable, "-c", DEVICE], cwd=tmp_path, check=True)
    for n in (20, 13, 8, 1):
        found = np.load(tmp_path / f"message_{n}.npz").values()
        message, _ = process.client_message(broadcast, zoo.points(n), 7)
        for a, b in zip(found, keras.tree.flatten(message), strict=True):
            np.testing.assert_array_equal(a, b)
