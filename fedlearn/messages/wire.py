"""Messages as bytes: what is sent is what is measured.

A message is a pytree of NumPy arrays. Its format: the four bytes `FLM1`, the
length of the header (4 bytes, little-endian), a JSON header with the structure
and each array's dtype and shape, then each array's bytes, little-endian, in
C order. There is no pickle in it, and reading checks every length.
"""

import json
import math
import struct
from typing import Any

import ml_dtypes
import numpy as np

_MAGIC = b"FLM1"
_DAMAGED = "The message's header is damaged."
_SAME = "Do client and server have the same model and encoders?"


def pack(tree: Any) -> bytes:
    """A message's bytes.

    Args:
        tree: Nested tuples, lists and dicts (with string keys) of NumPy
            arrays or scalars; anything else is a TypeError. Of a NamedTuple
            with defaults, fields at the end that are `()` aren't sent.

    >>> unpack(pack({"a": (np.arange(3, dtype="int32"),)}))
    {'a': (array([0, 1, 2], dtype=int32),)}
    """
    arrays: list[np.ndarray] = []
    header = _text(_structure(tree, arrays))
    parts: list[Any] = [_MAGIC, struct.pack("<I", len(header)), header]
    for array in arrays:
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        parts.append(np.ascontiguousarray(little).reshape(-1).view(np.uint8))
    return b"".join(parts)


def unpack(data: bytes, like: Any = None) -> Any:
    """The message of some bytes; a ValueError if they aren't one, whole.

    Whoever made the bytes may mean harm: with `like`, a message of another
    structure costs nothing, whatever its header says.

    Args:
        data: One whole message.
        like: What is expected: a pytree of anything with a `shape`, whose
            unknown lengths are None, and a `dtype`. Without it any structure
            is read, and a NamedTuple comes back as a tuple.
    """
    if data[:4] != _MAGIC or len(data) < 8:
        raise ValueError("These bytes aren't a fedlearn message.")
    (length,) = struct.unpack("<I", data[4:8])
    expected = None if like is None else _structure(like)
    if expected is not None:
        # A length takes up to 20 digits, where the spec has `null`.
        header = _text(expected)
        if length > len(header) + 16 * header.count(b"null"):
            raise ValueError(
                "The message is another one than expected: its header is "
                f"{length} bytes long. {_SAME}"
            )
    try:
        structure = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise ValueError(_DAMAGED) from error
    if expected is not None:
        _compare(structure, expected)
    try:
        tree, end = _read(structure, data, 8 + length)
    except RecursionError as error:
        raise ValueError(_DAMAGED) from error
    if end != len(data):
        raise ValueError(
            f"The message has {len(data)} bytes; its header says {end}."
        )
    return tree if like is None else _shaped(tree, like)


def _text(structure: Any) -> bytes:
    return json.dumps(structure, separators=(",", ":")).encode()


def _structure(tree: Any, arrays: list[np.ndarray] | None = None) -> Any:
    """A tree's header; of a spec, without `arrays` to put its arrays in."""
    if isinstance(tree, dict):
        return {"d": {k: _structure(tree[k], arrays) for k in sorted(tree)}}
    if isinstance(tree, (tuple, list)):
        kind = "l" if isinstance(tree, list) else "t"
        return {kind: [_structure(item, arrays) for item in _sent(tree)]}
    if arrays is None:
        return [_name(tree.dtype), *tree.shape]
    array = np.asarray(tree)
    if not _is_sent(array.dtype):
        raise TypeError(
            "A message holds arrays of numbers. Received an object of type "
            f"{type(tree).__name__}: {tree!r}."
        )
    arrays.append(array)
    return [array.dtype.name, *array.shape]


def _sent(parts: Any) -> Any:
    """What is sent of a tuple: not the empty ends of one with names."""
    optional = len(getattr(parts, "_field_defaults", ()))
    count = len(parts)
    while optional and isinstance(parts[count - 1], tuple):
        if parts[count - 1]:
            break
        count, optional = count - 1, optional - 1
    return parts[:count]


def _name(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))


def _compare(found: Any, expected: Any) -> None:
    """Raises unless a header is of a spec's structure."""
    if isinstance(expected, dict):
        ((kind, items),) = expected.items()
        parts: Any = found.get(kind) if isinstance(found, dict) else None
        if type(parts) is type(items) and len(parts) == len(items):
            if kind != "d":
                for part, item in zip(parts, items, strict=True):
                    _compare(part, item)
                return
            if list(parts) == list(items):
                for key in items:
                    _compare(parts[key], items[key])
                return
    elif (
        isinstance(found, list)
        and len(found) == len(expected)
        and all(
            e == f if e is not None else type(f) is int
            for f, e in zip(found, expected, strict=True)
        )
    ):
        return
    raise ValueError(
        "The message is another one than expected: it has "
        f"{_described(found)} where {_described(expected)} should be. {_SAME}"
    )


def _described(structure: Any) -> str:
    if isinstance(structure, list) and structure:
        return f"{structure[0]} of shape {tuple(structure[1:])}"
    return _text(structure)[:60].decode()


def _shaped(tree: Any, like: Any) -> Any:
    """A tree with the NamedTuples of a spec."""
    if isinstance(like, dict):
        return {key: _shaped(tree[key], like[key]) for key in like}
    if isinstance(like, (tuple, list)):
        parts = [_shaped(t, s) for t, s in zip(tree, _sent(like), strict=True)]
        if not hasattr(like, "_fields"):
            return type(like)(parts)
        kind: Any = type(like)
        return kind._make((*parts, *like[len(parts) :]))
    return tree


def _read(structure: Any, data: bytes, at: int) -> tuple[Any, int]:
    if isinstance(structure, dict) and len(structure) == 1:
        ((kind, items),) = structure.items()
        if kind == "d" and isinstance(items, dict):
            tree = {}
            for key, item in items.items():
                tree[key], at = _read(item, data, at)
            return tree, at
        if kind in ("l", "t") and isinstance(items, list):
            parts = []
            for item in items:
                part, at = _read(item, data, at)
                parts.append(part)
            return (parts if kind == "l" else tuple(parts)), at
    # Whoever made the bytes chose these, so nothing is taken on trust.
    if not isinstance(structure, list) or not structure:
        raise ValueError(_DAMAGED)
    name, *shape = structure
    if not isinstance(name, str) or not all(
        type(length) is int and length >= 0 for length in shape
    ):
        raise ValueError(_DAMAGED)
    dtype, count = _dtype(name), math.prod(shape)
    end = at + count * dtype.itemsize
    if end > len(data):
        raise ValueError(
            f"The message is cut short: {len(data)} bytes, and an array "
            f"should reach to byte {end}."
        )
    try:
        array = np.frombuffer(data, dtype, count, at).reshape(shape).copy()
    except (ValueError, OverflowError) as error:  # no array is so long
        raise ValueError(_DAMAGED) from error
    return array, end


def _dtype(name: str) -> np.dtype:
    try:
        # bfloat16 and smaller floats are of ml_dtypes.
        dtype = np.dtype(getattr(ml_dtypes, name, name))
    except TypeError as error:
        raise ValueError(_DAMAGED) from error
    if dtype.name != name or not _is_sent(dtype):
        raise ValueError(
            f"The message has an array of {name}, which isn't sent."
        )
    return dtype


def _is_sent(dtype: np.dtype) -> bool:
    return dtype.kind in "fiub" or hasattr(ml_dtypes, dtype.name)
