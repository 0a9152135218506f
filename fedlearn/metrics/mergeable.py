"""Which metrics can be merged over clients by summing their variables.

A Keras metric keeps its state in variables. Most are sums over examples (a
total and a count, a confusion matrix), so that the variables of a metric over
two clients together are the sums of its variables over each. Such a metric

* *adds*: what a batch changes in a variable doesn't depend on what the
  variable held. A running maximum, a moving average and one that assigns
  don't; their merged value would be wrong without a word.
* *counts examples*: what a batch adds is the sum of what its examples add,
  each by itself. The mean over batches of a number for each batch adds, but
  its value depends on the batch size.

Keras's own metrics are known by their class. Any other is tried, and refused
if it fails.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import seeds
from fedlearn.keras_model import keras_internals
from fedlearn.metrics.masked_accuracy import MaskedAccuracy

Update = Callable[[list[Any], Any], Sequence[Any]]
"""From a metric's variables and a batch to the variables after it."""


def metrics_of(model: keras.Model) -> list[keras.metrics.Metric]:
    """A model's metrics, those that it was compiled with one by one."""
    compiled, parts = keras_internals.compiled_metrics(model)
    return [m for m in model.metrics if m is not compiled] + parts


def is_sum(metric: keras.metrics.Metric) -> bool:
    """Whether a metric is one of Keras's that are known to be sums.

    Each that takes labels and predictions, where it works along the last axis
    and not along that of the examples; and `Mean` and `Sum`, which a model's
    own code updates: with a number for each batch they count batches, as in
    Keras.
    """
    cls = type(metric)
    if cls.update_state in (
        keras.metrics.Mean.update_state,
        keras.metrics.Sum.update_state,
    ):
        return True
    if cls is not MaskedAccuracy and (
        getattr(keras.metrics, cls.__name__, None) is not cls
        or cls in (keras.metrics.Metric, keras.metrics.MeanMetricWrapper)
    ):
        return False
    if isinstance(metric, keras.metrics.IoU):
        return metric.axis == -1
    return keras_internals.function_arguments(metric).get("axis", -1) == -1


def check_metric(metric: keras.metrics.Metric) -> None:
    """Raises ValueError for a metric that nobody can compute.

    It has no variables, or its result asks in Python what they hold.
    """
    if not metric.variables:
        raise _not_mergeable(
            metric.name,
            "it has no variables, so that what it counts stays where nobody "
            "sees it. Make them with `self.add_weight`",
        )
    if isinstance(metric, keras.metrics.R2Score) and metric.num_regressors:
        raise _not_mergeable(
            metric.name,
            "with `num_regressors` it asks how many examples there are, which "
            "isn't known where a round is compiled. Leave that argument out",
        )


def check_updates(
    update: Update,
    variables: Sequence[keras.Variable],
    names: dict[int, str],
    batch: Any,
) -> bool:
    """Raises ValueError for metrics that aren't sums over a batch's examples.

    `names` has those of the metrics to check by the ids of their variables;
    the batch at least four rows, which should differ. Returns whether anything
    could be learned: False if what comes out isn't finite.
    """
    zeros = [np.zeros(v.shape, v.dtype) for v in variables]

    def added(start, rows=slice(None)):
        part = keras.tree.map_structure(lambda a: a[rows], batch)
        return [
            after - before
            for after, before in zip(
                _run(update, start, part), start, strict=True
            )
        ]

    def check(parts, sizes, why):
        for i, variable in enumerate(variables):
            if id(variable) in names and not _close(
                sum(part[i] for part in parts),
                whole[i],
                [size[i] for size in sizes],
                variable.dtype,
            ):
                raise _not_mergeable(names[id(variable)], why)

    try:
        whole = added(zeros)
        # Far above and far below all that a batch may bring, and between.
        for low, high in ((500, 1000), (-1000, -500), (-1, 1)):
            start = [_between(low, high, z) for z in zeros]
            check([added(start)], [start, whole], _NOT_ADDED)
    except _UnknownError:
        return False
    known = False
    for cut in (1, 2, 3):
        try:
            parts = [added(zeros, r) for r in (slice(cut), slice(cut, None))]
        except _UnknownError:
            continue  # such as a correlation over one example
        known = True
        check(parts, parts, _COUNTS_BATCHES)
    return known


class _UnknownError(Exception):
    """Nothing can be told from this batch."""


def _between(low: int, high: int, like: np.ndarray) -> np.ndarray:
    numbers = seeds.uniform(like.size, "metric", "state", low)
    return (low + (high - low) * numbers.reshape(like.shape)).astype(like.dtype)


def _run(update: Update, values: list[np.ndarray], batch: Any) -> list:
    try:
        after = update(
            [ops.convert_to_tensor(v) for v in values],
            keras.tree.map_structure(ops.convert_to_tensor, batch),
        )
        arrays = [
            np.asarray(value if new is None else ops.convert_to_numpy(new))
            for value, new in zip(values, after, strict=True)
        ]
    except Exception as error:  # the metric takes other shapes than these
        raise _UnknownError from error
    arrays = [a.astype(np.float64) for a in arrays]
    if not all(np.all(np.isfinite(a)) for a in arrays):
        raise _UnknownError
    return arrays


def _close(a: Any, b: Any, sizes: Sequence[np.ndarray], dtype: str) -> bool:
    """Equal to the rounding of sums of numbers of some size."""
    size = max(float(np.max(np.abs(s), initial=0.0)) for s in sizes)
    eps = {"float16": 1e-3, "bfloat16": 1e-2}.get(dtype, 1e-7)
    return np.allclose(a, b, rtol=1e-3, atol=1e-5 + 10 * eps * size)


_NOT_ADDED = (
    "what a batch changes in its variables depends on what they held, or they "
    "don't start from zero, unlike those of a mean (total and count) or of a "
    "confusion matrix. Write its `update_state` so that it only adds sums "
    "over examples to its variables, starting from zero, and derive the value "
    "in `result`"
)
_COUNTS_BATCHES = (
    "its variables over two batches together aren't the sums of its variables "
    "over each, so that its value would change with the batch size. Let it "
    "compute one number for each example, for example with "
    "`ops.mean(..., axis=-1)` and not over all axes, and for a loss give its "
    "class in `keras.metrics`, or its function, and not an object of "
    "`keras.losses`. A metric of Keras's own needs an output with a last axis, "
    "such as (n, 1) and not (n,), and labels of the same shape"
)


def _not_mergeable(name: str, why: str) -> ValueError:
    return ValueError(
        f"The metric {name!r} can't be merged over clients: {why}; or leave "
        "it out of `compile` and compute it from `process.model.predict`."
    )
