import keras
import numpy as np
import pytest

from fedlearn.cli.errors import UsageError
from fedlearn.cli.objective import objective
from fedlearn.cli.task import Task
from fedlearn.data import ArraySpec
from fedlearn.metrics import MaskedAccuracy
from fedlearn.metrics.mergeable import is_sum


def task(shape, dtype, ignored=()):
    return Task(ArraySpec(shape, np.dtype(dtype)), {}, ignored)


@pytest.mark.parametrize(
    ("output_shape", "loss"),
    [
        ((None, 10), "sparse_categorical_crossentropy"),
        ((None, 2), "sparse_categorical_crossentropy"),
        (None, "sparse_categorical_crossentropy"),
        ((None, 1), "binary_crossentropy"),
    ],
)
def test_classes(output_shape, loss):
    assert objective(task((), "int64"), output_shape) == (loss, ["accuracy"])


@pytest.mark.parametrize(
    "output_shape", [(None, None, 90), (None, 80, 90), None]
)
def test_sequences(output_shape):
    loss, metrics = objective(task((80,), "int32", (0, 88)), output_shape)
    # Where the label is padding, the prediction costs nothing.
    y_pred = np.array([[[0.1, 0.1, 0.8], [0.5, 0.4, 0.1]]], np.float32)
    whole = float(loss(np.array([[2, 1]]), y_pred))
    assert whole == pytest.approx(-np.log([0.8, 0.4]).mean(), rel=1e-5)
    padded = float(loss(np.array([[2, 0]]), y_pred))
    assert padded == pytest.approx(-np.log(0.8), rel=1e-5)
    (accuracy,) = metrics
    assert isinstance(accuracy, MaskedAccuracy)
    assert accuracy.ignore == (0, 88)


def test_tags():
    loss, metrics = objective(task((7,), "float32"), (None, 7))
    assert loss == "binary_crossentropy"
    assert [m.name for m in metrics] == ["precision", "recall_at_5"]
    assert all(map(is_sum, metrics))
    recall = metrics[1]
    # Of three tags, two are among the five likeliest, however unlikely.
    recall.update_state(
        np.array([[1, 0, 0, 0, 1, 1, 0]], np.float32),
        np.array([[7, 6, 5, 4, 3, 2, 1]], np.float32) / 100,
    )
    assert float(recall.result()) == pytest.approx(2 / 3)


def test_amounts():
    found = objective(task((), "float32"), (None, 1))
    assert found == ("mean_squared_error", ["mean_absolute_error"])


@pytest.mark.parametrize(
    ("label", "output_shape"),
    [
        (((), "int64"), (None, 28, 28, 1)),
        (((80,), "int32"), (None, 10)),
        (((7,), "float32"), (None, 10)),
        (((), "float32"), (None, 2)),
    ],
)
def test_no_loss_fits(label, output_shape):
    with pytest.raises(UsageError, match="Choose another --model"):
        objective(task(*label), output_shape)


@pytest.mark.parametrize("output_shape", [[(None, 1)], {"a": (None, 1)}])
def test_several_outputs(output_shape):
    with pytest.raises(UsageError, match="module:function"):
        objective(task((), "int64"), output_shape)
    with pytest.raises(UsageError, match="module:function"):
        objective(Task(None, {}), (None, 1))


def test_a_model_is_compiled_with_it():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(1, "sigmoid")]
    )
    loss, metrics = objective(task((), "int64"), model.output_shape)
    model.compile(loss=loss, metrics=metrics)
    x, y = np.zeros((4, 3), np.float32), np.array([1, 1, 1, 0])
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    # The model says 0.5, which is taken for 0.
    assert logs["loss"] == pytest.approx(np.log(2), rel=1e-5)
    assert logs["accuracy"] == pytest.approx(0.25)
