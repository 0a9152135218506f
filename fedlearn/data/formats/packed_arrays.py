"""Named arrays packed with MessagePack, as FedJAX and Flax write them.

Of MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md) it
takes what these writers use: a map from name to extension, whose payload is
MessagePack again. Extension 1 is an array of numbers, as (shape, name of the
dtype, bytes in C order); extension 4 an array of byte strings, as (shape,
list of strings). So nothing is nested deeper than the format says.
"""

import math

import numpy as np

# How many bytes after the tag give the length (of a number: its value).
_WIDTHS = {
    0xC4: ("bytes", 1),
    0xC5: ("bytes", 2),
    0xC6: ("bytes", 4),
    0xC7: ("extension", 1),
    0xC8: ("extension", 2),
    0xC9: ("extension", 4),
    0xCC: ("integer", 1),
    0xCD: ("integer", 2),
    0xCE: ("integer", 4),
    0xCF: ("integer", 8),
    0xD9: ("text", 1),
    0xDA: ("text", 2),
    0xDB: ("text", 4),
    0xDC: ("list", 2),
    0xDD: ("list", 4),
    0xDE: ("map", 2),
    0xDF: ("map", 4),
}

_NUMBERS, _STRINGS = 1, 4

_DTYPES = frozenset(
    ["bool"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
    + [f"float{bits}" for bits in (16, 32, 64)]
)

# Without examples there are no bytes to hold a shape against.
_MAX_AXIS = 1 << 32


class _Unpacker:
    """Reads MessagePack values from the front of `data`."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def _take(self, length: int) -> memoryview:
        stop = self._at + length
        if stop > len(self._data):
            raise ValueError("it ends within a value")
        taken = self._data[self._at : stop]
        self._at = stop
        return taken

    def _header(self) -> tuple[str, int]:
        """The type of the next value, and its length (or the number)."""
        tag = self._take(1)[0]
        if tag < 0x80:
            return "integer", tag
        if tag < 0x90:
            return "map", tag & 0x0F
        if tag < 0xA0:
            return "list", tag & 0x0F
        if tag < 0xC0:
            return "text", tag & 0x1F
        if 0xD4 <= tag <= 0xD8:
            return "extension", 1 << (tag - 0xD4)
        if tag not in _WIDTHS:
            raise ValueError(f"a value with the tag {tag:#x}, of no use here")
        kind, width = _WIDTHS[tag]
        return kind, int.from_bytes(self._take(width), "big")

    def _expect(self, kind: str) -> int:
        found, length = self._header()
        if found != kind:
            raise ValueError(f"a {found} where a {kind} was expected")
        return length

    def integer(self) -> int:
        return self._expect("integer")

    def length_of_map(self) -> int:
        return self._expect("map")

    def length_of_list(self) -> int:
        return self._expect("list")

    def string(self) -> memoryview:
        """Text or bytes: older writers made no difference."""
        found, length = self._header()
        if found not in ("text", "bytes"):
            raise ValueError(f"a {found} where a string was expected")
        return self._take(length)

    def extension(self) -> tuple[int, memoryview]:
        length = self._expect("extension")
        return self._take(1)[0], self._take(length)

    def finish(self) -> None:
        if self._at != len(self._data):
            raise ValueError(f"{len(self._data) - self._at} bytes too many")


def _array(code: int, payload: memoryview) -> np.ndarray:
    if code not in (_NUMBERS, _STRINGS):
        raise ValueError(f"an extension of type {code}, which is no array")
    unpacker = _Unpacker(payload)
    parts, expected = unpacker.length_of_list(), 3 if code == _NUMBERS else 2
    if parts != expected:
        raise ValueError(f"an array of {parts} parts instead of {expected}")
    axes = unpacker.length_of_list()
    if not 1 <= axes <= 32:
        raise ValueError(f"an array of {axes} axes instead of 1 to 32")
    shape = tuple([unpacker.integer() for _ in range(axes)])
    if max(shape) > _MAX_AXIS:
        raise ValueError(f"an array of the shape {shape}")
    flat: np.ndarray
    if code == _NUMBERS:
        name = bytes(unpacker.string()).decode("ascii")
        if name not in _DTYPES:
            raise ValueError(f"an array of dtype {name!r}, which is not read")
        dtype = np.dtype(name).newbyteorder("<")
        data = unpacker.string()
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise ValueError(
                f"an array of shape {shape} and dtype {name} with "
                f"{len(data):,} bytes"
            )
        flat = np.frombuffer(data, dtype).astype(name, copy=False)
    else:
        strings = unpacker.length_of_list()
        if strings != math.prod(shape):
            raise ValueError(
                f"an array of shape {shape} with {strings:,} strings"
            )
        values = [bytes(unpacker.string()) for _ in range(strings)]
        flat = np.empty(strings, object)
        flat[:] = values
    unpacker.finish()
    return flat.reshape(shape)


def unpack_arrays(data: bytes) -> dict[str, np.ndarray]:
    """The arrays that `data` holds, by name, in their order.

    No code of the data's author runs: types are named from a fixed list, and
    nothing is unpickled. Arrays of numbers share the memory of `data`.

    Returns:
        Arrays of at least one axis; strings as objects of type `bytes`.

    Raises:
        ValueError: If it is anything else, with what was found.

    Example:

    >>> two_bytes = b"\\x93\\x91\\x02\\xa5uint8\\xc4\\x02\\x07\\x08"
    >>> unpack_arrays(b"\\x81\\xa1y\\xc7\\x0d\\x01" + two_bytes)
    {'y': array([7, 8], dtype=uint8)}
    """
    unpacker = _Unpacker(memoryview(data))
    arrays: dict[str, np.ndarray] = {}
    for _ in range(unpacker.length_of_map()):
        name = bytes(unpacker.string()).decode("utf-8")
        if name in arrays:
            raise ValueError(f"the name {name!r} twice")
        try:
            arrays[name] = _array(*unpacker.extension())
        except ValueError as error:
            raise ValueError(f"under {name!r}: {error}") from error
    unpacker.finish()
    return arrays
