"""`tf.data.Dataset` in and out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlearn.data import element as el

# How many examples of an unbatched data set are made one array at a time.
_BATCH = 256


def _plain(structure: Any) -> Any:
    """Plain dicts and tuples: to tf.data a list is a tensor written out."""
    if isinstance(structure, Mapping):
        return {key: _plain(value) for key, value in structure.items()}
    if isinstance(structure, (tuple, list)):
        return tuple(_plain(value) for value in structure)
    return structure


def to_tf_dataset(element: el.Element) -> Any:
    """See `FederatedDataset.to_tf_dataset`."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(_plain(element))


def _is_batched(specs: list[Any], who: str) -> bool:
    shapes = [spec.shape for spec in specs]
    if all(shape.rank is not None for shape in shapes):
        first = {shape[0] if shape.rank else "scalar" for shape in shapes}
        if "scalar" in first or len(first) > 1:
            return False
        if first == {None}:
            return True
    raise ValueError(
        f"{who}: the first axes may be a batch or a part of one example: "
        f"{specs}. Pass batched=True or batched=False."
    )


def read_tf_dataset(
    dataset: Any,
    who: str,
    batched: bool | None,
    text_labels: bool = False,
) -> el.Element:
    """All examples of a `tf.data.Dataset` as an element."""
    spec = _plain(dataset.element_spec)
    if not isinstance(spec, (dict, tuple)):
        raise ValueError(
            f"{who}: an element of the data set is {spec}. Expected (x, y), "
            "(x, y, sample_weight) or a dict."
        )
    specs = list(el.arrays(spec))
    for leaf in specs:
        if type(leaf).__name__ != "TensorSpec":
            raise TypeError(
                f"{who}: the data set holds a {type(leaf).__name__}. Expected "
                "dense tensors; convert with .to_tensor() or tf.sparse."
                "to_dense in a map."
            )
    if batched is None:
        batched = _is_batched(specs, who)
    elif batched and any(leaf.shape.rank == 0 for leaf in specs):
        raise ValueError(
            f"{who}: batched=True, but a component is a scalar: {specs}. "
            "Expected every component to have an axis of examples."
        )
    # INFINITE_CARDINALITY; a data set that only looks finite cannot be told.
    if int(dataset.cardinality()) == -1:
        raise ValueError(
            f"{who}: the data set is endless. Expected each example once; "
            "leave out repeat()."
        )
    batches = dataset if batched else dataset.batch(_BATCH)
    try:
        elements = [_plain(e) for e in batches.as_numpy_iterator()]
    except Exception as error:
        if type(error).__name__ != "InvalidArgumentError":
            raise
        raise ValueError(
            f"{who}: {error}. Expected examples of one shape; pad or cut them "
            "first, as with tf.data.Dataset.padded_batch."
        ) from error
    if not elements:
        elements = [el.map_arrays(lambda s: _empty(s, batched), spec)]
    names = [f"{who}, batch {k}" for k in range(len(elements))]
    return el.concatenate(
        [
            el.as_element(element, name, text_labels)
            for element, name in zip(elements, names, strict=True)
        ],
        names,
    )


def _empty(spec: Any, batched: bool) -> np.ndarray:
    shape = [size or 0 for size in spec.shape.as_list() or []]
    return np.empty((0, *shape[batched:]), spec.dtype.as_numpy_dtype)
