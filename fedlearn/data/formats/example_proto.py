"""`tf.train.Example` on the wire, read without TensorFlow.

The message types are (protocol buffers, field numbers before the types)::

    Example   {1: Features}
    Features  {1: entry, repeated}
    entry     {1: key, 2: Feature}
    Feature   {1: BytesList | 2: FloatList | 3: Int64List}
    BytesList {1: bytes, repeated}
    FloatList {1: float, packed or one by one}
    Int64List {1: varint, packed or one by one}

A feature is handed out undecoded, so that the numbers of thousands of
examples can be decoded in one call of NumPy.
"""

from collections.abc import Iterator

import numpy as np

BYTES, FLOAT, INT64 = 1, 2, 3
KIND_NAMES = {BYTES: "bytes", FLOAT: "float", INT64: "int64"}

# Wire types of protocol buffers.
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

# `list[bytes]` for BYTES; for FLOAT and INT64 the encoded values, end to end.
Feature = tuple[int, "list[bytes] | bytes"]


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 10 bytes")
    raise ValueError("it ends within a number")


def _fields(
    data: bytes, at: int, end: int
) -> Iterator[tuple[int, int, int, int]]:
    """Yields (field number, wire type, start, stop of the payload)."""
    while at < end:
        # Tags and lengths below 128 are one byte; almost all are.
        tag = data[at]
        if tag < 0x80:
            at += 1
        else:
            tag, at = _varint(data, at, end)
        wire = tag & 7
        if wire == _LENGTH:
            if at < end and data[at] < 0x80:
                length = data[at]
                at += 1
            else:
                length, at = _varint(data, at, end)
            stop = at + length
        elif wire == _VARINT:
            stop = _varint(data, at, end)[1]
        elif wire == _FIXED32:
            stop = at + 4
        elif wire == _FIXED64:
            stop = at + 8
        else:
            raise ValueError(f"wire type {wire}, which does not exist")
        if stop > end:
            raise ValueError("it ends within a field")
        yield tag >> 3, wire, at, stop
        at = stop


_UNPACKED = {BYTES: _LENGTH, FLOAT: _FIXED32, INT64: _VARINT}


def _parse_list(data: bytes, at: int, end: int, kind: int) -> list[bytes]:
    values = []
    for number, wire, start, stop in _fields(data, at, end):
        if number != 1:
            continue
        if wire != _LENGTH and wire != _UNPACKED[kind]:
            raise ValueError(
                f"a list of {KIND_NAMES[kind]} with wire type {wire}"
            )
        values.append(data[start:stop])
    return values


def _parse_feature(data: bytes, at: int, end: int) -> Feature | None:
    kind = 0
    values: list[bytes] = []
    for number, wire, start, stop in _fields(data, at, end):
        if number not in KIND_NAMES or wire != _LENGTH:
            continue
        # Parts of the same message are merged; of a oneof the last one wins.
        if number != kind:
            kind, values = number, []
        values += _parse_list(data, start, stop, kind)
    if not kind:
        return None
    if kind == BYTES:
        return kind, values
    if len(values) == 1:
        return kind, values[0]
    # Laid end to end, a part without its end would run into the next one.
    for part in values:
        if kind == FLOAT and len(part) % 4:
            raise ValueError("a list of float that ends within a number")
        if kind == INT64 and part and part[-1] >= 0x80:
            raise ValueError("a list of int64 that ends within a number")
    return kind, b"".join(values)


def parse_example(data: bytes) -> dict[str, Feature]:
    """The features of one serialized `tf.train.Example`.

    Returns:
        From name to `(kind, values)`: a list of `bytes` for `BYTES`; the
        encoded numbers for `FLOAT` (see `decode_floats`) and `INT64` (see
        `decode_ints`). A feature without a kind is left out.

    Raises:
        ValueError: If the bytes are no such message.

    Example:

    >>> one = b"\\n\\x10\\n\\x0e\\n\\x05label\\x12\\x05\\x1a\\x03\\n\\x01\\x07"
    >>> parse_example(one)
    {'label': (3, b'\\x07')}
    >>> parse_example(one[:-1])
    Traceback (most recent call last):
    ...
    ValueError: it ends within a field
    """
    features: dict[str, Feature] = {}
    for number, wire, start, stop in _fields(data, 0, len(data)):
        if number != 1 or wire != _LENGTH:
            continue
        for inner, kind, at, end in _fields(data, start, stop):
            if inner != 1 or kind != _LENGTH:
                continue
            key = ""
            feature = None
            for field, _, first, last in _fields(data, at, end):
                if field == 1:
                    key = data[first:last].decode("utf-8")
                elif field == 2:
                    feature = _parse_feature(data, first, last)
            if feature is not None:
                features[key] = feature
    return features


def decode_floats(data: bytes) -> np.ndarray:
    """The values of float lists, laid end to end, as `float32`.

    Raises:
        ValueError: If the length is no multiple of 4.

    Example:

    >>> decode_floats(b"\\x00\\x00\\x80?")
    array([1.], dtype=float32)
    """
    if len(data) % 4:
        raise ValueError("a list of float that ends within a number")
    return np.frombuffer(data, "<f4").astype(np.float32, copy=False)


def decode_ints(data: bytes) -> np.ndarray:
    """The varints of int64 lists, laid end to end, as `int64`.

    Seven bits a byte, the lowest first; the high bit says that more follow.
    A negative number is its 64-bit two's complement, and takes ten bytes.

    Raises:
        ValueError: If the last number has no end, or one is too long.

    Example:

    >>> decode_ints(b"\\x07\\x80\\x01").tolist()
    [7, 128]
    """
    encoded = np.frombuffer(data, np.uint8)
    more = encoded >= 0x80
    if not more.any():
        return encoded.astype(np.int64)
    if more[-1]:
        raise ValueError("a list of int64 that ends within a number")
    stops = np.flatnonzero(~more)
    starts = np.concatenate([[0], stops[:-1] + 1])
    sizes = stops - starts + 1
    longest = int(sizes.max())
    if longest > 10:
        raise ValueError("a number of more than 10 bytes")
    values = (encoded[starts] & 0x7F).astype(np.uint64)
    for k in range(1, longest):
        wide = np.flatnonzero(sizes > k)
        part = (encoded[starts[wide] + k] & 0x7F).astype(np.uint64)
        values[wide] |= part << np.uint64(7 * k)
    return values.view(np.int64)


def count_ints(data: bytes) -> int:
    """How many varints `data` holds: every number has one low last byte."""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) < 0x80))
