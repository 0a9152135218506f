"""What one client holds: a tuple or a dict of arrays with equal first axes.

An *element* is `(x, y)` or `(x, y, sample_weight)`, where each may itself be
a structure of arrays, or a dict of named features as a file stores them.
"""

import dataclasses
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Element = Any  # a tuple or dict structure of numpy arrays

PARTS = ("x", "y", "sample_weight")


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """Shape (without the axis of examples) and dtype of one array.

    Example:

    >>> ArraySpec((28, 28), np.dtype("float32"))
    ArraySpec(shape=(28, 28), dtype=dtype('float32'))
    """

    shape: tuple[int, ...]
    dtype: np.dtype


def map_arrays(fn: Callable[..., Any], structure: Any, *others: Any) -> Any:
    """`structure` with `fn` applied to each array (or other leaf).

    Containers are new, so that changing one cannot change the original.
    """
    if isinstance(structure, dict):
        return {
            key: map_arrays(fn, value, *(other[key] for other in others))
            for key, value in structure.items()
        }
    if isinstance(structure, (tuple, list)):
        items = [
            map_arrays(fn, *values)
            for values in zip(structure, *others, strict=True)
        ]
        return items if isinstance(structure, list) else tuple(items)
    return fn(structure, *others)


def arrays(structure: Any) -> Iterator[Any]:
    """The leaves of `structure`, in order."""
    return (leaf for _, leaf in named_arrays(structure))


def named_arrays(structure: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves with the names users know them by: `x['image']`, `y`."""
    if isinstance(structure, dict):
        for key, value in structure.items():
            inner = f"{name}[{key!r}]" if name else str(key)
            yield from named_arrays(value, inner)
    elif isinstance(structure, (tuple, list)):
        for index, value in enumerate(structure):
            is_part = not name and index < len(PARTS)
            inner = PARTS[index] if is_part else f"{name}[{index}]"
            yield from named_arrays(value, inner)
    else:
        yield name, structure


def num_examples(element: Element) -> int:
    """The length of the first axis of an element."""
    return int(next(arrays(element)).shape[0])


def spec_of(element: Element) -> Any:
    """The element's structure with an `ArraySpec` in place of each array."""
    return map_arrays(lambda a: ArraySpec(a.shape[1:], a.dtype), element)


def _read_only_view(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def read_only(element: Element) -> Element:
    """Views that cannot be written to; the user's own arrays still can."""
    return map_arrays(_read_only_view, element)


def take(element: Element, rows: Any) -> Element:
    """The examples at `rows` (a slice or an index array), read-only."""
    return map_arrays(lambda a: _read_only_view(a[rows]), element)


def encoded(texts: np.ndarray) -> np.ndarray:
    """Texts as an array of objects of type `bytes`."""
    out = np.empty(texts.size, object)
    out[:] = [t.encode() if isinstance(t, str) else t for t in texts.flat]
    return out.reshape(texts.shape)


def empty_like(spec: Any) -> Element:
    """An element without examples."""
    return map_arrays(lambda s: np.zeros((0, *s.shape), s.dtype), spec)


def is_structure(value: Any) -> bool:
    """Whether it holds arrays, rather than being one written as lists."""
    # [[1, 2], [3, 4]] is one array written as lists; [array, array] is a
    # model's several inputs, as it is for Keras.
    if isinstance(value, (int, float, str)):  # quick, of the labels in a list
        return False
    if isinstance(value, (list, tuple)):
        return any(
            getattr(item, "ndim", 0) >= 1 or is_structure(item)
            for item in value
        )
    return isinstance(value, Mapping)


def _as_array(value: Any, name: str, who: str) -> np.ndarray:
    try:
        array = np.asarray(value)
        if isinstance(value, (list, tuple)) or hasattr(value, "to_numpy"):
            array = _as_given(array, value)
    except ValueError as error:
        raise ValueError(
            f"{who}: {name} cannot be made an array ({error}). Expected rows "
            "of one shape; pad or cut them first."
        ) from error
    if array.ndim == 0:
        raise ValueError(
            f"{who}: {name} is a {type(value).__name__} without an axis of "
            "examples. Expected an array of shape (examples, ...); of a model "
            "trained on x alone, pass y=x."
        )
    return array


def _as_given(array: np.ndarray, value: Any) -> np.ndarray:
    """An array of a list or a data frame; objects where it would be changed.

    NumPy makes floats of integers beyond 64 bits, and texts of numbers that
    stand beside texts; pandas floats of integers beside floats or gaps.
    """
    if array.dtype.kind == "f" and (np.abs(array) >= 2**53).any():
        to_numpy = getattr(value, "to_numpy", None)
        objects = to_numpy(object) if to_numpy else np.asarray(value, object)
        if any(
            isinstance(v, numbers.Integral) and int(v) != float(v)
            for v in objects.flat
        ):
            return objects
    if array.dtype.kind in "SU":
        return np.asarray(value, object)
    return array


def _check_dtype(array: np.ndarray, name: str, who: str, text: bool) -> None:
    kind = array.dtype.kind
    # bfloat16 and its kin come from ml_dtypes with kind "V" and no fields.
    if kind in "biufc" or (kind == "V" and not array.dtype.fields):
        return
    if kind not in "OSUT":
        raise ValueError(
            f"{who}: {name} has dtype {array.dtype}. Expected numbers; turn "
            "dates and records into columns of numbers first."
        )
    odd = [v for v in array.flat if not isinstance(v, (str, bytes))]
    if odd:
        raise ValueError(
            f"{who}: {name} is an array of Python objects (dtype object) that "
            f"holds {odd[0]!r} in {len(odd):,} of {array.size:,} places. "
            "Expected numbers, or texts everywhere; drop examples without a "
            f"value, convert with np.asarray({name}, dtype='float32'), or pad "
            "rows of unequal length."
        )
    if array.size and not text:
        raise ValueError(
            f"{who}: {name} holds text (dtype {array.dtype}). Expected "
            "numbers; map labels to integers first, with the same table for "
            "all clients, as with np.unique(labels, return_inverse=True)."
        )


def _as_structure(value: Any, name: str, who: str, text: bool) -> Any:
    if isinstance(value, Mapping):
        if not value:
            raise ValueError(f"{who}: {name or 'the dict'} is empty.")
        return {
            key: _as_structure(
                item, f"{name}[{key!r}]" if name else str(key), who, text
            )
            for key, item in value.items()
        }
    if is_structure(value):
        items = [
            _as_structure(item, f"{name}[{index}]", who, text)
            for index, item in enumerate(value)
        ]
        return items if isinstance(value, list) else tuple(items)
    array = _as_array(value, name, who)
    _check_dtype(array, name, who, text)
    return array


def as_element(value: Any, who: str, text_labels: bool = False) -> Element:
    """What a user gave for one client, checked; `who` begins the messages.

    `(x,)`, `(x, y)`, `(x, y, sample_weight)` or a dict of features, of
    anything that NumPy makes an array of; `y` of texts if `text_labels`.
    """
    if isinstance(value, Mapping):
        element: Any = _as_structure(value, "", who, text=True)
    elif isinstance(value, (tuple, list)):
        parts = list(value)
        if len(parts) == 3 and parts[2] is None:
            parts.pop()
        if len(parts) not in (1, 2, 3):
            raise ValueError(
                f"{who}: got a {type(value).__name__} of {len(parts)}. "
                "Expected (x, y) or (x, y, sample_weight); several inputs "
                "go into one tuple or dict, as in ((x1, x2), y)."
            )
        # Text can be an input (a TextVectorization layer reads it), but no
        # loss can be computed from it. One array of labels may name classes;
        # those of several outputs have no names.
        names_classes = text_labels and not any(map(is_structure, parts[1:2]))
        element = tuple(
            _as_structure(
                part, name, who, name == "x" or (name == "y" and names_classes)
            )
            for part, name in zip(parts, PARTS, strict=False)
        )
    else:
        raise TypeError(
            f"{who}: got a {type(value).__name__}. Expected a tuple (x, y) "
            "or (x, y, sample_weight), or a dict of features; a "
            "tf.data.Dataset is taken by FederatedDataset.from_tf_datasets."
        )
    named = list(named_arrays(element))
    if len({len(array) for _, array in named}) > 1:
        lengths = ", ".join(f"{name} has {len(a):,}" for name, a in named)
        raise ValueError(
            f"{who}: the arrays have different numbers of examples: {lengths}. "
            "Expected the same first axis in all of them. A list of arrays "
            "means several inputs or outputs; make a list of examples one "
            "array with np.stack."
        )
    return read_only(element)


def missing_labels(element: Element) -> tuple[str, np.ndarray] | None:
    """The array of labels or weights with NaN, if there is one, and where."""
    for name, array in named_arrays(element):
        is_label = isinstance(element, tuple) and not name.startswith("x")
        if is_label and array.dtype.kind == "f":
            gaps = np.isnan(array).any(axis=tuple(range(1, array.ndim)))
            if gaps.any():
                return name, np.flatnonzero(gaps)
    return None


def check_labels(element: Element, who: str) -> None:
    """Raises for labels that are NaN, and says where."""
    if found := missing_labels(element):
        name, rows = found
        raise ValueError(
            f"{who}: {name} is NaN in {len(rows):,} of "
            f"{num_examples(element):,} examples, first in number {rows[0]}. "
            "From such labels no loss can be computed: drop those examples, "
            "or fill in their labels."
        )


def _common(one: np.dtype, other: np.dtype) -> np.dtype | None:
    """The dtype that holds all values of two exactly; None: there is none."""
    kinds = {one.kind, other.kind}
    if one != other and kinds <= set("SUTO"):  # texts of different widths
        return np.dtype(object)
    if one == other or kinds <= set("iu") or kinds == {"f"}:
        wide = np.result_type(one, other)
        return wide if wide.kind in kinds else None
    return None


def common_spec(
    spec: Any, who: str, reference: Any, other: str, same: bool = False
) -> Any:
    """A spec that elements of both fit exactly; `same`: of the same dtypes."""
    if spec == reference:
        return reference
    mine, theirs = (map_arrays(lambda _: "array", s) for s in (spec, reference))
    if mine != theirs:
        raise ValueError(
            f"{who} holds {mine}, but {other} holds {theirs}. Expected the "
            "same structure everywhere."
        )
    leaves = []
    pairs = zip(named_arrays(spec), arrays(reference), strict=True)
    for (name, one), two in pairs:
        dtype = None if same and one != two else _common(one.dtype, two.dtype)
        if one.shape != two.shape or dtype is None:
            raise ValueError(
                f"{who}: {name} has dtype {one.dtype} and examples of shape "
                f"{one.shape}, but in {other} it has {two.dtype} and "
                f"{two.shape}. Expected the same everywhere; convert with "
                ".astype, reshape or pad, in a function for map."
            )
        leaves.append(ArraySpec(one.shape, dtype))
    filled = iter(leaves)
    return map_arrays(lambda _: next(filled), reference)


def unified(elements: Sequence[Element], names: Sequence[str]) -> list[Element]:
    """Elements of one structure, one shape and dtypes that hold all exactly.

    Of one without examples only that is known: [] has neither shape nor dtype.
    """
    filled = [k for k, e in enumerate(elements) if num_examples(e)]
    if not filled:
        return list(elements)
    spec, other = spec_of(elements[filled[0]]), names[filled[0]]
    for k in filled[1:]:
        mine = spec_of(elements[k])
        spec = common_spec(mine, names[k], spec, other[:1].lower() + other[1:])

    def cast(array: np.ndarray, leaf: ArraySpec) -> np.ndarray:
        return _read_only_view(array.astype(leaf.dtype, copy=False))

    return [
        map_arrays(cast, e, spec) if num_examples(e) else empty_like(spec)
        for e in elements
    ]


def concatenate(elements: Sequence[Element], names: Sequence[str]) -> Element:
    """One element with the examples of all, in order."""
    parts = unified(elements, names)
    kept = [part for part in parts if num_examples(part)] or parts[:1]
    if len(kept) == 1:
        return kept[0]
    return read_only(map_arrays(lambda *a: np.concatenate(a), *kept))
