"""`tf.data.Dataset` in and out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlearn.data import element as el


def _plain(structure: Any) -> Any:
    """Plain dicts and tuples: to tf.data a list is a tensor written out."""
    if isinstance(structure, Mapping):
        return {key: _plain(value) for key, value in structure.items()}
    if isinstance(structure, (tuple, list)):
        return tuple(_plain(value) for value in structure)
    return structure


def to_tf_dataset(element: el.Element) -> Any:
    """See `FederatedDataset.to_tf_dataset`."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "to_tf_dataset needs TensorFlow, which is not installed. Install "
            "it with: pip install tensorflow"
        ) from error
    return tf.data.Dataset.from_tensor_slices(_plain(element))


def _is_batched(specs: list[Any], who: str) -> bool:
    shapes = [spec.shape for spec in specs]
    if all(shape.rank is not None for shape in shapes):
        first = {shape[0] if shape.rank else "scalar" for shape in shapes}
        if "scalar" in first or len(first) > 1:
            return False
        if first == {None}:
            return True
        why = (
            f"every component has a first axis of {first.pop()}, which may be "
            "a batch or a part of one example"
        )
    else:
        why = "the data set does not say how many axes its elements have"
    raise ValueError(
        f"{who}: {why}: {specs}. Pass batched=True or batched=False."
    )


def _gather(
    values: tuple[np.ndarray, ...], name: str, who: str, batched: bool
) -> np.ndarray:
    """Batches or single examples as one array."""
    shapes = {np.shape(value)[batched:] for value in values}
    if len(shapes) > 1:
        raise ValueError(
            f"{who}: examples of {name or 'the data set'} have different "
            f"shapes, such as {' and '.join(map(str, sorted(shapes)[:2]))}. "
            "Expected one shape; pad or cut them first, as with "
            "tf.data.Dataset.padded_batch."
        )
    if batched:
        return np.concatenate(values)
    if isinstance(values[0], bytes) or values[0].dtype.kind in "OS":
        # As objects: NumPy's own byte strings drop zeros at their end.
        out = np.empty((len(values), *np.shape(values[0])), object)
        for k, value in enumerate(values):
            out[k] = value
        return out
    return np.stack(values)


def _empty(spec: Any, batched: bool) -> np.ndarray:
    shape = [size or 0 for size in spec.shape.as_list() or []]
    return np.empty((0, *shape[batched:]), spec.dtype.as_numpy_dtype)


def read_tf_dataset(
    dataset: Any,
    who: str,
    batched: bool | None,
    text_labels: bool = False,
) -> el.Element:
    """All examples of a `tf.data.Dataset` as an element."""
    if not hasattr(dataset, "element_spec"):
        raise TypeError(
            f"{who}: got a {type(dataset).__name__}. Expected a "
            "tf.data.Dataset."
        )
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
    elements = [_plain(e) for e in dataset.as_numpy_iterator()]
    leaves = zip(*map(el.arrays, elements), strict=True)
    if elements:
        names = [name for name, _ in el.named_arrays(spec)]
        found = [
            _gather(values, name, who, batched)
            for values, name in zip(leaves, names, strict=True)
        ]
    else:
        found = [_empty(leaf, batched) for leaf in specs]
    filled = iter(found)
    element = el.map_arrays(lambda _: next(filled), spec)
    return el.as_element(element, who, text_labels)
