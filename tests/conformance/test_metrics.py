"""Every metric of Keras gives through one client what Keras itself gives."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers, metrics

import fedlearn as fl
from tests import zoo

pytestmark = [
    pytest.mark.conformance,
    # Keras's confusion matrices ask for int64, which JAX gives as int32.
    pytest.mark.filterwarnings("ignore:Explicitly requested dtype"),
]

N, CLASSES = 12, 3  # three batches of 4: one shape to compile

BINARY = [
    lambda: metrics.AUC(20),
    lambda: metrics.AUC(20, curve="PR", name="pr"),
    lambda: metrics.BinaryAccuracy(),
    lambda: metrics.BinaryCrossentropy(label_smoothing=0.1),
    lambda: metrics.BinaryIoU(target_class_ids=[0, 1]),
    lambda: metrics.FalseNegatives(),
    lambda: metrics.FalseNegatives([0.3, 0.5, 0.7], name="fn_of_three"),
    lambda: metrics.FalsePositives([0.3, 0.7]),
    lambda: metrics.Hinge(),
    lambda: metrics.Precision([0.3, 0.5]),
    lambda: metrics.PrecisionAtRecall(0.5, num_thresholds=20),
    lambda: metrics.Recall(),
    lambda: metrics.RecallAtPrecision(0.5, num_thresholds=20),
    lambda: metrics.SensitivityAtSpecificity(0.5, num_thresholds=20),
    lambda: metrics.SpecificityAtSensitivity(0.5, num_thresholds=20),
    lambda: metrics.SquaredHinge(),
    lambda: metrics.TrueNegatives([0.5, 0.9]),
    lambda: metrics.TruePositives([0.1, 0.5, 0.9]),
]
ONE_HOT = [
    lambda: metrics.CategoricalAccuracy(),
    lambda: metrics.CategoricalCrossentropy(),
    lambda: metrics.CategoricalHinge(),
    lambda: metrics.ConcordanceCorrelation(),
    lambda: metrics.CosineSimilarity(),
    lambda: metrics.F1Score(),
    lambda: metrics.F1Score("macro", name="f1_macro"),
    lambda: metrics.FBetaScore("weighted", beta=0.5, threshold=0.3),
    lambda: metrics.KLDivergence(),
    lambda: metrics.OneHotIoU(num_classes=CLASSES, target_class_ids=[0, 2]),
    lambda: metrics.OneHotMeanIoU(num_classes=CLASSES),
    lambda: metrics.PearsonCorrelation(),
    lambda: metrics.TopKCategoricalAccuracy(2),
    lambda: metrics.AUC(20, multi_label=True, name="auc_of_labels"),
    lambda: metrics.Precision(top_k=2, class_id=1),
]
SPARSE = [
    lambda: metrics.SparseCategoricalAccuracy(),
    lambda: metrics.SparseCategoricalCrossentropy(),
    lambda: metrics.SparseTopKCategoricalAccuracy(2),
    lambda: metrics.IoU(
        num_classes=CLASSES, target_class_ids=[1], sparse_y_pred=False
    ),
    lambda: metrics.MeanIoU(num_classes=CLASSES, sparse_y_pred=False),
]
REGRESSION = [
    lambda: metrics.Accuracy(),
    lambda: metrics.LogCoshError(),
    lambda: metrics.MeanAbsoluteError(),
    lambda: metrics.MeanAbsolutePercentageError(),
    lambda: metrics.MeanMetricWrapper(keras.losses.huber, name="huber"),
    lambda: metrics.MeanSquaredError(),
    lambda: metrics.MeanSquaredLogarithmicError(),
    lambda: metrics.Poisson(),
    lambda: metrics.R2Score(),
    lambda: metrics.R2Score("variance_weighted_average", name="r2_variance"),
    lambda: metrics.RootMeanSquaredError(),
]


def _labels(kind):
    x, y = zoo.points(N)
    if kind == "binary":
        return x, (y > 0).astype("float32")[:, None]
    if kind == "one_hot":
        return x, np.eye(CLASSES, dtype="float32")[y]
    if kind == "sparse":
        return x, y
    return x, (np.abs(x[:, :2]) + 0.5).astype("float32")


KINDS = {
    "binary": (BINARY, 1, "sigmoid", "binary_crossentropy"),
    "one_hot": (ONE_HOT, CLASSES, "softmax", "categorical_crossentropy"),
    "sparse": (
        SPARSE,
        CLASSES,
        "softmax",
        "sparse_categorical_crossentropy",
    ),
    "regression": (REGRESSION, 2, "softplus", "mse"),
}


def test_no_metric_of_keras_is_left_out():
    tried = {type(make()) for makers, *_ in KINDS.values() for make in makers}
    of_keras = {
        value
        for value in vars(metrics).values()
        if inspect.isclass(value) and issubclass(value, metrics.Metric)
    }
    # `compile` gives a metric labels and predictions; these take values.
    assert of_keras - tried == {metrics.Metric, metrics.Mean, metrics.Sum}


@pytest.mark.parametrize("kind", KINDS)
def test_a_metric_is_what_keras_makes_it(kind):
    makers, units, activation, loss = KINDS[kind]
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(units, activation)]
    )
    model.compile(
        keras.optimizers.SGD(0.1), loss=loss, metrics=[m() for m in makers]
    )
    zoo.set_weights(model)
    data = _labels(kind)
    process = fl.FederatedAveraging(
        model,
        client=fl.LocalTraining(batch_size=4, shuffle=False),
        executor="sequential",
    )
    state = process.initialize()
    _, trained = process.next(state, [data])
    if kind == "binary":  # the others are read out in the same way
        model.run_eagerly = keras.backend.backend() == "tensorflow"
        expected = model.evaluate(
            *data, batch_size=4, verbose=0, return_dict=True
        )
        evaluated = process.evaluate(state, [data], batch_size=4)
        zoo.assert_same_metrics(evaluated, _by_name(expected))
    expected = zoo.fit(model, data, batch_size=4, shuffle=False)
    zoo.assert_same_metrics(trained, _by_name(expected))


def _by_name(logs):
    """Logs of Keras with a name for each number of an array."""
    flat = {}
    for name, value in logs.items():
        value = np.asarray(value)
        if value.ndim:
            numbers = enumerate(value.ravel())
            flat.update({f"{name}_{i}": float(v) for i, v in numbers})
        else:
            flat[name] = float(value)
    return flat
