import keras
import numpy as np
import pytest
from keras import ops

import fedlearn as fl
from fedlearn.metrics import mergeable, per_client


class Running(keras.metrics.Mean):
    """Assigns where it should add."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign(ops.mean(y_pred))


KNOWN = [
    value
    for value in vars(keras.metrics).values()
    if isinstance(value, type)
    and issubclass(value, keras.metrics.Metric)
    and value
    not in (
        keras.metrics.Metric,
        keras.metrics.MeanMetricWrapper,
        keras.metrics.Mean,  # of values, not of labels and predictions
        keras.metrics.Sum,
    )
]
ARGUMENTS = {
    "BinaryIoU": {"target_class_ids": [0, 1]},
    "IoU": {"num_classes": 3, "target_class_ids": [0]},
    "MeanIoU": {"num_classes": 3},
    "OneHotIoU": {"num_classes": 3, "target_class_ids": [0]},
    "OneHotMeanIoU": {"num_classes": 3},
    "PrecisionAtRecall": {"recall": 0.5},
    "RecallAtPrecision": {"precision": 0.5},
    "SensitivityAtSpecificity": {"specificity": 0.5},
    "SpecificityAtSensitivity": {"sensitivity": 0.5},
}


def updated(metric):
    def update(values, batch):
        mapping = zip(metric.variables, values, strict=True)
        with keras.StatelessScope(mapping) as scope:
            metric.update_state(*batch)
            return [scope.get_current_value(v) for v in metric.variables]

    return update


def check(metric, y_true, y_pred):
    metric.update_state(y_true, y_pred)  # which may make variables
    names = {id(v): metric.name for v in metric.variables}
    return mergeable.check_updates(
        updated(metric), metric.variables, names, (y_true, y_pred)
    )


@pytest.mark.backend_free
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
@pytest.mark.parametrize(
    "cls", [*KNOWN, fl.metrics.MaskedAccuracy], ids=lambda v: v.__name__
)
def test_what_is_known_to_be_a_sum_is_one(cls):
    rng = np.random.default_rng(0)
    y_pred = rng.uniform(0.1, 0.9, (4, 3)).astype("float32")
    labels = np.array([0, 2, 1, 2], "int32")
    dense = np.eye(3, dtype="float32")[labels]
    metric = cls(**ARGUMENTS.get(cls.__name__, {}))
    assert mergeable.is_sum(metric)
    if cls.__name__.startswith("Sparse") or cls is fl.metrics.MaskedAccuracy:
        assert check(metric, labels, y_pred)
    elif cls in (keras.metrics.IoU, keras.metrics.MeanIoU):
        assert check(metric, labels, labels[::-1].copy())
    else:
        assert check(metric, dense, y_pred)


def test_plain_means_are_known_by_their_class():
    assert mergeable.is_sum(keras.metrics.Mean())
    assert mergeable.is_sum(keras.metrics.SparseCategoricalAccuracy())
    assert not mergeable.is_sum(Running())


class Renamed(keras.metrics.AUC):
    def update_state(self, y_true, y_pred, sample_weight=None):
        self.true_positives.assign(ops.ones_like(self.true_positives))


def test_a_subclass_is_not_known_by_its_parents():
    assert not mergeable.is_sum(Renamed())


@pytest.mark.backend_free
def test_statistics_by_hand():
    values = [0.0, 0.25, 0.5, 1.0]
    clients = {
        str(i): {"accuracy": value, "loss": -value, "num_examples": i + 1}
        for i, value in enumerate(values)
    }
    clients["empty"] = {"accuracy": 9.0, "loss": 9.0, "num_examples": 0}
    found = per_client.statistics(clients)
    assert set(found) == {"accuracy", "loss"}
    assert found["accuracy"] == pytest.approx(
        {
            "mean": 0.4375,
            "std": 0.36975498,
            "min": 0.0,
            # Interpolated: the i-th decile lies at 0.3 i among the values.
            "decile_1": 0.075,
            "decile_2": 0.15,
            "decile_3": 0.225,
            "decile_4": 0.3,
            "decile_5": 0.375,
            "decile_6": 0.45,
            "decile_7": 0.55,
            "decile_8": 0.7,
            "decile_9": 0.85,
            "max": 1.0,
            "lowest_tenth": 0.0,
            "highest_tenth": 1.0,
        }
    )
    clients = {
        str(i): {"loss": i**2, "num_examples": 1} for i in range(11)
    }  # of 11 clients the worst tenth are two
    found = per_client.statistics(clients)["loss"]
    assert (found["lowest_tenth"], found["highest_tenth"]) == (0.5, 90.5)
    assert per_client.statistics({}) == {}
