"""Rotate, round to what is best for normal numbers, scale without bias."""

import math
from typing import Any

import keras
from keras import ops

from fedlearn.encoders import bit_packing, flat_vector
from fedlearn.encoders.encoder import Encoder, Spec, Value
from fedlearn.encoders.gaussian_centroids import centroids, nearest
from fedlearn.encoders.hadamard_rotation import (
    block_length,
    check_block_size,
    padded_size,
    rotate,
    rotate_back,
)
from fedlearn.encoders.magnitude import inverse, largest_magnitude

# With one, the signs of a block with two numbers other than 0 are those of
# the larger one, however often it is drawn, and the smaller one is never seen.
_ROUNDS = 2


class Eden(Encoder):
    """Sends a few bits, or less than one, of each number.

    Vargaftik et al. 2022, "EDEN: communication-efficient and robust
    distributed mean estimation for federated learning". Each client rotates
    its update x by a random rotation R of its own (signs and a Hadamard
    transform, twice); then numbers are close to normally distributed, and
    each is rounded to the nearest of the centroids that are best for that, Q.
    The server scales by ||x||**2 / <R x, Q(R x)> and rotates back. That makes
    errors of clients, whose rotations are independent, cancel in their mean:
    the result is unbiased, up to what such a rotation lacks of a uniformly
    random one.

    The normalised squared errors with 1, 2, 3 and 4 bits are 0.571, 0.133,
    0.0358 and 0.00959. Between whole numbers of bits, some coordinates get
    one more than others; below one bit, only some are sent.

    Variables are joined to one vector. It is rotated in blocks, each with its
    own scale. The seed of a client's rotation is part of its message.

    Args:
        bits: Of each number, above 0 and at most 8; needn't be whole.
        block_size: As in `HadamardRotation`; a block's scale takes 32 bits.

    Raises:
        ValueError: If an argument is out of range.

    Example: four bits lose about one percent of the squared norm.

    >>> import numpy as np
    >>> encoder = Eden(bits=4)
    >>> params = encoder.params(encoder.init([keras.KerasTensor((64,))]), None)
    >>> value, seed = [np.sin(np.arange(64.0))], np.zeros(2, np.int32)
    >>> encoded, _ = encoder.encode(value, params, seed)
    >>> decoded = ops.convert_to_numpy(encoder.decode(encoded, params)[0])
    >>> bool(((decoded - value[0]) ** 2).sum() < 0.02 * (value[0] ** 2).sum())
    True
    """

    decodes = "summand"
    bound = "keeps"

    def __init__(self, bits: float = 4, block_size: int = 8192):
        if not 0 < bits <= 8:
            raise ValueError(
                "`bits` must be above 0 and at most 8; it needn't be a whole "
                f"number. Received: {bits!r}."
            )
        check_block_size(block_size)
        self.bits = bits
        self.block_size = block_size

    def _parts(self, length: int) -> list[tuple[int, int]]:
        # How many coordinates of a block get how many bits.
        low = math.floor(self.bits)
        num_more = round((self.bits - low) * length)
        if low == 0:
            return [(max(num_more, 1), 1)]
        parts = [(num_more, low + 1), (length - num_more, low)]
        return [(count, bits) for count, bits in parts if count]

    def init(self, spec: Spec) -> Any:
        return flat_vector.shapes(spec)

    def encoded_spec(self, spec: Spec) -> Any:
        size = flat_vector.spec_size(spec)
        length = block_length(size, self.block_size)
        num_blocks = padded_size(size, self.block_size) // length
        return {
            "codes": [
                bit_packing.spec(num_blocks * count, bits)
                for count, bits in self._parts(length)
            ],
            "scales": keras.KerasTensor((num_blocks,), "float32"),
            "seed": keras.KerasTensor((2,), "int32"),
        }

    def params(self, state: Any, seed: Any) -> Any:
        return state

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        vector = flat_vector.flatten(value)
        # Of the largest magnitude 1, so that squares stay in range.
        largest = largest_magnitude(vector)
        blocks = rotate(
            vector * inverse(largest), seed, self.block_size, _ROUNDS
        )
        length = blocks.shape[1]
        norms = ops.sqrt(ops.sum(blocks * blocks, axis=1))
        normal = blocks * (math.sqrt(length) * inverse(norms))[:, None]
        codes, product, start = [], 0, 0
        for count, bits in self._parts(length):
            part = normal[:, start : start + count]
            indices = nearest(part, bits)
            codes.append(bit_packing.pack(ops.reshape(indices, (-1,)), bits))
            if self.bits < 1:
                # The product of all numbers, sent or not, times the share
                # that is sent: that of the sent ones alone may be 0.
                mean = ops.mean(ops.abs(normal), axis=1)
                product = float(count * centroids(1)[1]) * mean
            else:
                rounded = _take_centroids(indices, bits)
                product += ops.sum(part * rounded, axis=1)
            start += count
        scales = math.sqrt(length) * norms * inverse(product) * largest
        return {
            "codes": codes,
            "scales": scales,
            "seed": ops.convert_to_tensor(seed),
        }, ()

    def decode(self, value: Any, params: Any) -> Value:
        size = flat_vector.size(params)
        length = block_length(size, self.block_size)
        num_blocks = padded_size(size, self.block_size) // length
        parts, missing = [], length
        for codes, (count, bits) in zip(
            value["codes"], self._parts(length), strict=True
        ):
            indices = bit_packing.unpack(codes, bits, num_blocks * count)
            parts.append(
                ops.reshape(_take_centroids(indices, bits), (num_blocks, count))
            )
            missing -= count
        if missing:
            parts.append(ops.zeros((num_blocks, missing)))
        blocks = ops.concatenate(parts, axis=1) if parts[1:] else parts[0]
        blocks = blocks * value["scales"][:, None]
        vector = rotate_back(blocks, value["seed"], size, _ROUNDS)
        return flat_vector.unflatten(vector, params)

    def sensitivity(self, bound: Any, params: Any) -> Any:
        return bound

    def get_config(self) -> dict[str, Any]:
        return {"bits": self.bits, "block_size": self.block_size}


def _take_centroids(indices: Any, bits: int) -> Any:
    levels = centroids(bits)
    if bits == 1:
        return ops.cast(indices, "float32") * (2 * levels[1]) - levels[1]
    return ops.take(ops.convert_to_tensor(levels), ops.cast(indices, "int32"))
