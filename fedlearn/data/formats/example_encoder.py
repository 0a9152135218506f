"""`tf.train.Example` on the wire, written without TensorFlow.

The message types are in `example_proto`, which reads them.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from fedlearn.data.formats import example_proto as proto

_LENGTH = 2  # the wire type of what has a length

_NUMBERS = 1 << 16


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _delimited(number: int, payload: bytes) -> bytes:
    tag = number << 3 | _LENGTH
    return bytes([tag]) + _varint(len(payload)) + payload


def _int_rows(rows: np.ndarray) -> Iterator[bytes]:
    """Each row's varints, of `(examples, length)` integers."""
    # Some numbers at a time: ten bytes each are laid out before they are cut.
    block = max(1, _NUMBERS // max(1, rows.shape[1]))
    for first in range(0, len(rows), block):
        some = rows[first : first + block]
        # A negative number is its 64-bit two's complement.
        values = some.astype(np.int64).view(np.uint64).ravel()
        longest = max(1, -(-int(values.max(initial=0)).bit_length() // 7))
        sizes = np.ones(len(values), np.uint8)
        groups = np.empty((len(values), longest), np.uint8)
        for k in range(longest):
            left = values >> np.uint64(7 * k)
            groups[:, k] = left & np.uint64(0x7F)
            more = left >= 0x80
            groups[more, k] |= 0x80
            sizes += more
        used = np.arange(longest) < sizes[:, None]
        encoded = groups[used].tobytes()
        start = 0
        for size in sizes.reshape(some.shape).sum(axis=1, dtype=int).tolist():
            yield encoded[start : start + size]
            start += size


def _lists(array: np.ndarray, name: str) -> tuple[int, Iterator[bytes]]:
    """The kind of a feature, and the list in each example, encoded."""
    kind = array.dtype.kind
    rows = array.reshape(len(array), int(np.prod(array.shape[1:])))
    if kind in "biu":
        if kind == "u" and rows.size and rows.max() > np.iinfo(np.int64).max:
            raise ValueError(
                f"feature {name!r} holds {rows.max()}. Expected integers "
                "below 2^63: the format has no larger ones."
            )
        return proto.INT64, (_delimited(1, r) for r in _int_rows(rows))
    if kind == "f":
        # Too large a number turns into infinity, and is found as such.
        with np.errstate(over="ignore"):
            narrow = rows.astype("<f4", copy=False)
        if (np.isinf(narrow) & np.isfinite(rows)).any():
            raise ValueError(
                f"feature {name!r} holds numbers beyond float32, the only "
                "floating-point type of the format. Scale them first."
            )
        return proto.FLOAT, (_delimited(1, r.tobytes()) for r in narrow)
    if kind in "OSUT":
        return proto.BYTES, (
            b"".join(
                _delimited(1, v.encode() if isinstance(v, str) else v)
                for v in row.tolist()
            )
            for row in rows
        )
    raise ValueError(
        f"feature {name!r} has dtype {array.dtype}. Expected numbers, "
        "booleans or text; convert it with map first."
    )


def encode_examples(features: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """One serialized `tf.train.Example` for each row of the arrays.

    Text becomes a list of bytes (`str` in UTF-8), floating-point numbers a
    list of float, integers and booleans a list of int64. Rows are flattened
    in C order: the format has no shapes.

    Args:
        features: Arrays of `(examples, ...)` by name.

    Raises:
        ValueError: If a dtype or a number has no place in the format.

    Example:

    >>> list(encode_examples({"label": np.array([7])}))
    [b'\\n\\x10\\n\\x0e\\n\\x05label\\x12\\x05\\x1a\\x03\\n\\x01\\x07']
    """
    names = sorted(features)
    columns = []
    for name in names:
        kind, lists = _lists(features[name], name)
        columns.append((_delimited(1, name.encode()), kind, lists))
    for row in zip(*(lists for _, _, lists in columns), strict=True):
        entries = (
            _delimited(1, key + _delimited(2, _delimited(kind, encoded)))
            for (key, kind, _), encoded in zip(columns, row, strict=True)
        )
        yield _delimited(1, b"".join(entries))
