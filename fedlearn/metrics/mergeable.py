"""Which metrics can be merged over clients by summing their variables.

A Keras metric keeps its state in variables. Most are sums over examples (a
total and a count, a confusion matrix), so that the variables of a metric over
two clients together are the sums of its variables over each. One that assigns
instead (a running maximum) isn't, and its merged value would be wrong without
a word; it is refused.
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import seeds
from fedlearn.stateless_scope import StatelessScope


def user_metrics(model: keras.Model) -> list[keras.metrics.Metric]:
    """The metric objects, not names, that a model was compiled with."""
    compiled = getattr(model, "_compile_metrics", None)
    given = (
        getattr(compiled, "_user_metrics", None),
        getattr(compiled, "_user_weighted_metrics", None),
    )
    found = [
        leaf
        for group in given
        if group is not None
        for leaf in keras.tree.flatten(group)
        if isinstance(leaf, keras.metrics.Metric)
    ]
    own = getattr(model, "_metrics", ())
    return found + [m for m in own if isinstance(m, keras.metrics.Metric)]


_SUMS = (
    keras.metrics.AUC,
    keras.metrics.BinaryIoU,
    keras.metrics.F1Score,
    keras.metrics.FBetaScore,
    keras.metrics.FalseNegatives,
    keras.metrics.FalsePositives,
    keras.metrics.IoU,
    keras.metrics.MeanIoU,
    keras.metrics.OneHotIoU,
    keras.metrics.OneHotMeanIoU,
    keras.metrics.Precision,
    keras.metrics.PrecisionAtRecall,
    keras.metrics.R2Score,
    keras.metrics.Recall,
    keras.metrics.RecallAtPrecision,
    keras.metrics.RootMeanSquaredError,
    keras.metrics.SensitivityAtSpecificity,
    keras.metrics.SpecificityAtSensitivity,
    keras.metrics.Sum,
    keras.metrics.TrueNegatives,
    keras.metrics.TruePositives,
)


def is_sum(metric: keras.metrics.Metric) -> bool:
    """Whether a metric is one of Keras's that are known to be sums.

    Those in the table above, and means: of a function, of an accuracy, ....
    """
    return type(metric) in _SUMS or type(metric).update_state in (
        keras.metrics.Mean.update_state,
        keras.metrics.MeanMetricWrapper.update_state,
    )


def check_metric(metric: keras.metrics.Metric, output_shape: Any) -> bool:
    """Refuses a metric that isn't a sum over examples.

    The metric is run on made-up labels and predictions; one that takes none
    of the shapes tried is checked on real examples later (`check_additive`).

    Args:
        metric: The metric; left with all its variables as they were.
        output_shape: The model's output shape, `(None, ...)`, or None.

    Returns:
        Whether the metric is known to be a sum.

    Raises:
        ValueError: If the metric's variables for two batches together aren't
            the sums of its variables for each.
    """
    for y_true, y_pred in _probes(output_shape):
        try:
            first, second, both = (
                _state(metric, y_true[part], y_pred[part])
                for part in (slice(0, 2), slice(2, 4), slice(0, 4))
            )
        except Exception:  # the metric takes other shapes than these
            continue
        for a, b, ab in zip(first, second, both, strict=True):
            if not np.allclose(a + b, ab, rtol=1e-3, atol=1e-5):
                raise _not_mergeable(metric.name)
        return True
    return False


def check_additive(name: str, one: np.ndarray, two: np.ndarray) -> None:
    """Refuses a metric whose variable for an example twice isn't doubled.

    Args:
        name: The metric's.
        one: The value of one of its variables after one example.
        two: Its value after the same example twice.

    Raises:
        ValueError: If `two` isn't twice `one`.
    """
    finite = np.all(np.isfinite(one)) and np.all(np.isfinite(two))
    if finite and not np.allclose(2 * one, two, rtol=1e-2, atol=1e-4):
        raise _not_mergeable(name)


def _not_mergeable(name: str) -> ValueError:
    return ValueError(
        f"The metric {name!r} can't be merged over clients: its variables "
        "over two batches together aren't the sums of its variables over "
        "each, as those of a mean (total and count) or of a confusion matrix "
        "are. Write its `update_state` so that it only adds sums over "
        "examples to its variables, starting from zero, and derive the value "
        "in `result`; or leave it out of `compile` and compute it from "
        "`process.model.predict`."
    )


def _probes(output_shape: Any) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    if not isinstance(output_shape, tuple) or not all(
        d is None or isinstance(d, int) for d in output_shape
    ):
        output_shape = (None, 3)
    shape = tuple(d or 3 for d in output_shape[1:]) or (1,)
    size = 4 * int(np.prod(shape))
    # Falling, so that a running maximum shows at once.
    y_pred = np.sort(seeds.uniform(size, "metric", "y_pred"))[::-1]
    y_pred = y_pred.reshape(4, *shape).astype("float32")
    labels = np.array([0, 1, 0, 1], "int32")
    dense = (seeds.uniform(size, "metric", "y") > 0.5).astype("float32")
    yield dense.reshape(4, *shape), y_pred
    yield labels, y_pred
    yield labels[:, None], y_pred


def _state(metric, y_true, y_pred) -> list[np.ndarray]:
    with StatelessScope() as scope:
        metric.reset_state()
        metric.update_state(
            ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        )
        values = [scope.get_current_value(v) for v in metric.variables]
    return [
        np.zeros(v.shape) if a is None else ops.convert_to_numpy(a)
        for v, a in zip(metric.variables, values, strict=True)
    ]
