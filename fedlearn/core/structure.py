"""Python's values of a type, as flat lists of arrays and back."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fedlearn.core.types import SequenceType, StructType, TensorType, Type


def pack(leaves: Iterator[Any], t: Any, named: type = dict) -> Any:
    """A value of a type: dicts of elements with names, tuples of others."""
    if isinstance(t, StructType):
        parts = [pack(leaves, e, named) for e in t.elements]
        if t.names is None:
            return tuple(parts)
        return named(zip(t.names, parts, strict=True))
    if isinstance(t, TensorType):
        return next(leaves)
    return pack(leaves, t.parts[0], named)


def children(value: Any) -> list[Any]:
    """The values of a dict, or the items of a list or tuple."""
    return list(value.values() if isinstance(value, Mapping) else value)


def mapped(fn: Callable, value: Any) -> Any:
    """What a function makes of each leaf; Keras's sorts the keys of dicts."""
    if isinstance(value, Mapping):
        return {k: mapped(fn, v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [mapped(fn, v) for v in value]
    return fn(value)


def flatten(
    value: Any, t: Type, at: str, lead: Any = (), array: Callable | None = None
) -> Iterator[Any]:
    """The arrays of a value; a TypeError unless it is of the type.

    `at` is what it is called, `lead` are dimensions before those of the type.
    `array` makes the arrays of what is given, NumPy's by default.
    """
    if isinstance(t, SequenceType):
        yield from flatten(value, t.element, at, (*lead, None), array)
    elif isinstance(t, TensorType):
        yield (array or _array)(value, t, at, (*lead, *t.shape))
    else:
        assert isinstance(t, StructType)
        if isinstance(value, Mapping) and set(value) == set(t.names or ()):
            value = [value[n] for n in t.names or ()]
        if not isinstance(value, (list, tuple)) or len(value) != len(
            t.elements
        ):
            raise _unfit(value, t, at)
        for v, (name, e) in zip(value, t.items(), strict=True):
            here = f"{at}.{name}" if t.names else at + name
            yield from flatten(v, e, here, lead, array)


def _array(value: Any, t: TensorType, at: str, shape: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:  # lists of unlike lengths
        array = np.empty(0, object)
    fits = len(shape) == array.ndim and all(
        not isinstance(s, int) or s == length
        for s, length in zip(shape, array.shape, strict=True)
    )
    if fits and array.dtype != t.dtype and array.size:
        # What a cast may lose are digits of a fraction.
        kinds = {"i": "iu", "u": "iu", "f": "iufV", "V": "iufV", "c": "iufcV"}
        fits = array.dtype.kind in kinds.get(t.dtype.kind, "")
        if fits and t.dtype.kind in "iu":
            limits = np.iinfo(t.dtype)
            fits = limits.min <= array.min() and array.max() <= limits.max
    if not fits:
        raise _unfit(value, TensorType(t.dtype, shape), at)
    return array.astype(t.dtype, copy=False)


def _unfit(value: Any, t: Type, at: str) -> TypeError:
    shown = repr(value)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        shape = ",".join(map(str, value.shape))
        shown = f"an array, {np.dtype(value.dtype).name}[{shape}]"
    elif len(shown) > 100:
        shown = f"{shown[:97]}..."
    return TypeError(f"{at} must be {t}. Received: {shown}.")
