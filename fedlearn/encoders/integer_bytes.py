"""Integers of some bits, end to end, as bytes, on the host.

For integers that are added before they are decoded: what is compiled adds
them as they are, and packs nothing. `bit_packing` packs in what is compiled.
"""

import numpy as np


def pack(integers: np.ndarray, bits: int) -> np.ndarray:
    """The lowest `bits` bits (1 to 32) of integers, one number after another.

    >>> pack(np.array([1, 2, 3, 4], np.int32), 12).size
    6
    """
    words = np.ascontiguousarray(integers, "<u4").reshape(-1, 1)
    places = np.unpackbits(
        words.view(np.uint8), axis=1, count=bits, bitorder="little"
    )
    return np.packbits(places.reshape(-1), bitorder="little")


def unpack(packed: np.ndarray, bits: int, like: np.ndarray) -> np.ndarray:
    """The integers that `pack` packed, of the shape and dtype of `like`.

    Raises:
        ValueError: If there are more bytes than that, or fewer.

    >>> integers = np.array([1, 2, 3, 4], np.int32)
    >>> unpack(pack(integers, 12), 12, integers)
    array([1, 2, 3, 4], dtype=int32)
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
