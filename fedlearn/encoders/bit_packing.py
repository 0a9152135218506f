"""Small integers, close together in bytes.

Values that share bytes stand `num_bytes` or so apart, and not beside each
other: each lane of a group has its own place in the bytes. So a whole lane is
shifted into place at once, in a few passes over contiguous memory.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops


def _group(bits: int) -> tuple[int, int]:
    # The fewest values that fill whole bytes, and those bytes.
    shared = math.gcd(bits, 8)
    return 8 // shared, bits // shared


def packed_size(size: int, bits: int) -> int:
    """Bytes of `size` values: at most `bits` more than `size * bits / 8`."""
    num_lanes, num_bytes = _group(bits)
    return -(-size // num_lanes) * num_bytes


def pack(values: Any, bits: int) -> Any:
    """Packs integers of 1 to 8 bits: uint8 values below `2**bits`."""
    values = ops.convert_to_tensor(values)
    num_lanes, num_bytes = _group(bits)
    lanes = _lanes(values, num_lanes)
    if num_lanes == 1:
        return lanes[0]
    packed = []
    for byte in range(num_bytes):
        parts = [
            _shift(lanes[lane], lane * bits - byte * 8)
            for lane in range(num_lanes)
            if -bits < lane * bits - byte * 8 < 8
        ]
        packed.append(_or(parts))
    return ops.concatenate(packed)


def unpack(packed: Any, bits: int, size: int) -> Any:
    """The `size` integers that `pack` packed."""
    packed = ops.convert_to_tensor(packed)
    num_lanes, num_bytes = _group(bits)
    if num_lanes == 1:
        return packed[:size]
    rows = ops.reshape(packed, (num_bytes, -1))
    mask = ops.convert_to_tensor(np.uint8(2**bits - 1))
    lanes = []
    for lane in range(num_lanes):
        parts = [
            _shift(rows[byte], byte * 8 - lane * bits)
            for byte in range(num_bytes)
            if -8 < byte * 8 - lane * bits < bits
        ]
        lanes.append(ops.bitwise_and(_or(parts), mask))
    return ops.concatenate(lanes)[:size]


def spec(size: int, bits: int) -> keras.KerasTensor:
    """The shape and dtype of what `pack` returns."""
    return keras.KerasTensor((packed_size(size, bits),), "uint8")


def packed_trits_size(size: int) -> int:
    """The number of bytes of `size` values of 0, 1 or 2."""
    return -(-size // 5)


def pack_trits(values: Any) -> Any:
    """Packs uint8 values of 0, 1 or 2, five a byte: 3**5 is 243."""
    lanes = _lanes(ops.convert_to_tensor(values), 5)
    packed = lanes[4]
    for lane in (3, 2, 1, 0):
        packed = packed * _byte(3) + lanes[lane]
    return packed


def unpack_trits(packed: Any, size: int) -> Any:
    """The `size` values that `pack_trits` packed."""
    packed = ops.convert_to_tensor(packed)
    lanes = []
    for _ in range(5):
        rest = ops.floor_divide(packed, _byte(3))
        lanes.append(packed - rest * _byte(3))
        packed = rest
    return ops.concatenate(lanes)[:size]


def _lanes(values: Any, num_lanes: int) -> Any:
    missing = -values.shape[0] % num_lanes
    if missing:
        values = ops.pad(values, [(0, missing)])
    return ops.reshape(values, (num_lanes, -1))


def _byte(value: int) -> Any:
    return ops.convert_to_tensor(np.uint8(value))


def _shift(values: Any, distance: int) -> Any:
    if distance > 0:
        return ops.left_shift(values, _byte(distance))
    if distance < 0:
        return ops.right_shift(values, _byte(-distance))
    return values


def _or(parts: list[Any]) -> Any:
    result = parts[0]
    for part in parts[1:]:
        result = ops.bitwise_or(result, part)
    return result
