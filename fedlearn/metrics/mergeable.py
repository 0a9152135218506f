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

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import seeds
from fedlearn.keras_model.stateless_scope import StatelessScope
from fedlearn.metrics.masked_accuracy import MaskedAccuracy

Update = Callable[[list[Any], Any], Sequence[Any]]
"""From a metric's variables and a batch to the variables after it."""


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
    MaskedAccuracy,
    keras.metrics.AUC,
    keras.metrics.Accuracy,
    keras.metrics.BinaryAccuracy,
    keras.metrics.BinaryCrossentropy,
    keras.metrics.BinaryIoU,
    keras.metrics.CategoricalAccuracy,
    keras.metrics.CategoricalCrossentropy,
    keras.metrics.CategoricalHinge,
    keras.metrics.ConcordanceCorrelation,
    keras.metrics.CosineSimilarity,
    keras.metrics.F1Score,
    keras.metrics.FBetaScore,
    keras.metrics.FalseNegatives,
    keras.metrics.FalsePositives,
    keras.metrics.Hinge,
    keras.metrics.IoU,
    keras.metrics.KLDivergence,
    keras.metrics.LogCoshError,
    keras.metrics.MeanAbsoluteError,
    keras.metrics.MeanAbsolutePercentageError,
    keras.metrics.MeanIoU,
    keras.metrics.MeanSquaredError,
    keras.metrics.MeanSquaredLogarithmicError,
    keras.metrics.OneHotIoU,
    keras.metrics.OneHotMeanIoU,
    keras.metrics.PearsonCorrelation,
    keras.metrics.Poisson,
    keras.metrics.Precision,
    keras.metrics.PrecisionAtRecall,
    keras.metrics.R2Score,
    keras.metrics.Recall,
    keras.metrics.RecallAtPrecision,
    keras.metrics.RootMeanSquaredError,
    keras.metrics.SensitivityAtSpecificity,
    keras.metrics.SparseCategoricalAccuracy,
    keras.metrics.SparseCategoricalCrossentropy,
    keras.metrics.SparseTopKCategoricalAccuracy,
    keras.metrics.SpecificityAtSensitivity,
    keras.metrics.SquaredHinge,
    keras.metrics.TopKCategoricalAccuracy,
    keras.metrics.TrueNegatives,
    keras.metrics.TruePositives,
)


def is_sum(metric: keras.metrics.Metric) -> bool:
    """Whether a metric is one of Keras's that are known to be sums.

    Those in the table above, where they work along the last axis and not
    along that of the examples; and `Mean` and `Sum`, which a model's own code
    updates: with a number for each batch they count batches, as in Keras.
    """
    if type(metric) in _SUMS:
        arguments = getattr(metric, "_fn_kwargs", {})
        axes = arguments.get("axis", -1)
        if isinstance(metric, keras.metrics.IoU):
            axes = metric.axis
        return axes == -1
    return type(metric).update_state in (
        keras.metrics.Mean.update_state,
        keras.metrics.Sum.update_state,
    )


def check_metric(metric: keras.metrics.Metric, output_shape: Any) -> None:
    """Refuses a metric that doesn't add to what its variables hold.

    It is run on made-up labels and predictions, from several states. One that
    takes none of the shapes tried, or has no variables yet, is checked when
    there are real examples (`check_updates`).

    Args:
        metric: The metric; left with all its variables as they were.
        output_shape: The model's output shape, `(None, ...)`, or None.

    Raises:
        ValueError: If it doesn't add, or doesn't start from zero.
    """
    if not metric.variables:
        return  # made when it is first updated, of shapes that would be wrong
    with StatelessScope() as scope:
        metric.reset_state()
        values = [scope.get_current_value(v) for v in metric.variables]
    for value in values:
        if value is not None and np.any(ops.convert_to_numpy(value)):
            raise _not_mergeable(metric.name, _NOT_ADDED)

    names = {id(v): metric.name for v in metric.variables}

    def update(values, batch):
        mapping = zip(metric.variables, values, strict=True)
        with StatelessScope(mapping) as scope:
            metric.update_state(*batch)
            return [scope.get_current_value(v) for v in metric.variables]

    # One that makes more variables when it is first updated must make them of
    # real examples.
    object.__setattr__(metric, "add_variable", _refuse_variables)
    try:
        for batch in _probes(output_shape):
            try:
                _check_adds(update, metric.variables, names, batch)
            except _UnknownError:
                continue
    finally:
        object.__delattr__(metric, "add_variable")


def _refuse_variables(*args: Any, **kwargs: Any) -> Any:
    raise _UnknownError


def check_has_variables(metric: keras.metrics.Metric) -> None:
    """Refuses a metric that keeps what it counts elsewhere.

    Raises:
        ValueError: If it has no variables.
    """
    if not metric.variables:
        raise _not_mergeable(
            metric.name,
            "it has no variables, so that what it counts stays where nobody "
            "sees it. Make them with `self.add_weight`",
        )


def check_updates(
    update: Update,
    variables: Sequence[keras.Variable],
    names: dict[int, str],
    batch: Any,
) -> bool:
    """Refuses metrics that aren't sums over the examples of a batch.

    Args:
        update: What a batch does to the metrics' variables.
        variables: The variables.
        names: By the id of each variable that is to be checked, its metric's
            name.
        batch: A pytree of arrays with the same number of rows, at least
            four, which should differ.

    Returns:
        Whether anything could be learned: False if what comes out isn't
        finite.

    Raises:
        ValueError: If some variable isn't a sum.
    """
    try:
        whole = _check_adds(update, variables, names, batch)
    except _UnknownError:
        return False
    known = False
    for cut in (1, 2, 3):
        try:
            parts = [
                _run(update, _zeros(variables), _cut(batch, part))
                for part in (slice(0, cut), slice(cut, None))
            ]
        except _UnknownError:
            continue  # such as a correlation over one example
        known = True
        for variable, total, *summands in zip(
            variables, whole, *parts, strict=True
        ):
            if id(variable) in names and not _close(
                sum(summands), total, summands, variable.dtype
            ):
                raise _not_mergeable(names[id(variable)], _COUNTS_BATCHES)
    return known


def _zeros(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    return [np.zeros(v.shape, v.dtype) for v in variables]


def _cut(batch: Any, part: slice) -> Any:
    return keras.tree.map_structure(lambda a: a[part], batch)


class _UnknownError(Exception):
    """Nothing can be told from this batch."""


def _check_adds(update, variables, names, batch) -> list[np.ndarray]:
    """What a batch adds to each variable, whatever that held before."""
    zeros = _zeros(variables)
    added = _run(update, zeros, batch)
    # Far above and far below all that a batch may bring, and between.
    for low, high in ((500, 1000), (-1000, -500), (-1, 1)):
        start = [
            (
                low
                + (high - low)
                * seeds.uniform(z.size, "metric", "state", low).reshape(z.shape)
            ).astype(z.dtype)
            for z in zeros
        ]
        after = _run(update, start, batch)
        for variable, a, b, d in zip(
            variables, start, after, added, strict=True
        ):
            if id(variable) in names and not _close(
                b - a, d, (a, b), variable.dtype
            ):
                raise _not_mergeable(names[id(variable)], _NOT_ADDED)
    return added


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


def _probes(output_shape: Any) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    if not isinstance(output_shape, tuple) or not all(
        d is None or isinstance(d, int) for d in output_shape
    ):
        output_shape = (None, 3)
    shape = tuple(d or 3 for d in output_shape[1:]) or (1,)
    size = 4 * int(np.prod(shape))
    y_pred = seeds.uniform(size, "metric", "y_pred").reshape(4, *shape)
    labels = np.array([0, 1, 0, 1], "int32")
    dense = (seeds.uniform(size, "metric", "y") > 0.5).astype("float32")
    # Falling and rising, above and below zero: what a metric that assigns
    # makes of one may look like a sum.
    for pred in (y_pred, 2 * y_pred - 1):
        pred = pred.astype("float32")
        yield dense.reshape(4, *shape), pred
        yield labels, pred
        yield labels[:, None], pred


def made_up_predictions(like: Any, low: float, high: float) -> Any:
    """Predictions for some examples, all different.

    Args:
        like: A pytree of what has `shape` and `dtype`.
        low: They are not below.
        high: They are not above.
    """

    def made_up(a):
        size = int(np.prod(a.shape))
        numbers = low + (high - low) * seeds.uniform(size, "metric", "pred")
        dtype = keras.backend.standardize_dtype(a.dtype)
        return numbers.reshape(tuple(a.shape)).astype(dtype)

    return keras.tree.map_structure(made_up, like)
