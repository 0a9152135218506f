"""Every metric of Keras gives through one client what Keras itself gives."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers, metrics, ops

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
    if kind == "binary" and keras.backend.backend() == "tensorflow":
        # The others are read out in the same way; on JAX it takes long.
        model.run_eagerly = True
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


class Own(keras.metrics.Metric):
    """A metric of one's own: `fn(value, y_true, y_pred)` is its new value."""

    def __init__(self, fn, name="own"):
        super().__init__(name=name)
        self.fn = fn
        self.value = self.add_weight((), "zeros", name="value")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.value.assign(self.fn(self.value, y_true, y_pred))

    def result(self):
        return self.value


class Listing(keras.metrics.Metric):
    """Keeps what it is given, and has no variables."""

    seen = ()

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.seen = (*self.seen, ops.mean(y_pred))

    def result(self):
        return sum(self.seen)


class Late(keras.metrics.Metric):
    """Makes its variables of the shapes that it is first given."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        if not self.variables:
            self.sums = self.add_weight((y_pred.shape[-1],), "zeros")
        self.sums.assign_add(ops.sum(ops.abs(y_pred - y_true), axis=0))

    def result(self):
        return self.sums


def absolute(y_true, y_pred):
    return ops.mean(ops.abs(y_pred - y_true), axis=-1)


NOT_SUMS = {
    "assigns": lambda: Own(lambda v, y, p: ops.mean(p)),
    "moving average": lambda: Own(lambda v, y, p: 0.9 * v + 0.1 * ops.mean(p)),
    "minimum": lambda: Own(lambda v, y, p: ops.minimum(v, ops.min(p))),
    "maximum": lambda: Own(lambda v, y, p: ops.maximum(v, ops.max(p))),
    "minimum of labels": lambda: Own(
        lambda v, y, p: ops.minimum(v, ops.min(y))
    ),
    "decays": lambda: Own(lambda v, y, p: 0.999 * v + ops.sum(p)),
    "batches": lambda: Own(lambda v, y, p: v + 1.0),
    "batch means": lambda: Own(lambda v, y, p: v + ops.mean(p)),
    "of the batch": lambda: Own(
        lambda v, y, p: v + ops.sum(ops.abs(p - ops.mean(p, axis=0)))
    ),
    "by place": lambda: Own(lambda v, y, p: v + ops.sum(ops.cumsum(p, axis=0))),
    "list": lambda: Listing(),
    "one number": lambda: lambda y, p: ops.sqrt(ops.mean(ops.square(y - p))),
    "joint numbers": lambda: lambda y, p: ops.abs(p - ops.mean(y, axis=0)),
    "a loss": lambda: keras.losses.MeanSquaredError(),
    "along examples": lambda: metrics.PearsonCorrelation(axis=0),
    "cosines along examples": lambda: metrics.CosineSimilarity(axis=0),
    "a function along examples": lambda: metrics.MeanMetricWrapper(
        metrics.pearson_correlation, axis=0
    ),
}
SUMS = {
    "sum": (lambda: Own(lambda v, y, p: v + ops.sum(p)), "own"),
    "count": (
        lambda: Own(lambda v, y, p: v + ops.cast(ops.shape(p)[0], "float32")),
        "own",
    ),
    "function": (lambda: absolute, "absolute"),
    "late": (lambda: Late(name="late"), "late_0"),
}
X, Y = (a[:14].astype("float32") for a in (zoo.points(14)[0], zoo.line(14)[0]))


def _evaluate(metric, batch_size, weights=True):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    model.compile("sgd", loss="mse", metrics=[metric])
    if weights:
        zoo.set_weights(model)
    clients = [(X[:5], Y[:5]), (X[5:], Y[5:])]
    return fl.evaluate(model, clients, batch_size=batch_size)


@pytest.mark.parametrize("name", NOT_SUMS)
def test_what_is_no_sum_over_examples_is_refused(name):
    # Also with the same prediction for every example.
    with pytest.raises(ValueError, match="can't be merged over clients"):
        _evaluate(NOT_SUMS[name](), 4, weights=False)


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_over_examples_is_the_same_for_every_batch_size(name):
    make, key = SUMS[name]
    # More than the examples, all in one; others are programs on JAX.
    sizes = (1, 2, 3, 7, 100) if keras.backend.backend() != "jax" else (4, 100)
    found = [_evaluate(make(), size)[key] for size in sizes]
    assert found == pytest.approx([found[-1]] * len(found), rel=1e-5)


def test_a_metric_of_two_outputs_counts_both_and_once():
    inputs = keras.Input((4,))
    model = keras.Model(
        inputs,
        {
            "a": layers.Dense(2, name="a")(inputs),
            "b": layers.Dense(2, name="b")(inputs),
        },
    )
    shared = Own(lambda v, y, p: v + ops.sum(p), name="shared")
    model.compile(
        "sgd",
        loss={"a": "mse", "b": "mae"},
        metrics={"a": [shared, absolute], "b": [shared]},
        weighted_metrics={"b": [absolute]},
    )
    zoo.set_weights(model)
    labels = {"a": Y[:8, :2], "b": Y[:8, 1:]}
    weight = np.linspace(0, 2, 8, dtype="float32")
    weights = {"a": weight, "b": weight[::-1].copy()}
    found = fl.evaluate(model, [(X[:8], labels, weights)], batch_size=4)
    model.run_eagerly = True  # or JAX would give a shared metric away twice
    expected = model.evaluate(
        X[:8],
        labels,
        sample_weight=weights,
        batch_size=4,
        return_dict=True,
        verbose=0,
    )
    zoo.assert_same_metrics(found, expected)
    outputs = model.predict_on_batch(X[:8])
    total = sum(np.sum(o) for o in outputs.values())
    assert found["a_shared"] == pytest.approx(total, rel=1e-5)
