import numbers
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="fedlearn")
class MaskedAccuracy(keras.metrics.Mean):
    """Accuracy over the positions whose label is a real one.

    Sequences are padded to one length, and what is predicted at padding says
    nothing. A position counts by its label, not by its input: Keras's own
    masks, as of `Embedding(mask_zero=True)`, are about inputs, and a
    sequence's last input is real while its label is padding already.

    It merges over clients by summing its variables, a total and a count.

    Args:
        ignore: Labels that don't count, such as those of padding, of words
            outside the vocabulary and of the end of a sentence.
        name: Name of the metric.
        dtype: Of the result; None for `keras.config.floatx()`.

    Raises:
        ValueError: If `ignore` isn't a sequence of integers; when it is
            updated, if there isn't one label for each row of predictions.

    Example:

    The labels 2 and 1 count; one of them is predicted.

    >>> accuracy = MaskedAccuracy(ignore=(0,))
    >>> y_pred = keras.ops.one_hot([[2, 2, 0, 1]], 3)
    >>> accuracy.update_state(keras.ops.array([[2, 1, 0, 0]]), y_pred)
    >>> float(accuracy.result())
    0.5
    """

    def __init__(
        self,
        ignore: Sequence[int] = (0,),
        name: str = "accuracy",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        # For callbacks that ask whether more is better.
        self._direction = "up"
        if not isinstance(ignore, Sequence) or not all(
            isinstance(label, numbers.Integral) for label in ignore
        ):
            raise ValueError(
                "`ignore` must be a sequence of integer labels, such as "
                f"`ignore=(0,)`. Received: {ignore!r}."
            )
        self.ignore = tuple(int(label) for label in ignore)

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Adds a batch.

        Args:
            y_true: Labels of shape `(batch, ...)`, or with one more axis of
                length one.
            y_pred: Predictions of shape `(batch, ..., num_classes)`; the
                class of the largest counts.
            sample_weight: Of the labels' shape or of their first axes, or
                None.
        """
        y_true, y_pred = map(ops.convert_to_tensor, (y_true, y_pred))
        if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == 1:
            y_true = ops.squeeze(y_true, axis=-1)
        if len(y_true.shape) != len(y_pred.shape) - 1 or any(
            a is not None and b is not None and a != b
            for a, b in zip(y_true.shape, y_pred.shape[:-1], strict=True)
        ):
            raise ValueError(
                f"{self.name!r} compares integer labels with predictions for "
                "each class, which have one more axis. Received: y_true of "
                f"shape {tuple(y_true.shape)}, y_pred of shape "
                f"{tuple(y_pred.shape)}."
            )
        y_true = ops.cast(y_true, "int32")
        hits = ops.equal(y_true, ops.cast(ops.argmax(y_pred, -1), "int32"))
        counts = ops.ones_like(y_true, dtype="bool")
        for label in self.ignore:
            counts = ops.logical_and(counts, ops.not_equal(y_true, label))
        weight = ops.cast(counts, self.dtype)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, self.dtype)
            missing = len(weight.shape) - len(sample_weight.shape)
            weight = weight * sample_weight[(..., *[None] * missing)]
        # Flat: of sequences, Keras would add means over their positions, and
        # shorter ones would count for more.
        super().update_state(
            ops.reshape(hits, (-1,)), sample_weight=ops.reshape(weight, (-1,))
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ignore": list(self.ignore)}
