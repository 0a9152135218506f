"""What Keras trains on, as one client's arrays."""

from typing import Any

import numpy as np

from fedlearn.data import element as el


def is_tf_dataset(value: Any) -> bool:
    """Whether it is a `tf.data.Dataset`; TensorFlow is not imported."""
    return hasattr(value, "element_spec")


def is_py_dataset(value: Any) -> bool:
    """Whether it is a `keras.utils.PyDataset`; Keras is not imported."""
    return any(
        kind.__name__ == "PyDataset" and kind.__module__.startswith("keras.")
        for kind in type(value).__mro__
    )


def read_client_data(
    value: Any,
    who: str,
    batched: bool | None = None,
    text_labels: bool = False,
) -> el.Element:
    """A client's examples, of whatever they are given as.

    Args:
        value: `(x,)`, `(x, y)` or `(x, y, sample_weight)`, or a dict of
            features; a finite `tf.data.Dataset` or `keras.utils.PyDataset`
            of such, which is read once.
        who: Begins the messages.
        batched: Of a `tf.data.Dataset`; see `read_tf_dataset`.
        text_labels: See `element.as_element`.

    Raises:
        ValueError: If the arrays don't fit together.
        TypeError: If it is something else.
    """
    if is_tf_dataset(value):
        from fedlearn.data.formats.tf_data import read_tf_dataset

        return read_tf_dataset(value, who, batched, text_labels)
    if is_py_dataset(value):
        return _read_py_dataset(value, who, text_labels)
    return el.as_element(value, who, text_labels)


def _read_py_dataset(dataset: Any, who: str, text_labels: bool) -> el.Element:
    count = dataset.num_batches
    if count is None:
        raise ValueError(
            f"{who}: the PyDataset is endless. Expected each example once; "
            "give it a __len__."
        )
    if not count:
        raise ValueError(
            f"{who}: the PyDataset has no batches. Expected at least one; "
            "leave the client out."
        )
    batches = []
    for index in range(count):
        batch = dataset[index]
        if not isinstance(batch, (tuple, list, dict)):
            batch = (batch,)
        # Of every backend's tensors.
        batch = el.map_arrays(np.asarray, batch)
        name = f"{who}, batch {index}"
        batches.append(el.as_element(batch, name, text_labels))
    return el.concatenate(
        batches, [f"{who}, batch {index}" for index in range(count)]
    )
