"""Messages as bytes: what is sent is what is measured.

A message is a pytree of arrays. Its format: `FLM` and the format's number, `1`;
the length of the header (4 bytes, little-endian); a JSON header with the
structure and each array's dtype and shape, written in one way only (in ASCII,
without spaces, keys in order and none twice); then each array's bytes,
little-endian, in C order. An array may have any length, also beyond 4 GiB.
There is no pickle in it, and reading checks every length.
"""

import io
import json
import math
import struct
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

_MAGIC = b"FLM1"
_DAMAGED = "The message's header is damaged."
_SAME = "Do client and server have the same model and encoders?"
_PIECE = 2**20  # bytes that are read at a time
_MOST_AXES = 64  # NumPy's

_KINDS: list[Any] = [
    *("bool", "float16", "float32", "float64"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    # bfloat16, and smaller floats and integers.
    *(
        kind
        for kind in vars(ml_dtypes).values()
        if isinstance(kind, type) and issubclass(kind, np.generic)
    ),
]
_DTYPES: dict[str, np.dtype] = {np.dtype(k).name: np.dtype(k) for k in _KINDS}


def pack(tree: Any) -> bytes:
    """A message's bytes.

    Args:
        tree: Nested tuples, lists and dicts (with string keys) of arrays or
            tensors of numbers, or scalars; anything else is a TypeError. Of a
            NamedTuple with defaults, fields at the end that are `()` aren't
            sent.

    >>> unpack(pack({"a": (np.arange(3, dtype="int32"),)}))
    {'a': (array([0, 1, 2], dtype=int32),)}
    """
    return b"".join(chunks(tree))


def chunks(tree: Any) -> Iterator[Any]:
    """The bytes of `pack`, an array at a time: for `file.writelines`.

    Beside the tree there is at most one array in memory.
    """
    leaves: list[Any] = []
    header = _text(_structure(tree, leaves))
    yield _MAGIC + struct.pack("<I", len(header)) + header
    for leaf in leaves:
        # NumPy takes no scalars of bfloat16 from TensorFlow.
        array = np.asarray(leaf.numpy() if hasattr(leaf, "numpy") else leaf)
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        yield np.ascontiguousarray(little).reshape(-1).view(np.uint8)


def length(tree: Any) -> int:
    """How many bytes `pack` gives, without making them."""
    leaves: list[Any] = []
    header = _text(_structure(tree, leaves))
    return 8 + len(header) + sum(_num_bytes(_spec(leaf)) for leaf in leaves)


def unpack(data: bytes, like: Any = None) -> Any:
    """The message of some bytes: `read` of a file that has them."""
    return read(io.BytesIO(data), like)


def read(file: Any, like: Any = None, most_header: int = 2**20) -> Any:
    """The message that a file is, from where it stands to its end.

    Whoever made the bytes may mean harm. With `like`, a message of another
    structure costs nothing, whatever its header says. Memory is taken as bytes
    come, and not because a header announces them; how many a stream may have
    is for who opens it to say.

    Args:
        file: A binary file, or a connection's body: anything with `read(n)`.
        like: What is expected: a pytree of anything with a `shape`, whose
            unknown lengths are None, and a `dtype`. Without it any structure
            is read, and a NamedTuple comes back as a tuple.
        most_header: How many bytes of structure are read where nothing is
            expected: 1 MiB are some 50,000 arrays, and cost 0.1 GB.

    Raises:
        ValueError: If it isn't a message, whole, of the structure of `like`
            and of a format that this version knows.
    """
    start = _take(file, 8)
    if start[:3] != _MAGIC[:3] or not start[3:4].isdigit() or len(start) < 8:
        raise ValueError("These bytes aren't a fedlearn message.")
    if start[:4] != _MAGIC:
        raise ValueError(
            f"The message is of format {start[3:4].decode()}, and this version "
            "of fedlearn reads format 1. Update fedlearn here, or write the "
            "message with the version that is here."
        )
    (found,) = struct.unpack("<I", start[4:])
    expected = None if like is None else _structure(like, [])
    if expected is not None:
        # A length takes up to 20 digits, where the spec has `null`.
        text = _text(expected)
        if found > len(text) + 16 * text.count(b"null"):
            raise ValueError(
                "The message is another one than expected: its header is "
                f"{found} bytes long. {_SAME}"
            )
    elif found > most_header:
        raise ValueError(
            f"The message's header is {found:,} bytes long, and without "
            f"`like` at most {most_header:,} are read. Say what is expected."
        )
    structure = _parsed(_take(file, found))
    if expected is not None:
        _compare(structure, expected)
    try:
        tree = _read(structure, file)
    except RecursionError as error:
        raise ValueError(_DAMAGED) from error
    if file.read(1):
        raise ValueError("There are more bytes than the header says.")
    return tree if like is None else _shaped(tree, like)


def _take(file: Any, num_bytes: int) -> bytearray:
    """The next bytes; fewer at the end of the file."""
    data = bytearray()
    while piece := file.read(min(num_bytes - len(data), _PIECE)):
        data += piece
    return data


def _parsed(header: bytearray) -> Any:
    try:
        structure = json.loads(header)
        if _text(structure) == header:
            return structure
    except (ValueError, RecursionError):
        pass
    raise ValueError(_DAMAGED)


def _text(structure: Any) -> bytes:
    return json.dumps(structure, separators=(",", ":"), sort_keys=True).encode()


def _structure(tree: Any, leaves: list[Any]) -> Any:
    """The header of a tree or a spec, whose leaves are put into a list."""
    if isinstance(tree, dict):
        return {"d": {k: _structure(tree[k], leaves) for k in sorted(tree)}}
    if isinstance(tree, (tuple, list)):
        kind = "l" if isinstance(tree, list) else "t"
        return {kind: [_structure(item, leaves) for item in _sent(tree)]}
    if not hasattr(tree, "dtype"):
        tree = np.asarray(tree)
    if _name(tree.dtype) not in _DTYPES:
        raise TypeError(
            "A message holds arrays of numbers. Received an object of type "
            f"{type(tree).__name__}: {tree!r}."
        )
    leaves.append(tree)
    return _spec(tree)


def _spec(leaf: Any) -> list:
    return [_name(leaf.dtype), *leaf.shape]


def _num_bytes(spec: list) -> int:
    return math.prod(spec[1:]) * _DTYPES[spec[0]].itemsize


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


def _read(structure: Any, file: Any) -> Any:
    if isinstance(structure, dict) and len(structure) == 1:
        ((kind, items),) = structure.items()
        if kind == "d" and isinstance(items, dict):
            return {key: _read(item, file) for key, item in items.items()}
        if kind in ("l", "t") and isinstance(items, list):
            parts = [_read(item, file) for item in items]
            return parts if kind == "l" else tuple(parts)
    # Whoever made the bytes chose these, so nothing is taken on trust.
    if not isinstance(structure, list) or not structure:
        raise ValueError(_DAMAGED)
    name, *shape = structure
    if len(shape) > _MOST_AXES or not all(
        type(length) is int and 0 <= length < 2**63 for length in shape
    ):
        raise ValueError(_DAMAGED)
    dtype = _DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None:
        raise ValueError(
            f"The message has an array of {name!r:.50}, which isn't sent."
        )
    num_bytes = _num_bytes(structure)
    data = _take(file, num_bytes)
    if len(data) < num_bytes:
        raise ValueError(
            f"The message is cut short: an array has {len(data)} bytes, and "
            f"should have {num_bytes}."
        )
    if name == "bool" and np.frombuffer(data, np.uint8).max(initial=0) > 1:
        raise ValueError("The message has a bool that is neither 0 nor 1.")
    try:
        return np.frombuffer(data, dtype).reshape(shape)
    except ValueError as error:  # no array is so long
        raise ValueError(_DAMAGED) from error
