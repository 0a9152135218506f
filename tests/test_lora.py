"""Keras's `enable_lora`: only adapters are trained, sent and broadcast."""

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn.messages import wire
from tests import zoo


def model_of(rank=2):
    layer = keras.layers.Dense(50, activation="tanh")
    model = keras.Sequential(
        [keras.Input((4,)), layer, keras.layers.Dense(3, activation="softmax")]
    )
    zoo.set_weights(model)
    layer.enable_lora(rank)
    layer.lora_kernel_a.assign(np.full((4, rank), 0.5))
    model.layers[1].trainable = False
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
def test_a_round_is_keras_fit_and_sends_adapters_only(executor, tmp_path):
    client = fl.LocalTraining(batch_size=4, epochs=2, shuffle=False)
    process = fl.FederatedAveraging(model_of(), client, executor=executor)
    data = zoo.points(12)
    state, metrics = process.next(process.initialize(), [data])

    fitted = model_of()
    before = zoo.weights_of(fitted)
    zoo.fit(fitted, data, batch_size=4, epochs=2, shuffle=False)
    zoo.assert_close(zoo.weights_in(process, state), zoo.weights_of(fitted))
    # The bias and both factors moved, and nothing else.
    shapes = [(50,), (4, 2), (2, 50)]
    assert [s.shape for s in process.update_spec] == shapes
    after = zoo.weights_in(process, state)
    moved = [
        a.shape for a, b in zip(after, before, strict=True) if (a != b).any()
    ]
    assert sorted(moved) == sorted(shapes)

    # Frozen weights (353 numbers) are no part of what is sent.
    numbers = 50 + 4 * 2 + 2 * 50
    for name in ("bytes_down", "bytes_up"):
        assert 4 * numbers < metrics[name] < 4 * numbers + 250
    broadcast = process.broadcast(state)
    assert len(wire.pack(broadcast.sent)) == metrics["bytes_down"]

    # Whoever gets the bytes only, and the model once, trains the same.
    spec = wire.unpack(wire.pack(broadcast.sent), like=process.broadcast_spec)
    elsewhere = fl.FederatedAveraging(model_of(), client, executor=executor)
    one, two = (
        p.client_message(b, data, seed=1)[0]
        for p, b in ((process, broadcast), (elsewhere, spec))
    )
    zoo.assert_equal(one, two)

    model = process.get_model(state)
    assert [v.shape for v in model.trainable_variables] == shapes
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = data[0]
    zoo.assert_close(
        [loaded.predict(x, verbose=0)], [model.predict(x, verbose=0)]
    )
    zoo.assert_close(
        [model.predict(x, verbose=0)], [fitted.predict(x, verbose=0)]
    )


@pytest.mark.parametrize("frozen", [True, False])
def test_the_mean_of_kernels_is_exact_with_one_factor_trained(frozen):
    model = model_of()
    model.layers[0].lora_kernel_a.trainable = not frozen
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    client = fl.LocalTraining(batch_size=4, shuffle=False)
    process = fl.FederatedAveraging(model, client)
    clients = zoo.clients((8, 8))

    def kernel(cohort):
        state, _ = process.next(process.initialize(), cohort)
        return np.array(process.get_model(state).layers[0].kernel)

    alone = [kernel({i: data}) for i, data in clients.items()]
    away = np.abs(kernel(clients) - np.mean(alone, axis=0)).max()
    assert (away < 1e-6) == frozen
