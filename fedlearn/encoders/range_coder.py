"""Bytes in as few as their frequencies allow.

The range variant of asymmetric numeral systems (rANS): Duda 2013, "Asymmetric
numeral systems: entropy coding combining speed of Huffman coding with
compression rate of arithmetic coding", arXiv:1311.2540. A symbol of frequency
f, of 2**14, changes a coder's state x to about x 2**14 / f. So it costs
log2(2**14 / f) bits, where a Huffman code takes whole bits, at least one.

Many coders deal the bytes among them and advance together, each by one byte:
that is what makes it fast in NumPy.

A message: the number of bytes (4 bytes, little-endian as all that follows),
that of coders (2), that of words (4), which byte values there are (a bit each,
32 bytes), their frequencies (2 each), the last states (4 each), the words (2
each). Or, where that wouldn't be shorter: the number of bytes, two bytes of 0,
and the bytes as they are.
"""

import struct

import numpy as np

_BITS = 14
_START = 1 << 16
_MOST_STEPS, _MOST_CODERS = 4096, 4096


def encode(data: bytes) -> bytes:
    """The bytes in fewer, or with 6 more.

    Args:
        data: Fewer than 2**32.

    Example:

    >>> data = bytes([0] * 990 + [1] * 10)
    >>> coded = encode(data)
    >>> len(coded) < 200, decode(coded) == (data, len(coded))
    (True, True)
    """
    symbols = np.frombuffer(data, np.uint8)
    plain = struct.pack("<IH", len(data), 0) + data
    if symbols.size < 100:
        return plain
    counts = np.bincount(symbols, minlength=256)
    table = _frequencies(counts)
    used = table > 0
    num_bits = (counts[used] * (_BITS - np.log2(table[used]))).sum()
    # Each costs 4 bytes, and saves steps.
    num_coders = 1 + int(max(num_bits / 8 / 400, symbols.size / _MOST_STEPS))
    num_coders = min(num_coders, _MOST_CODERS)
    if num_bits / 8 + 4 * num_coders > len(data):
        return plain
    starts = np.cumsum(table) - table
    states = np.full(num_coders, _START, np.uint64)
    words = []
    # Backwards: what is written last is read first.
    for at in reversed(range(0, symbols.size, num_coders)):
        step = symbols[at : at + num_coders]
        frequency, x = table[step], states[: step.size]
        # More would not fit into 32 bits afterwards.
        full = x >= frequency << np.uint64(32 - _BITS)
        words.append(x[full].astype("<u2"))
        x = np.where(full, x >> np.uint64(16), x)
        turns, rest = np.divmod(x, frequency)
        states[: step.size] = (turns << np.uint64(_BITS)) + rest + starts[step]
    stream = np.concatenate(words[::-1])
    coded = b"".join(
        (
            struct.pack("<IHI", len(data), num_coders, stream.size),
            np.packbits(used).tobytes(),
            table[used].astype("<u2").tobytes(),
            states.astype("<u4").tobytes(),
            stream.tobytes(),
        )
    )
    return coded if len(coded) < len(plain) else plain


def decode(
    coded: bytes, at: int = 0, limit: int | None = None
) -> tuple[bytes, int]:
    """The bytes of a message, and where it ends.

    Args:
        coded: Has what `encode` made.
        at: Where it begins there.
        limit: The most bytes that it may hold; None: any number.

    Raises:
        ValueError: If it is damaged, cut short, or holds more.
    """
    size, num_coders = struct.unpack("<IH", _part(coded, at, 6))
    at += 6
    if limit is not None and size > limit:
        raise ValueError(f"it holds {size} bytes; expected at most {limit}")
    if num_coders == 0:
        return _part(coded, at, size), at + size
    (num_words,) = struct.unpack("<I", _part(coded, at, 4))
    mask = np.frombuffer(_part(coded, at + 4, 32), np.uint8)
    used = np.unpackbits(mask).astype(bool)
    at += 36
    arrays = []
    for count, dtype in (
        (int(used.sum()), "<u2"),
        (num_coders, "<u4"),
        (num_words, "<u2"),
    ):
        length = count * np.dtype(dtype).itemsize
        arrays.append(np.frombuffer(_part(coded, at, length), dtype))
        at += length
    frequencies, states, stream = arrays
    table = np.zeros(256, np.uint64)
    table[used] = frequencies
    if table.sum() != 1 << _BITS:
        raise ValueError("its frequencies don't add up")
    return _symbols(size, table, states, stream).tobytes(), at


def _symbols(
    size: int, table: np.ndarray, states: np.ndarray, stream: np.ndarray
) -> np.ndarray:
    slots = np.repeat(np.arange(256, dtype=np.uint8), table.astype(np.intp))
    starts = np.cumsum(table) - table
    symbols = np.empty(size, np.uint8)
    states = states.astype(np.uint64)
    words, place = stream.astype(np.uint64), 0
    for at in range(0, size, states.size):
        x = states[: size - at]
        slot = x & np.uint64((1 << _BITS) - 1)
        step = slots[slot]
        symbols[at : at + step.size] = step
        x = table[step] * (x >> np.uint64(_BITS)) + slot - starts[step]
        short = np.flatnonzero(x < _START)
        end = place + short.size
        if end > words.size:
            raise ValueError("it is cut short")
        x[short] = x[short] << np.uint64(16) | words[place:end]
        states[: step.size] = x
        place = end
    # Where encoding began: a changed bit anywhere leads elsewhere.
    if place != words.size or (states != _START).any():
        raise ValueError("it is damaged")
    return symbols


def _frequencies(counts: np.ndarray) -> np.ndarray:
    # In proportion, with a sum of 2**_BITS, and at least 1 for what occurs.
    total = 1 << _BITS
    table = counts * total // counts.sum()
    table[(table == 0) & (counts > 0)] = 1
    # What is missing or too much goes to the most frequent: they feel it least.
    table[np.argmax(table)] += max(total - table.sum(), 0)
    while table.sum() > total:
        table[np.argmax(table)] -= 1
    return table.astype(np.uint64)


def _part(data: bytes, at: int, length: int) -> bytes:
    part = data[at : at + length]
    if len(part) < length:
        raise ValueError("it is cut short")
    return part
