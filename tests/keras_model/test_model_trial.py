"""What Keras's `fit` takes is taken."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import fedlearn as fl
from tests import zoo


class Penalty(layers.Layer):
    def call(self, x):
        self.add_loss(ops.mean(ops.square(x)))
        return x


def trained(model, data):
    process = fl.FederatedAveraging(
        model,
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        executor="sequential",
    )
    state, metrics = process.next(process.initialize(), [data])
    return zoo.weights_in(process, state), metrics


def test_add_loss_is_all_the_loss_there_is():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(2, kernel_regularizer="l2"), Penalty()]
    )
    model.compile(keras.optimizers.SGD(0.1))
    zoo.set_weights(model)
    data = (zoo.points(8)[0],)
    weights, metrics = trained(model, data)
    evaluated = fl.evaluate(model, [data], batch_size=4)["loss"]
    process = fl.FederatedAveraging(
        model, client=fl.LocalTraining(batch_size=4, shuffle=False)
    )
    history = process.fit([data], 1, verbose=0).history
    zoo.assert_close(zoo.weights_of(model), weights)
    zoo.set_weights(model)
    model.run_eagerly = keras.backend.backend() == "tensorflow"
    x = data[0]
    assert evaluated == pytest.approx(
        model.evaluate(x, batch_size=4, verbose=0), rel=1e-5
    )
    expected = zoo.fit(model, data, batch_size=4, shuffle=False)
    zoo.assert_close(weights, zoo.weights_of(model))
    zoo.assert_same_metrics(metrics, expected)
    assert history["loss"] == pytest.approx([expected["loss"]], rel=1e-5)


@pytest.mark.parametrize("shape", [(8,), (8, 1), (8, 1, 1)])
def test_inputs_whose_rank_keras_adjusts(shape):
    def make():
        model = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        return zoo.set_weights(model)

    x = np.linspace(0, 1, 8, dtype="float32").reshape(shape)
    model = make()
    try:
        zoo.fit(model, (x, np.ones(8, "float32")), batch_size=4, shuffle=False)
    except ValueError:
        with pytest.raises(ValueError, match="inputs of client '0'"):
            trained(make(), (x, np.ones(8, "float32")))
    else:
        weights, _ = trained(make(), (x, np.ones(8, "float32")))
        zoo.assert_close(weights, zoo.weights_of(model))


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow has text"
)
@pytest.mark.parametrize("mode", ["multi_hot", "tf_idf", "count", "int"])
def test_text_whose_static_shape_keras_has_wrong(mode):
    def make():
        words = layers.TextVectorization(
            max_tokens=6, output_mode=mode, output_sequence_length=None
        )
        words.adapt(["good day", "bad night", "so so day"])
        last = [layers.Dense(1)]
        if mode == "int":
            last = [layers.Embedding(6, 1), layers.GlobalAveragePooling1D()]
        model = keras.Sequential(
            [keras.Input((), dtype="string"), words, *last]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse")
        return zoo.set_weights(model)

    x = np.array(["good day", "bad", "so so", "night"] * 2)
    data = x, np.linspace(0, 1, 8, dtype="float32")[:, None]
    model = make()
    model.run_eagerly = True
    for i in (0, 4):
        model.train_on_batch(
            ops.convert_to_tensor(x[i : i + 4]), data[1][i : i + 4]
        )
    expected = zoo.numpy(model.trainable_variables)
    process = fl.FederatedAveraging(
        make(),
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        executor="sequential",
    )
    state, _ = process.next(process.initialize(), [data])
    zoo.assert_close(zoo.numpy(state.trainable), expected)


@pytest.mark.parametrize(
    ("outputs", "labels", "refused"),
    [
        ((), (8,), True),  # a mean over the batch
        ((), (8, 1), False),
        ((1,), (8,), False),
        ((1, 1), (8,), True),  # each with the labels of all others
        ((1, 1), (8, 1), False),
    ],
)
def test_a_metric_over_a_batch_for_lack_of_an_axis_is_refused(
    outputs, labels, refused
):
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(1),
            keras.layers.Reshape(outputs),
        ]
    )
    model.compile("sgd", "mse", metrics=["mae"])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 2)).astype("float32")
    y = rng.normal(size=labels).astype("float32")
    if refused:
        with pytest.raises(ValueError, match=r"'mae' can't be.*last axis"):
            fl.evaluate(model, [(x, y)])
        return
    found = fl.evaluate(model, [(x, y)], batch_size=3)["mae"]
    error = model.predict(x, verbose=0).reshape(8) - y.reshape(8)
    np.testing.assert_allclose(found, np.mean(np.abs(error)), rtol=1e-5)


def test_a_metric_whose_result_asks_what_it_counted_is_refused():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model.compile("sgd", "mse", metrics=[keras.metrics.R2Score(None, 1)])
    x, _ = zoo.points(4)
    with pytest.raises(ValueError, match=r"'r2_score' can't.*num_regressors"):
        fl.evaluate(model, [(x, x[:, :2])])


def test_a_loss_that_is_no_number():
    """Keras's own `fit` takes it on TensorFlow, and on JAX it doesn't."""
    loss = keras.losses.MeanSquaredError(reduction=None)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model.compile("sgd", loss)
    x, _ = zoo.points(4)
    if keras.backend.backend() == "jax":
        with pytest.raises(ValueError, match=r"loss has the shape \(\d,\)"):
            trained(model, (x, x[:, :2]))
    else:
        trained(model, (x, x[:, :2]))
