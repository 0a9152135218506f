"""Integers as bytes of so many bits, on the host.

They are added before they are decoded: what is compiled adds them as they are,
and packs nothing. `bit_packing` packs in what is compiled.
"""

from typing import Any

import numpy as np
from keras import ops

from fedlearn.encoders.encoder import Spec, Value, Wire


class ModularIntegers(Wire):
    """Lists of integers modulo `2**num_bits` are sent in so many bits."""

    num_bits: int

    def steps(self, value: Any, step: Any, spec: Spec) -> Value:
        """Integers (or a sum of them) times a step, as arrays of a spec."""
        return [
            ops.cast(centred(v, self.num_bits) * step, s.dtype)
            for v, s in zip(value, spec, strict=True)
        ]

    def to_wire(self, encoded: Any) -> Any:
        return [pack(c, self.num_bits) for c in encoded]

    def from_wire(self, sent: Any, spec: Any) -> Any:
        return [
            unpack(c, self.num_bits, like)
            for c, like in zip(sent, spec, strict=True)
        ]


def centred(integers: Any, bits: int) -> Any:
    """Float32 numbers between minus and plus a half of `2**bits`."""
    # Sums of int32 wrap round modulo 2**32, of which ours is a divisor.
    integers = ops.bitwise_and(ops.cast(integers, "int32"), 2**bits - 1)
    half = 2 ** (bits - 1)
    return ops.cast(ops.bitwise_xor(integers, half) - half, "float32")


def pack(integers: np.ndarray, bits: int) -> np.ndarray:
    """The lowest `bits` bits (1 to 32) of integers, one after another."""
    words = np.ascontiguousarray(integers, "<u4").reshape(-1, 1)
    places = np.unpackbits(
        words.view(np.uint8), axis=1, count=bits, bitorder="little"
    )
    return np.packbits(places.reshape(-1), bitorder="little")


def unpack(packed: np.ndarray, bits: int, like: np.ndarray) -> np.ndarray:
    """The integers that were packed, of the shape and dtype of `like`.

    Raises ValueError if there are more bytes than that, or fewer.
    """
    size = int(np.prod(like.shape, dtype=np.int64))
    packed = np.asarray(packed, np.uint8)
    num_bytes = -(-size * bits // 8)
    if packed.shape != (num_bytes,):
        raise ValueError(
            f"A message of {size} integers of {bits} bits is {num_bytes} bytes "
            f"long. Received: {packed.size}. Do client and server have the "
            "same model and encoders?"
        )
    places = np.unpackbits(packed, count=size * bits, bitorder="little")
    places = np.pad(places.reshape(size, bits), [(0, 0), (0, 32 - bits)])
    words = np.packbits(places, axis=1, bitorder="little").view("<u4")
    return words.reshape(like.shape).astype(like.dtype)
