"""Loss and metrics for a model that comes without."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedlearn.cli.errors import UsageError
from fedlearn.cli.task import Task

if TYPE_CHECKING:
    import keras


class Objective(NamedTuple):
    """What a model is compiled with, besides an optimizer."""

    loss: "str | keras.losses.Loss"
    metrics: "list[str | keras.metrics.Metric]"


def objective(task: Task, output_shape: Any) -> Objective:
    """The loss and the metrics that fit labels and predictions.

    - A class, from `(classes,)` probabilities: cross-entropy, accuracy.
    - A yes or no, from a probability of shape `(1,)`: binary cross-entropy,
      accuracy.
    - An amount, from `(1,)`: mean squared error, mean absolute error.
    - A sequence of classes, from `(length, classes)` probabilities:
      cross-entropy that leaves out padding, and accuracy that leaves out
      `task.ignored`.
    - Tags, 0 or 1 each, from `(tags,)` probabilities: binary cross-entropy,
      precision, and recall among the five likeliest.

    All of these metrics can be merged over clients.

    Args:
        task: With the shapes of an example's label.
        output_shape: The model's, `(None, ...)`; None where it isn't known,
            as of a subclass of `keras.Model` that has seen no data.

    Raises:
        UsageError: If no loss fits.

    Example:

    >>> from fedlearn.data import ArraySpec
    >>> label = ArraySpec((), np.dtype("int64"))
    >>> objective(Task(label, {}), (None, 10)).loss
    'sparse_categorical_crossentropy'

    Source of the metrics of tags: Reddi et al., "Adaptive federated
    optimization", ICLR 2021, appendix on models.
    """
    import keras

    from fedlearn.metrics import MaskedAccuracy

    label = task.label
    if label is None or not _is_shape(output_shape):
        raise UsageError(
            "a model with several outputs, or for labels of several parts, "
            "has to be compiled with losses of its own: give "
            "--model=module:function, whose function compiles it."
        )
    shape = None if output_shape is None else tuple(output_shape[1:])
    if np.issubdtype(label.dtype, np.integer):
        if not label.shape and shape == (1,):
            return Objective("binary_crossentropy", ["accuracy"])
        if shape is None or _fits(label.shape, shape[:-1]):
            if not label.shape:
                return Objective(
                    "sparse_categorical_crossentropy", ["accuracy"]
                )
            return Objective(
                keras.losses.SparseCategoricalCrossentropy(ignore_class=0),
                [MaskedAccuracy(ignore=task.ignored)],
            )
    elif not label.shape and shape in (None, (1,)):
        return Objective("mean_squared_error", ["mean_absolute_error"])
    elif len(label.shape) == 1 and (shape is None or _fits(label.shape, shape)):
        return Objective(
            "binary_crossentropy",
            [
                keras.metrics.Precision(name="precision"),
                keras.metrics.Recall(top_k=5, name="recall_at_5"),
            ],
        )
    raise UsageError(
        f"the model gives predictions of shape {shape} for an example, and "
        f"labels are {label.dtype} of shape {label.shape}: no loss is known "
        "that fits. Choose another --model, or leave it out for one that "
        "suits the data set."
    )


def _is_shape(output_shape: Any) -> bool:
    return output_shape is None or (
        isinstance(output_shape, tuple)
        and all(d is None or isinstance(d, int) for d in output_shape)
    )


def _fits(wanted: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    return len(wanted) == len(shape) and all(
        b in (None, a) for a, b in zip(wanted, shape, strict=True)
    )
