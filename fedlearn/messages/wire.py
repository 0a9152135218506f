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


def to_bytes(tree: Any) -> bytes:
    """A message's bytes.

    Args:
        tree: Nested tuples, lists and dicts (with string keys) of NumPy
            arrays or scalars. A NamedTuple comes back as a tuple.

    Example:

    >>> from_bytes(to_bytes({"a": (np.arange(3, dtype="int32"),)}))
    {'a': (array([0, 1, 2], dtype=int32),)}
    """
    arrays: list[np.ndarray] = []
    structure = _structure(tree, arrays)
    header = json.dumps(structure, separators=(",", ":")).encode()
    parts = [_MAGIC, struct.pack("<I", len(header)), header]
    parts += [
        a.astype(a.dtype.newbyteorder("<"), copy=False).tobytes()
        for a in arrays
    ]
    return b"".join(parts)


def _structure(tree: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(tree, dict):
        return {"d": {k: _structure(tree[k], arrays) for k in sorted(tree)}}
    if isinstance(tree, (tuple, list)):
        kind = "l" if isinstance(tree, list) else "t"
        return {kind: [_structure(item, arrays) for item in tree]}
    array = np.asarray(tree)
    if not _is_sent(array.dtype):
        raise TypeError(
            "A message holds arrays of numbers. Received an object of type "
            f"{type(tree).__name__}: {tree!r}."
        )
    arrays.append(array)
    return [array.dtype.name, *array.shape]


def from_bytes(data: bytes) -> Any:
    """The message of some bytes, as `to_bytes` took it.

    Raises:
        ValueError: If the bytes aren't one whole message.
    """
    if data[:4] != _MAGIC or len(data) < 8:
        raise ValueError("These bytes aren't a fedlearn message.")
    (length,) = struct.unpack("<I", data[4:8])
    try:
        structure = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise ValueError(_DAMAGED) from error
    try:
        tree, end = _read(structure, data, 8 + length)
    except RecursionError as error:
        raise ValueError(_DAMAGED) from error
    if end != len(data):
        raise ValueError(
            f"The message has {len(data)} bytes; its header says {end}."
        )
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
