import functools
import math
from typing import Any

import numpy as np
from keras import ops

from fedlearn import checks, threefry
from fedlearn.encoders import flat_vector
from fedlearn.encoders.encoder import Encoder, Spec, Value

_PERIOD = 2**16


class HadamardRotation(Encoder):
    """Rotates updates, so that quantization loses less.

    After random signs and a Walsh-Hadamard transform, coordinates are close
    to normally distributed, whatever they were before: no large one widens
    the range that a quantizer has to cover (Suresh et al. 2017, "Distributed
    mean estimation with limited communication"). The norm stays as it is. The
    signs are drawn anew each round and are the same for all clients, so the
    server rotates the sum back, once. In a block they are independent, which
    is what bounds on its coordinates need; in a long vector they repeat after
    `max(block_size, 2**16)` coordinates, since drawing them costs time.

    Variables are joined to one vector, rotated in blocks, with at most one
    block of padding.

    Args:
        block_size: A power of two: how many coordinates are mixed with each
            other. Vectors that are shorter are one block, padded to the next
            power of two.

    Raises:
        ValueError: If `block_size` isn't a power of two.

    Example: one coordinate becomes four of half its size.

    >>> import keras
    >>> encoder = HadamardRotation().build([keras.KerasTensor((4,))])
    >>> params = np.zeros(2, np.int32)
    >>> encoded, _ = encoder.encode([np.array([0.0, 8, 0, 0])], params, None)
    >>> [abs(float(v)) for v in encoded[0]]
    [4.0, 4.0, 4.0, 4.0]
    >>> [float(v) + 0.0 for v in encoder.decode(encoded, params)[0]]
    [0.0, 8.0, 0.0, 0.0]
    """

    bound = "rotates"

    def __init__(self, block_size: int = 4096):
        meaning = "a power of two, such as 4096"
        if checks.whole("block_size", block_size, 1, meaning).bit_count() > 1:
            raise ValueError(
                f"`block_size` must be {meaning}. Received: {block_size!r}."
            )
        self.block_size = block_size

    def encoded_spec(self) -> Spec:
        length = self._block_length()
        num_blocks = -(-flat_vector.size(self.spec) // length)
        return flat_vector.spec_of_size(num_blocks * length)

    def params(self, state: Any, seed: Any, bound: Any) -> Any:
        return seed

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        size = flat_vector.size(self.spec)
        num_zeros = flat_vector.size(self.encoded_spec()) - size
        vector = flat_vector.flatten(value, num_zeros)
        blocks = ops.reshape(vector, (-1, self._block_length()))
        blocks = _transform(blocks * _signs(params, blocks.shape))
        return [ops.reshape(blocks, (-1,))], ()

    def decode(self, value: Value, params: Any) -> Value:
        blocks = ops.reshape(value[0], (-1, self._block_length()))
        blocks = _transform(blocks) * _signs(params, blocks.shape)
        return flat_vector.unflatten(ops.reshape(blocks, (-1,)), self.spec)

    def _block_length(self) -> int:
        # A vector may be shorter than a block.
        size = flat_vector.size(self.spec)
        return min(self.block_size, 1 << max(size - 1, 0).bit_length())


def _signs(seed: Any, shape: Any) -> Any:
    num_blocks, length = shape
    num_drawn = min(num_blocks, max(1, _PERIOD // length))
    signs = threefry.random_signs(seed, num_drawn * length)
    signs = ops.reshape(signs, (num_drawn, length))
    if num_drawn == num_blocks or num_drawn == 1:
        return signs
    rows = np.arange(num_blocks, dtype=np.int32) % num_drawn
    return ops.take(signs, ops.convert_to_tensor(rows), axis=0)


def _transform(blocks: Any) -> Any:
    # With blocks as matrices B, the transform is the Kronecker product of two
    # Hadamard matrices: H B K. It is symmetric and its own inverse. The scale
    # is in one of them, where it is a power of two for blocks of powers of 4.
    length = blocks.shape[1]
    num_columns = 1 << (length.bit_length() // 2)
    num_rows = length // num_columns
    left = ops.convert_to_tensor(_hadamard(num_rows))
    right = _hadamard(num_columns) / np.float32(math.sqrt(length))
    products = ops.reshape(blocks, (-1, num_columns))
    products = ops.matmul(products, ops.convert_to_tensor(right))
    products = ops.reshape(products, (-1, num_rows, num_columns))
    return ops.reshape(ops.matmul(left, products), (-1, length))


@functools.cache
def _hadamard(size: int) -> np.ndarray:
    # Sylvester's construction.
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix
