import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn.data.class_names import number_classes
from fedlearn.metrics.name_classes import name_classes
from tests import zoo

NAMES = ("ant", "bee", "cat")


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        ([1, 0, 1], ["1", "0"], [0, 1, 0]),
        ([True, False], ["True", "False"], [0, 1]),
        ([1, 0], ["True", "False"], [0, 1]),
        ([5.0, 7.0], ["5", "7"], [0, 1]),
        ([0.0, 1.0], ["no", "yes"], [0, 1]),
        # As those of EMNIST: only some are numbers, and mean themselves.
        ([1, 2, 0], ["0", "1", "a"], [1, 2, 0]),
    ],
)
def test_numbers_mean_the_class_of_that_name(labels, names, numbers):
    (found,), _ = number_classes([np.array(labels)], ["It"], names)
    assert found.dtype == np.int64
    assert found.tolist() == numbers


@pytest.mark.parametrize(
    ("labels", "names", "match"),
    [
        ([0, 1], ["1", "2", "x"], "the label 1 .*number 0 by its name '1'"),
        ([0, 1], ["1", "2"], "It: the label 0 is not among"),
        ([0.5, 1.0], ["no", "yes"], "dtype float64"),
        ([np.inf, 1.0], ["no", "yes"], "dtype float64"),
        ([2, 1], ["no", "yes"], "between 1 and 2"),
    ],
)
def test_numbers_that_may_mean_something_else(labels, names, match):
    with pytest.raises(ValueError, match=match):
        number_classes([np.array(labels)], ["It"], names)


class RecallOfEach(keras.metrics.Metric):
    """Right predictions of each of three classes, among its examples."""

    def __init__(self, name="recall"):
        super().__init__(name=name)
        self.right = self.add_weight(shape=(3,), initializer="zeros")
        self.all = self.add_weight(shape=(3,), initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y = keras.ops.cast(keras.ops.reshape(y_true, (-1,)), "int32")
        true = keras.ops.one_hot(y, 3)
        predicted = keras.ops.one_hot(keras.ops.argmax(y_pred, -1), 3)
        self.right.assign_add(keras.ops.sum(true * predicted, 0))
        self.all.assign_add(keras.ops.sum(true, 0))

    def result(self):
        return self.right / keras.ops.maximum(self.all, 1)


def data(**arguments):
    return fl.FederatedDataset.from_clients(
        {f"c{k}": zoo.points(9, seed=k) for k in range(2)}, **arguments
    )


def test_metrics_of_classes_have_their_names():
    model = zoo.classifier(metrics=[RecallOfEach()])
    metrics = fl.evaluate(model, data(class_names=NAMES), per_client=True)
    plain = fl.evaluate(model, data())
    x, y = data().pooled()
    predicted = model.predict(x, verbose=0).argmax(-1)
    for k, name in enumerate(NAMES):
        expected = np.mean(predicted[y == k] == k)
        assert metrics[f"recall_{name}"] == pytest.approx(expected)
        assert plain[f"recall_{k}"] == pytest.approx(expected)
        assert f"recall_{name}" in metrics["per_client"]["c0"]
        assert f"recall_{name}" in metrics["statistics"]
    assert "recall_0" not in metrics


def test_the_history_has_them_too():
    train = data(class_names=NAMES)
    process = fl.FederatedAveraging(zoo.classifier(metrics=[RecallOfEach()]))
    history = process.fit(train, rounds=1, validation_data=train, verbose=0)
    names = {f"{p}recall_{n}" for p in ("", "val_") for n in NAMES}
    assert names <= set(history.history)


def test_metrics_that_only_look_like_it():
    metrics = {"recall_0": 1, "recall_1": 2, "auc_0": 3, "auc_1": 4, "auc_2": 5}
    named = name_classes(metrics, ["a", "b"], ["recall", "recall_0", "auc"])
    assert named == metrics
    assert name_classes(metrics, None, ["recall"]) == metrics


def test_a_picture_has_the_names():
    pytest.importorskip("matplotlib")
    ax = fl.plot.labels(data(class_names=NAMES))
    assert [t.get_text() for t in ax.get_xticklabels()] == list(NAMES)


def test_evaluation_counts_classes_as_training_did():
    process = fl.FederatedAveraging(zoo.classifier(metrics=["accuracy"]))
    train = data(class_names=NAMES)
    process.fit(train, rounds=1, verbose=0)
    x, y = zoo.points(9, seed=5)
    keep = y > 0  # "bee" and "cat", which alone would be 0 and 1
    texts = {"c": (x[keep], np.array(NAMES)[y[keep]])}
    other = fl.FederatedDataset.from_clients(texts)
    assert other.class_names == NAMES[1:]
    with pytest.raises(ValueError, match="'bee', 'cat', and not 'ant', 'bee'"):
        process.evaluate(other)
    with pytest.raises(ValueError, match="number their classes differently"):
        process.next(process.state, other)
    same = fl.FederatedDataset.from_clients(texts, class_names=NAMES)
    unnamed = fl.FederatedDataset.from_clients({"c": (x[keep], y[keep])})
    assert process.evaluate(same) == process.evaluate(unnamed)
