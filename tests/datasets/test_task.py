import inspect

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn import datasets
from fedlearn.data import ArraySpec, FederatedDataset
from fedlearn.datasets import Task, emnist, shakespeare, stackoverflow
from fedlearn.metrics import MaskedAccuracy
from fedlearn.metrics.mergeable import is_sum


def model_of(*shape):
    return keras.Sequential([keras.Input(shape), keras.layers.Activation(None)])


def task_of(shape, dtype, ignored=()):
    x, y = np.zeros((3, 2), np.float32), np.zeros((3, *shape), dtype)
    data = FederatedDataset.from_clients({"a": (x, y)})
    return Task(data, data, "tabular", {"input_shape": (2,)}, ignored)


@pytest.mark.parametrize(
    ("label", "outputs", "loss", "metrics"),
    [
        (((), "int64"), (10,), "sparse_categorical_crossentropy", "accuracy"),
        (((), "int64"), (2,), "sparse_categorical_crossentropy", "accuracy"),
        (((), "int64"), (1,), "binary_crossentropy", "accuracy"),
        (((), "float32"), (1,), "mean_squared_error", "mean_absolute_error"),
    ],
)
def test_loss_and_metrics_by_labels_and_outputs(label, outputs, loss, metrics):
    model = model_of(*outputs)
    task_of(*label).compile(model)
    assert model.loss == loss
    assert model.get_compile_config()["metrics"] == [metrics]


@pytest.mark.parametrize("length", [None, 2])
def test_sequences(length):
    model = model_of(length, 3)
    task_of((2,), "int32", ignored=(0, 2)).compile(model)
    # Where the label is padding, the prediction costs nothing.
    y_pred = np.array([[[0.1, 0.1, 0.8], [0.5, 0.4, 0.1]]], np.float32)
    whole = float(model.loss(np.array([[2, 1]]), y_pred))
    assert whole == pytest.approx(-np.log([0.8, 0.4]).mean(), rel=1e-5)
    padded = float(model.loss(np.array([[2, 0]]), y_pred))
    assert padded == pytest.approx(-np.log(0.8), rel=1e-5)
    (config,) = model.get_compile_config()["metrics"]
    metric = keras.saving.deserialize_keras_object(config)
    assert isinstance(metric, MaskedAccuracy)
    assert metric.ignore == (0, 2)


def test_tags():
    loss, metrics = task_of((7,), "float32")._objective(model_of(7))
    assert loss == "binary_crossentropy"
    assert [m.name for m in metrics] == ["precision", "recall_at_5"]
    assert all(map(is_sum, metrics))
    # Of three tags, two are among the five likeliest, however unlikely.
    metrics[1].update_state(
        np.array([[1, 0, 0, 0, 1, 1, 0]], np.float32),
        np.array([[7, 6, 5, 4, 3, 2, 1]], np.float32) / 100,
    )
    assert float(metrics[1].result()) == pytest.approx(2 / 3)


def test_a_subclass_without_shapes_is_taken_to_fit():
    class Own(keras.Model):
        pass

    model = Own()
    task_of((), "int64").compile(model)
    assert model.loss == "sparse_categorical_crossentropy"


@pytest.mark.parametrize(
    ("label", "outputs"),
    [
        (((), "int64"), (28, 28, 1)),
        (((80,), "int32"), (10,)),
        (((7,), "float32"), (10,)),
        (((), "float32"), (2,)),
    ],
)
def test_no_loss_fits(label, outputs):
    with pytest.raises(ValueError, match="no loss is known that fits"):
        task_of(*label).compile(model_of(*outputs))


def test_several_parts():
    one = keras.Input((2,))
    x = np.zeros((3, 2), np.float32)
    parts = FederatedDataset.from_clients({"a": (x, {"p": x, "q": x})})
    for task, outputs in [
        (task_of((), "int64"), [one, one]),
        (task_of((), "int64"), {"a": one, "b": one}),
        (Task(parts, parts, "tabular", {}), one),
    ]:
        with pytest.raises(ValueError, match="several outputs, or for labels"):
            task.compile(keras.Model(one, outputs))


def test_the_rate_is_that_of_the_task():
    task = task_of((), "int64")
    model = model_of(2)
    task.compile(model)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)
    task.compile(model, "adam")
    assert isinstance(model.optimizer, keras.optimizers.Adam)


# On JAX nearly all of its time is compilation.
@pytest.mark.backend_free
@pytest.mark.parametrize("name", sorted(set(datasets.list()) - {"digits"}))
def test_every_data_set_has_a_model_that_fits(name):
    module = getattr(datasets, name)
    known = inspect.signature(module.load_data).parameters
    arguments = {"source": "synthetic"} if "source" in known else {}
    task = module.task(**arguments)
    inputs, label = task.train.element_spec
    assert task.label == label
    if task.model != "resnet18_gn":  # takes its time
        model = task.build_model(seed=0)
        assert model.name == task.model
        assert model.count_params() > 0
    else:
        model = task.build_model("logistic_regression", seed=0)
    length = inputs.shape if model.input_shape != (None, None) else (None,)
    assert model.input_shape == (None, *length)


# On JAX nearly all of its time is compilation.
@pytest.mark.backend_free
def test_a_data_set_trains():
    task = datasets.digits.task(num_clients=5)
    process = fl.FederatedAveraging(
        task.build_model(seed=0), client=fl.LocalTraining(batch_size=10)
    )
    _, metrics = process.next(process.initialize(), task.train)
    assert set(metrics) >= {"loss", "accuracy"}
    with pytest.raises(ValueError, match=r"'digits_cnn'.*Received: 'cnn'"):
        task.build_model("cnn")


class Unread:
    """Data that may be asked for their shapes only."""

    element_spec = (
        ArraySpec((28, 28, 1), np.dtype("float32")),
        ArraySpec((), np.dtype("int64")),
    )


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "classes"),
    [
        ({}, 10),
        ({"source": "synthetic"}, 10),
        ({"only_digits": False}, 62),
    ],
)
def test_known_classes_are_not_counted(monkeypatch, arguments, classes):
    monkeypatch.setattr(emnist, "load_data", lambda **_: (Unread(), Unread()))
    assert emnist.task(**arguments).sizes == {
        "input_shape": (28, 28, 1),
        "num_classes": classes,
    }


@pytest.mark.backend_free
def test_classes_of_a_file_of_ones_own_are_counted(monkeypatch):
    x = np.zeros((2, 3), np.float32)
    data = FederatedDataset.from_clients(
        {"a": (x, [0, 35]), "b": (x[:0], np.zeros(0, int)), "c": (x, [4, 5])}
    )
    monkeypatch.setattr(emnist, "load_data", lambda **_: (data, data))
    assert emnist.task(source="/some/file").sizes["num_classes"] == 36


@pytest.mark.backend_free
def test_words_and_characters(monkeypatch):
    rows = stackoverflow.word_numbers(
        np.array([b"it is", b"so"], object), {b"is": 1, b"it": 2}, 4
    )
    x, y = rows[:, :-1], rows[:, 1:]
    data = FederatedDataset.from_clients({"0": (x[:0], y[:0]), "1": (x, y)})
    monkeypatch.setattr(stackoverflow, "load_data", lambda **_: (data,) * 3)
    task = stackoverflow.task()
    # Padding, two words, the unknown word, a beginning, an end.
    assert task.sizes == {"vocab_size": 6}
    assert task.ignored == (0, 3, 4, 5)
    monkeypatch.setattr(shakespeare, "load_data", lambda **_: (data, data))
    assert shakespeare.task().sizes == {"vocab_size": 90}
    assert shakespeare.task().ignored == (0,)
