"""`tf.data.Dataset` in and out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlearn.data import element as el


def _tuples(structure: Any) -> Any:
    # To tf.data a list is not a structure but a tensor written out.
    if isinstance(structure, dict):
        return {key: _tuples(value) for key, value in structure.items()}
    if isinstance(structure, (tuple, list)):
        return tuple(_tuples(value) for value in structure)
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
    return tf.data.Dataset.from_tensor_slices(_tuples(element))


def _is_batched(specs: list[Any], who: str) -> bool:
    shapes = [spec.shape for spec in specs]
    if any(shape.rank is None for shape in shapes):
        raise ValueError(
            f"{who}: the data set does not say how many axes its elements "
            f"have: {specs}. Pass batched=True or batched=False."
        )
    if any(shape.rank == 0 for shape in shapes):
        return False
    first = {shape[0] for shape in shapes}
    if len(first) > 1:
        return False
    if first == {None}:
        return True
    raise ValueError(
        f"{who}: every component has a first axis of {first.pop()}, which "
        "may be a batch or a part of one example. Pass batched=True or "
        "batched=False."
    )


def _stack(values: tuple[np.ndarray, ...], name: str, who: str) -> np.ndarray:
    shapes = {np.shape(value) for value in values}
    if len(shapes) > 1:
        raise ValueError(
            f"{who}: examples of {name or 'the data set'} have different "
            f"shapes, such as {' and '.join(map(str, sorted(shapes)[:2]))}. "
            "Expected one shape; pad or cut them first, as with "
            "tf.data.Dataset.padded_batch."
        )
    first = np.asarray(values[0])
    if isinstance(values[0], bytes) or first.dtype.kind in "OS":
        # As objects: NumPy's own byte strings drop zeros at their end.
        out = np.empty((len(values), *first.shape), object)
        for k, value in enumerate(values):
            out[k] = value
        return out
    return np.stack(values)


def _join(values: tuple[np.ndarray, ...], name: str, who: str) -> np.ndarray:
    shapes = {np.shape(value)[1:] for value in values}
    if len(shapes) > 1:
        raise ValueError(
            f"{who}: batches of {name or 'the data set'} have examples of "
            f"different shapes, such as "
            f"{' and '.join(map(str, sorted(shapes)[:2]))}. Expected one "
            "shape; pad or cut them first."
        )
    return np.concatenate(values)


def _empty(spec: Any, batched: bool) -> np.ndarray:
    shape = [size or 0 for size in spec.shape.as_list() or []]
    shape = shape[1:] if batched else shape
    dtype = spec.dtype.as_numpy_dtype
    return np.empty((0, *shape), dtype)


def _normalised(structure: Any) -> Any:
    """tf.data's own structures as plain dicts and tuples."""
    if isinstance(structure, Mapping):
        return {key: _normalised(value) for key, value in structure.items()}
    if isinstance(structure, (tuple, list)):
        return tuple(_normalised(value) for value in structure)
    return structure


def read_tf_dataset(
    dataset: Any,
    who: str,
    batched: bool | None,
    text_labels: bool = False,
) -> el.Element:
    """All examples of a `tf.data.Dataset` as an element.

    Raises:
        TypeError: If it is no data set of dense tensors.
        ValueError: As `FederatedDataset.from_tf_datasets`.
    """
    if not hasattr(dataset, "element_spec"):
        raise TypeError(
            f"{who}: got a {type(dataset).__name__}. Expected a "
            "tf.data.Dataset."
        )
    spec = _normalised(dataset.element_spec)
    if not isinstance(spec, (dict, tuple)) or (
        isinstance(spec, tuple) and len(spec) not in (1, 2, 3)
    ):
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
    elements = [_normalised(e) for e in dataset.as_numpy_iterator()]
    leaves = list(zip(*(el.arrays(e) for e in elements), strict=True))
    names = [name for name, _ in el.named_arrays(spec)]
    if not elements:
        stacked = [_empty(leaf, batched) for leaf in specs]
    else:
        gather = _join if batched else _stack
        stacked = [
            gather(values, name, who)
            for values, name in zip(leaves, names, strict=True)
        ]
    filled = iter(stacked)
    return el.as_element(
        el.map_arrays(lambda _: next(filled), spec), who, text_labels
    )
