import math
from typing import Any

import keras
from keras import ops

from fedlearn import checks, threefry
from fedlearn.encoders import flat_vector
from fedlearn.encoders.encoder import Encoder, Value
from fedlearn.encoders.flat_vector import inverse, largest_magnitude


class PowerSGD(Encoder):
    """Sends each matrix as a product of two thin ones.

    Vogels et al. 2019, "PowerSGD: practical low-rank gradient compression for
    distributed optimization", algorithm 1: one step of power iteration,
    P = M Q made orthonormal, then M.T P. What comes back, P P.T M, is a
    projection: never longer than M, but biased. The paper always has error
    feedback: put it into `ErrorFeedback`.

    Two things differ from the paper, whose workers take part in every step.
    It starts from the Q of the step before; here Q is drawn anew each round,
    of signs, the same for all clients, since those of a round may be new. And
    it adds the P of all workers before making them orthonormal; here each
    client's own product is decoded, so the mean may have a higher rank.

    Variables of more than two axes are matrices with the last axis as
    columns. Those that would not get smaller, such as biases, go as they are.

    Args:
        rank: Of the products.

    Raises:
        ValueError: If `rank` isn't positive.

    Example: a matrix of rank 1 comes back as it was.

    >>> import numpy as np
    >>> encoder = PowerSGD(rank=1).build([keras.KerasTensor((3, 4))])
    >>> seed = np.zeros(2, np.int32)
    >>> matrix = np.outer([1.0, 2.0, 3.0], [1.0, 0.0, -1.0, 2.0])
    >>> encoded, _ = encoder.encode([matrix], seed, None)
    >>> [tuple(factor.shape) for factor in encoded[0]]
    [(3, 1), (4, 1)]
    >>> decoded = ops.convert_to_numpy(encoder.decode(encoded, seed)[0])
    >>> bool(abs(decoded - matrix).max() < 1e-5)
    True
    """

    decodes = "summand"
    bound = "keeps"

    def __init__(self, rank: int = 2):
        self.rank = checks.whole("rank", rank)

    def _matrix_shape(self, shape: Any) -> tuple[int, int] | None:
        # None for what would not get smaller.
        if len(shape) < 2:
            return None
        rows, columns = math.prod(shape[:-1]), int(shape[-1])
        if self.rank * (rows + columns) >= rows * columns:
            return None
        return rows, columns

    def encoded_spec(self) -> Any:
        def factors(s):
            lengths = self._matrix_shape(s.shape)
            if lengths is None:
                return [s]
            shapes = [(length, self.rank) for length in lengths]
            return [keras.KerasTensor(shape, "float32") for shape in shapes]

        return [factors(s) for s in self.spec]

    def params(self, state: Any, seed: Any, bound: Any) -> Any:
        return seed

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        encoded = []
        for i, v in enumerate(value):
            shape = self._matrix_shape(v.shape)
            if shape is None:
                encoded.append([ops.convert_to_tensor(v)])
                continue
            vector = flat_vector.flatten([v])
            unit = vector * inverse(largest_magnitude(vector))
            size = shape[1] * self.rank
            start = threefry.random_signs(params, size, stream=i)
            start = ops.reshape(start, (shape[1], self.rank))
            left = _orthonormal(ops.matmul(ops.reshape(unit, shape), start))
            matrix = ops.reshape(vector, shape)
            encoded.append([left, ops.matmul(ops.transpose(matrix), left)])
        return encoded, ()

    def decode(self, value: Any, params: Any) -> Value:
        decoded = []
        for (first, *others), like in zip(value, self.spec, strict=True):
            for right in others:  # a product of two, or the variable itself
                product = ops.matmul(first, ops.transpose(right))
                first = ops.cast(ops.reshape(product, like.shape), like.dtype)
            decoded.append(first)
        return decoded


def _orthonormal(matrix: Any) -> Any:
    # Gram and Schmidt, subtracting twice, since rounding leaves something of
    # columns that are nearly parallel. What is left of those that depend on
    # others is rounding only, and becomes 0.
    columns: list[Any] = []
    for k in range(matrix.shape[1]):
        column = matrix[:, k]
        before = ops.sqrt(ops.sum(column * column))
        for _ in range(2):
            for other in columns:
                column = column - other * ops.sum(other * column)
        after = ops.sqrt(ops.sum(column * column))
        after = ops.where(after < 1e-5 * before, 0.0, after)
        columns.append(column * inverse(after))
    return ops.stack(columns, axis=1)
