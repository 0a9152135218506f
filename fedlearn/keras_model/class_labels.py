from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from fedlearn import seeds
from fedlearn.keras_model import keras_internals
from fedlearn.keras_model.stateless_scope import StatelessScope, current


class _Use(NamedTuple):
    """One place where labels are taken for classes."""

    leaf: int  # which of the labels' arrays
    reach: Any  # from an array of labels, of one row, to what gets there
    num_classes: int
    as_given: bool  # whether labels in range get there as they are
    out_of_range: dict[float, bool]  # whether a label gets there as such


class LabelCheck:
    """Refuses labels with which a loss goes wrong, by the client's name.

    A label out of range aborts TensorFlow without a word about whose it was,
    and on JAX counts for nothing, in silence. Where labels are taken for
    classes is read from the graph of Keras operations that each loss is, so
    that it is known for a loss of one's own around Keras's, for
    `ignore_class`, for masks, and for several outputs. Of a loss made of
    other operations nothing is known.
    """

    def __init__(self, model: keras.Model):
        self._model = model
        self._uses: dict[Any, list[_Use]] = {}

    def check(self, batch: tuple, outputs: Any, client_id: str) -> None:
        """Raises ValueError for labels that are out of range, or NaN.

        `outputs` are the model's for some of the batch, or their shapes.
        """
        arrays = keras.tree.flatten(batch[1])
        key = tuple((a.shape[1:], a.dtype) for a in arrays)
        if key not in self._uses:
            self._uses[key] = _find_uses(self._model, batch[1], outputs)
        uses = self._uses[key]
        for use in uses:
            _check_range(use, arrays[use.leaf], client_id)
        for i, array in enumerate(arrays):
            if array.dtype.kind == "f" and np.isnan(array).any():
                taken = any(use.leaf == i for use in uses)
                self._check_gaps(batch, outputs, i, taken, client_id)

    def _check_gaps(self, batch, outputs, leaf, taken, client_id) -> None:
        """Of a loss that leaves NaN labels out nothing is to be said."""
        array = keras.tree.flatten(batch[1])[leaf]
        gaps = np.isnan(array.reshape(len(array), -1)).any(axis=1)
        row = int(np.argmax(gaps))
        one = keras.tree.map_structure(lambda a: a[row : row + 1], batch)
        with_zero = self._loss(one, outputs, leaf)
        if with_zero is None or not np.isfinite(with_zero):
            return  # it isn't the gap
        with_gap = self._loss(one, outputs)
        if (
            with_gap is None
            or not np.isfinite(with_gap)
            # Taken for a class and cast to an integer, NaN is 0 on JAX.
            or (taken and with_gap == with_zero)
        ):
            raise ValueError(
                f"{int(gaps.sum())} of {len(gaps)} labels of client "
                f"{client_id!r} are NaN, which makes the loss NaN or wrong. "
                "Leave these examples out, for example with "
                "`dataset.map(fn)`, or train with a loss that leaves them out."
            )

    def _loss(self, one: tuple, outputs: Any, filled: int | None = None) -> Any:
        """The loss of an example, with 0 for NaN in one of the labels' arrays.

        Of a made-up prediction, and None if it fails.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(one)
        arrays = keras.tree.flatten(y)
        if filled is not None:
            arrays[filled] = np.nan_to_num(arrays[filled])
        y = keras.tree.pack_sequence_as(y, arrays)
        y_pred = keras.tree.map_structure(_made_up, _of_one(outputs))
        arguments = keras.tree.map_structure(
            ops.convert_to_tensor, (x, y, y_pred)
        )
        try:
            with StatelessScope():
                loss = current(
                    self._model.compute_loss(*arguments, sample_weight)
                )
            return float(ops.convert_to_numpy(loss))
        except Exception:
            return None


def _made_up(like: keras.KerasTensor) -> np.ndarray:
    """A prediction, between 0.1 and 0.9."""
    numbers = 0.1 + 0.8 * seeds.uniform(int(np.prod(like.shape)), "prediction")
    return numbers.reshape(like.shape).astype(like.dtype)


def _check_range(use: _Use, labels: np.ndarray, client_id: str) -> None:
    if not labels.size:
        return
    low, high = labels.min(), labels.max()
    inside = low >= 0 and high < use.num_classes
    if (inside and use.as_given) or np.isnan(low):
        return
    values = np.unique(labels)
    if use.as_given:
        values = values[(values < 0) | (values >= use.num_classes)]
    for value in values.tolist():
        if value not in use.out_of_range:
            row = np.full((1, *labels.shape[1:]), value, labels.dtype)
            reached = ops.convert_to_numpy(use.reach(row))
            use.out_of_range[value] = bool(
                np.any((reached < 0) | (reached >= use.num_classes))
            )
        if use.out_of_range[value]:
            last = use.num_classes - 1
            who = "" if use.as_given else " that the loss sees"
            raise ValueError(
                f"The labels of client {client_id!r} lie between {low} and "
                f"{high}, but the model has {use.num_classes} classes, so "
                f"labels{who} must lie between 0 and {last}, and {value} "
                "doesn't. Number the classes from 0, or give the last layer "
                "more units."
            )


def _find_uses(model: keras.Model, y: Any, outputs: Any) -> list[_Use]:
    """Where a model's losses take labels for classes, as far as is known."""
    if type(model).compute_loss is not keras.Model.compute_loss or any(
        None in tuple(a.shape) for a in keras.tree.flatten(outputs)
    ):
        return []
    y, y_pred = _of_one(y), _of_one(outputs)
    leaves = keras.tree.flatten(y)
    uses = []
    for function, labels, predictions in keras_internals.single_losses(
        model, y, y_pred
    ):
        leaf = next((i for i, a in enumerate(leaves) if a is labels), None)
        if leaf is None:
            continue
        try:
            loss = function(labels, predictions)
        except Exception:  # made of operations that aren't Keras's
            continue
        for target, num_classes in _class_targets(loss):
            try:
                reach = keras.Function(labels, target)
            except ValueError:  # not a function of the labels alone
                continue
            ends = [
                ops.convert_to_numpy(
                    reach(np.full(labels.shape, value).astype(labels.dtype))
                )
                for value in (0, num_classes - 1)
            ]
            as_given = np.all(ends[0] == 0) and np.all(
                ends[1] == num_classes - 1
            )
            uses.append(_Use(leaf, reach, num_classes, bool(as_given), {}))
    return uses


def _of_one(arrays: Any) -> Any:
    """Symbols of arrays with one example."""
    return keras.tree.map_structure(
        lambda a: keras.KerasTensor(
            (1, *a.shape[1:]), keras.backend.standardize_dtype(a.dtype)
        ),
        arrays,
    )


def _class_targets(loss: Any) -> list[tuple[Any, int]]:
    """Of a loss's graph, each tensor taken for classes, and their number."""
    waiting, seen, found = [loss], set(), []
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        operation, inputs = keras_internals.made_by(tensor)
        if type(operation).__name__ == "SparseCategoricalCrossentropy":
            target, output = inputs
            found.append((target, output.shape[operation.axis]))
        waiting += inputs
    return found
