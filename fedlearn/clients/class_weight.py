import math
import numbers
import re
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops


def checked(class_weight: Any) -> dict[int, float] | None:
    """A mapping from classes to weights, with keys also from JSON (`"1"`)."""
    if class_weight is None:
        return None
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            "`class_weight` must be a dict from classes to weights, such as "
            f"{{0: 1.0, 1: 5.0}}, or None. Received: {class_weight!r}."
        )
    found = {}
    for key, weight in class_weight.items():
        if not re.fullmatch(r"-?\d+", str(key)) or not (
            isinstance(weight, numbers.Real) and 0 <= float(weight) < math.inf
        ):
            raise ValueError(
                "`class_weight` must have integer classes and weights that "
                f"are finite numbers >= 0. Received: {key!r}: {weight!r}."
            )
        found[int(key)] = float(weight)
    return dict(sorted(found.items()))


def weighted(batch: tuple, class_weight: dict[int, float] | None) -> tuple:
    """A batch with the weights of its labels' classes as sample weights.

    The class of a row of several numbers is that of the largest, as for
    one-hot labels; a class without a weight has 1.
    """
    if class_weight is None:
        return batch
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    if sample_weight is not None:
        raise ValueError(
            "The clients' data have sample weights, and LocalTraining has "
            "`class_weight`. Use one of them; the product can be made with "
            "`data.map(fn)`."
        )
    if y is None or keras.tree.is_nested(y):
        raise ValueError(
            "`class_weight` is for models with a single output, and clients "
            "with labels. Give clients as (x, y, sample_weight) instead."
        )
    labels = y
    if len(y.shape) > 1:
        one = y.shape[-1] == 1
        labels = ops.squeeze(y, -1) if one else ops.argmax(y, axis=-1)
    if len(labels.shape) != 1:
        raise ValueError(
            "`class_weight` takes labels of shape (n,), (n, 1) or "
            f"(n, num_classes). Received: {tuple(y.shape)}."
        )
    if keras.backend.is_float_dtype(
        keras.backend.standardize_dtype(labels.dtype)
    ):
        labels = ops.round(labels)
    labels = ops.cast(labels, "int32")
    weights = ops.ones_like(labels, keras.config.floatx())
    for number, weight in class_weight.items():
        weights = ops.where(
            ops.equal(labels, number), ops.cast(weight, weights.dtype), weights
        )
    return x, y, weights
