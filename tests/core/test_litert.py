import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import backend, core
from fedlearn.clients.program import seed_words
from tests import zoo

pytestmark = [
    pytest.mark.integration,
    # Of the interpreter, which has moved to a package of its own.
    pytest.mark.filterwarnings("ignore:(?s).*tf.lite.Interpreter is deprec"),
]
ON_TENSORFLOW = pytest.mark.skipif(
    backend.name != "tensorflow", reason="LiteRT takes its graphs"
)


def process_of(layers, loss, spec, optimizer="sgd"):
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer, loss, metrics=["accuracy"])
    process = fl.FederatedAveraging(
        zoo.set_weights(model),
        client=fl.LocalTraining(batch_size=8, shuffle=False),
    )
    process.build((keras.KerasTensor((4,)), spec))
    return process


def dense(activation, last):
    return [
        keras.layers.Dense(5, activation=activation),
        keras.layers.Dense(3, activation=last),
    ]


@ON_TENSORFLOW
@pytest.mark.parametrize(
    ("layers", "loss", "optimizer", "one_hot"),
    [
        (
            dense("relu", "softmax"),
            "sparse_categorical_crossentropy",
            "sgd",
            False,
        ),
        (dense("tanh", None), "mse", "adam", True),
        (
            [
                keras.layers.Dense(5, activation="relu"),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(3, activation="softmax"),
            ],
            "categorical_crossentropy",
            keras.optimizers.SGD(0.1, momentum=0.9),
            True,
        ),
    ],
    ids=["classes", "regression", "batch_normalization"],
)
def test_a_phone_trains(layers, loss, optimizer, one_hot, tmp_path):
    import tensorflow as tf

    shape, dtype = ((3,), "float32") if one_hot else ((), "int32")
    spec = keras.KerasTensor(shape, dtype)
    process = process_of(layers, loss, spec, optimizer)
    core.from_process(process).plan.save_litert(tmp_path / "client.tflite")
    interpreter = tf.lite.Interpreter(str(tmp_path / "client.tflite"))
    start, step, finish = (
        interpreter.get_signature_runner(n) for n in ("start", "step", "finish")
    )
    broadcast = process.broadcast(process.initialize())
    arrays = zoo.numpy(keras.tree.flatten(broadcast.sent))
    sent = {f"sent_{i}": a for i, a in enumerate(arrays)}
    for n in (20, 1):
        x, y = zoo.points(n)
        y = np.eye(3, dtype="float32")[y] if one_hot else y
        carry = start(**sent, seed_0=seed_words(7))
        for rows in (slice(i, i + 8) for i in range(0, n, 8)):
            carry = step(**sent, **carry, batch_0=x[rows], batch_1=y[rows])
        message = finish(
            **sent, **carry, num_examples_0=np.int32(n), seed_0=seed_words(7)
        )
        found = [message[f"message_{i}"] for i in range(len(message))]
        expected, _ = process.client_message(broadcast, (x, y), 7)
        zoo.assert_close(found, keras.tree.flatten(expected))


@ON_TENSORFLOW
@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (keras.layers.Dropout(0.2), "no operators of its own for StatelessRan"),
        (keras.layers.Dense(2, activation="elu"), "EluGrad"),
    ],
)
def test_what_a_phone_cannot_train(layer, why, tmp_path):
    spec = keras.KerasTensor((3,), "float32")
    process = process_of([layer, keras.layers.Dense(3)], "mse", spec)
    plan = core.from_process(process).plan
    with pytest.raises(ValueError, match=why):
        plan.save_litert(tmp_path / "client.tflite")


@pytest.mark.skipif(backend.name != "jax", reason="is refused on JAX")
def test_takes_graphs_of_tensorflow(tmp_path):
    spec = keras.KerasTensor((3,), "float32")
    plan = core.from_process(process_of(dense("relu", None), "mse", spec)).plan
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
        plan.save_litert(tmp_path / "client.tflite")
