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
    """A client's examples, of whatever they are given as."""
    if is_tf_dataset(value):
        from fedlearn.data.formats.tf_data import read_tf_dataset

        return read_tf_dataset(value, who, batched, text_labels)
    if not is_py_dataset(value):
        return el.as_element(value, who, text_labels)
    if not value.num_batches:
        what = "is endless" if value.num_batches is None else "has no batches"
        raise ValueError(
            f"{who}: the PyDataset {what}. Expected each example once; give "
            "it a __len__, or leave the client out."
        )
    batches = {}
    for index in range(value.num_batches):
        batch = value[index]
        if not isinstance(batch, (tuple, list, dict)):
            batch = (batch,)
        name = f"{who}, batch {index}"
        # Of every backend's tensors.
        arrays = el.map_arrays(np.asarray, batch)
        batches[name] = el.as_element(arrays, name, text_labels)
    return el.concatenate([*batches.values()], [*batches])
