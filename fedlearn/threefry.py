"""Random bits that client and server share, equal on every machine.

Threefry-2x32 with 20 rounds, the counter-based generator of Salmon et al.
2011, "Parallel random numbers: as easy as 1, 2, 3": a pure function of a key
and a counter, made of additions, rotations and exclusive ors of 32-bit words.
It has no rounding, so a graph, XLA, a phone and NumPy draw the same bits. The
generators of the backends don't promise that.
"""

from typing import Any

import numpy as np
from keras import ops

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA

# Row b has the signs of the bits of the byte b, the lowest bit first. Rows are
# copied whole, which is faster than shifting single bits into place.
_BYTE_SIGNS = np.where(
    np.arange(256)[:, None] >> np.arange(8) & 1, -1.0, 1.0
).astype(np.float32)


def threefry_2x32(key: tuple[Any, Any], counter: tuple[Any, Any]) -> Any:
    """The block cipher itself, of two uint32 arrays by a key of two."""
    key_0, key_1 = key
    parity = ops.bitwise_xor(ops.bitwise_xor(key_0, key_1), _word(_PARITY))
    keys = (key_0, key_1, parity)
    left, right = counter[0] + key_0, counter[1] + key_1
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            left = left + right
            right = ops.bitwise_xor(_rotate(right, distance), left)
        left = left + keys[(group + 1) % 3]
        right = right + keys[(group + 2) % 3] + _word(group + 1)
    return left, right


def _word(value: int) -> Any:
    return ops.convert_to_tensor(np.uint32(value))


def _rotate(word: Any, distance: int) -> Any:
    return ops.bitwise_or(
        ops.left_shift(word, _word(distance)),
        ops.right_shift(word, _word(32 - distance)),
    )


def random_bits(seed: Any, num_words: int, stream: int = 0) -> Any:
    """`num_words` random uint32 words, at most 2**33; more begin the same.

    `seed` is int32 of shape `(2,)`; `stream`, a number of 32 bits, tells apart
    what is drawn from one.
    """
    seed = ops.cast(ops.convert_to_tensor(seed), "uint32")
    count = (num_words + 1) // 2
    counter = ops.convert_to_tensor(np.arange(count, dtype=np.uint32))
    stream_words = ops.convert_to_tensor(np.full(count, stream, np.uint32))
    words = threefry_2x32((seed[0], seed[1]), (counter, stream_words))
    return ops.reshape(ops.stack(words, axis=1), (-1,))[:num_words]


def random_signs(seed: Any, size: int, stream: int = 0) -> Any:
    """Independent float32 signs, 32 of each of `random_bits`, lowest first."""
    words = random_bits(seed, -(-size // 32), stream)
    shifts = ops.convert_to_tensor(np.array([0, 8, 16, 24], np.uint32))
    bytes_ = ops.bitwise_and(
        ops.right_shift(words[:, None], shifts), _word(0xFF)
    )
    rows = ops.reshape(ops.cast(bytes_, "int32"), (-1,))
    signs = ops.take(ops.convert_to_tensor(_BYTE_SIGNS), rows, axis=0)
    return ops.reshape(signs, (-1,))[:size]


def normals(radii: Any, turns: Any) -> Any:
    """Two standard normal numbers of each pair of float32 ones in (0, 1].

    Box and Muller 1958, "A note on the generation of random normal deviates".
    """
    radii = ops.sqrt(-2.0 * ops.log(radii))
    angles = np.float32(2 * np.pi) * turns
    return ops.concatenate([radii * ops.cos(angles), radii * ops.sin(angles)])
