import keras
import numpy as np
import pytest
from keras import layers, losses, ops

import fedlearn as fl
from tests import zoo


def twice(y_true, y_pred):
    return 2.0 * losses.sparse_categorical_crossentropy(y_true, y_pred)


def masked(y_true, y_pred):
    """Leaves out labels below 0, as in many a tutorial."""
    counts = ops.cast(y_true >= 0, "float32")
    loss = losses.sparse_categorical_crossentropy(
        ops.maximum(y_true, 0), y_pred
    )
    return loss * counts


def from_one(y_true, y_pred):
    return losses.sparse_categorical_crossentropy(y_true - 1, y_pred)


def without_gaps(y_true, y_pred):
    known = ops.logical_not(ops.isnan(y_true))
    error = ops.where(known, y_true, 0.0) - y_pred
    return ops.mean(ops.square(error) * ops.cast(known, "float32"), axis=-1)


def classifier(loss):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "softmax")])
    model.compile("sgd", loss)
    return zoo.set_weights(model)


def two_outputs(loss):
    inputs = keras.Input((4,))
    model = keras.Model(
        inputs,
        {
            "kind": layers.Dense(3, "softmax", name="kind")(inputs),
            "size": layers.Dense(1, name="size")(inputs),
        },
    )
    model.compile("sgd", {"kind": loss, "size": "mse"})
    return zoo.set_weights(model)


def run(model, y, evaluate=False):
    x, good = zoo.points(4)
    if isinstance(y, dict):
        good = {"kind": good, "size": np.ones((4, 1), "float32")}
    if model.loss is from_one:
        good = good + 1
    clients = {"rome": (x, good), "oslo": (x, y)}
    if evaluate:
        return fl.evaluate(model, clients)
    process = fl.FederatedAveraging(model, executor="sequential")
    return process.next(process.initialize(), clients)[1]


SPARSE = "sparse_categorical_crossentropy"
BAD = {
    "out of range": (SPARSE, [0, 1, 2, 3]),
    "below 0": (SPARSE, [0, -1, 2, 0]),
    "as numbers with a point": (SPARSE, np.array([0, 1, 2, 5.0], "float32")),
    "NaN": (SPARSE, np.array([0, np.nan, 2, 1], "float32")),
    "not the ignored class": (
        losses.SparseCategoricalCrossentropy(ignore_class=-1),
        [0, -1, 2, 7],
    ),
    "a function around it": (twice, [0, 1, 2, 7]),
    "a function around it, NaN": (
        twice,
        np.array([0, np.nan, 2, 1], "float32"),
    ),
    "masked, but too high": (masked, [0, -1, 2, 3]),
    "numbered from 1": (from_one, [0, 1, 2, 3]),
}
FINE = {
    "ignored": (
        losses.SparseCategoricalCrossentropy(ignore_class=-1),
        [0, -1, 2, 1],
    ),
    "masked": (masked, [0, -1, 2, -7]),
    "numbered from 1": (from_one, [1, 2, 3, 3]),
}


@pytest.mark.parametrize("case", BAD)
def test_labels_with_which_the_loss_goes_wrong_name_the_client(case):
    loss, labels = BAD[case]
    for evaluate in (False, True):
        with pytest.raises(ValueError, match="client 'oslo'"):
            run(classifier(loss), np.array(labels), evaluate)


@pytest.mark.parametrize("case", FINE)
def test_labels_that_the_loss_leaves_out_are_fine(case):
    loss, labels = FINE[case]
    model = classifier(loss)
    found = run(model, np.array(labels), evaluate=True)
    model.run_eagerly = True
    x, good = zoo.points(4)
    both = np.concatenate([x, x]), np.concatenate([good, np.array(labels)])
    if case == "masked":
        expected = model.evaluate(*both, verbose=0)
        assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(found["loss"])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32"])
def test_labels_of_any_dtype(dtype):
    x, _ = zoo.points(4)
    labels = np.array([0, 1, 1, 0])
    model = classifier(SPARSE)
    found = fl.evaluate(model, [(x, labels.astype(dtype))])["loss"]
    model.run_eagerly = True
    expected = model.evaluate(x, labels, verbose=0)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [SPARSE, twice])
def test_labels_of_one_of_several_outputs(loss):
    kind = np.array([0, 1, 2, 3])
    size = np.ones((4, 1), "float32")
    with pytest.raises(ValueError, match=r"client 'oslo'.*3 classes"):
        run(two_outputs(loss), {"kind": kind, "size": size})
    size[2] = np.nan
    with pytest.raises(ValueError, match=r"1 of 4 labels of client 'oslo'"):
        run(two_outputs(loss), {"kind": kind % 3, "size": size})
    size[2] = 1000.0  # which is no class
    run(two_outputs(loss), {"kind": kind % 3, "size": size})


def test_gaps_that_the_loss_leaves_out_are_fine():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model.compile("sgd", without_gaps)
    y = np.ones((4, 2), "float32")
    y[1, 1] = np.nan
    x, _ = zoo.points(4)
    found = fl.evaluate(zoo.set_weights(model), {"oslo": (x, y)})["loss"]
    kernel, bias = zoo.weights_of(model)
    errors = (x @ kernel + bias - 1) ** 2
    errors[1, 1] = 0
    assert found == pytest.approx(errors.mean(), rel=1e-5)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="1 of 4 labels of client 'oslo'"):
        fl.evaluate(model, {"oslo": (x, y)})


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="JAX takes any label, and nothing is known of such a loss",
)
@pytest.mark.parametrize("executor", ["sequential", "vectorized"])
def test_what_tensorflow_says_of_a_label_names_the_clients(executor):
    import tensorflow as tf

    def own(y_true, y_pred):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(
            tf.cast(y_true, "int32"), y_pred
        )

    model = classifier(own)
    x, good = zoo.points(4)
    clients = {"rome": (x, good), "oslo": (x, good + 3)}
    process = fl.FederatedAveraging(model, executor=executor)
    with pytest.raises(ValueError, match=r"'oslo'.*outside the valid range"):
        process.next(process.initialize(), clients)
    with pytest.raises(ValueError, match=r"'oslo'.*outside the valid range"):
        fl.evaluate(model, clients)
