"""How operators from clients to the server add up."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from fedlearn import backend
from fedlearn.core.program import Op
from fedlearn.core.types import tensors

Arrays = tuple[Any, ...]


class Sum:
    """One way of adding up, and the base of the others."""

    def lanes(self, op: Op, values: Arrays, index: Any) -> Arrays:
        """The total of the clients along the values' first axis.

        `index` numbers them, and is -1 in lanes that don't count; those come
        last.
        """
        counted = _counted(values, index, ops.zeros_like)
        # Keras widens integers.
        return tuple(ops.cast(ops.sum(x, axis=0), x.dtype) for x in counted)

    def merge(self, op: Op, a: Arrays, b: Arrays) -> Arrays:
        """The total of two totals; associative."""
        return tuple(map(ops.add, a, b))

    def finish(self, op: Op, total: Arrays) -> Arrays:
        """What the server gets."""
        return total


class Mean(Sum):
    """Sums of values times weights over that of weights, of 32 bits or more."""

    def lanes(self, op, values, index):
        dtypes = [np.result_type(t.dtype, "float32") for t in tensors(op.type)]
        *values, weight = (*values, index >= 0)[: len(dtypes) + 1]
        wide = np.finfo(np.result_type(*dtypes)).dtype.name
        weight = ops.cast(weight, wide)
        # What has no weight doesn't count, NaN or not: such is the loss of a
        # client without examples.
        index = ops.where(weight == 0, -ops.ones_like(index), index)
        scaled = (
            ops.cast(x, d.name) * ops.cast(_beside(weight, x), d.name)
            for x, d in zip(values, dtypes, strict=True)
        )
        return super().lanes(op, (*scaled, weight), index)

    def finish(self, op, total):
        *values, weight = total
        # Zero where all weights are, as in `fedlearn.aggregators.Mean`.
        weight = ops.where(weight == 0, ops.ones_like(weight), weight)
        means = (x / ops.cast(weight, x.dtype) for x in values)
        types = tensors(op.type)
        return tuple(
            ops.cast(x, t.dtype.name) for x, t in zip(means, types, strict=True)
        )


class Extreme(Sum):
    """The least or the largest."""

    def __init__(self, of_lanes: Callable, of_two: Callable):
        self._of_lanes, self._of_two = of_lanes, of_two

    def lanes(self, op, values, index):
        counted = _counted(values, index, lambda x: x[:1])
        return tuple(self._of_lanes(x, axis=0) for x in counted)

    def merge(self, op, a, b):
        return tuple(map(self._of_two, a, b))


class SecureSum(Sum):
    """Sums of clipped integers modulo a power of two."""

    def lanes(self, op, values, index):
        most = int(op.constants[0])
        clipped = (ops.cast(ops.clip(x, 0, most), x.dtype) for x in values)
        return _remainders(op, super().lanes(op, tuple(clipped), index))

    def merge(self, op, a, b):
        return _remainders(op, super().merge(op, a, b))


class OwnSum(Sum):
    """`federated_aggregate`: by functions of the user."""

    def lanes(self, op, values, index):
        def step(i, total):
            rows = (ops.take(x, i, axis=0) for x in values)
            return tuple(op.functions[0].run((), *total, *rows))

        zero = tuple(map(ops.convert_to_tensor, op.constants))
        return backend.loop(ops.sum(ops.cast(index >= 0, "int32")), step, zero)

    def merge(self, op, a, b):
        return tuple(op.functions[1].run((), *a, *b))

    def finish(self, op, total):
        return tuple(op.functions[2].run((), *total))


class Collection(Sum):
    """All values, in the order of the clients."""

    def lanes(self, op, values, index):
        return (*values, index)

    def merge(self, op, a, b):
        return tuple(map(lambda x, y: ops.concatenate([x, y]), a, b))

    def finish(self, op, total):
        *values, index = total
        return tuple(ops.take(x, ops.argsort(index), axis=0) for x in values)


AGGREGATES = {
    "federated_sum": Sum(),
    "federated_mean": Mean(),
    "federated_min": Extreme(ops.min, ops.minimum),
    "federated_max": Extreme(ops.max, ops.maximum),
    "federated_secure_sum": SecureSum(),
    "federated_aggregate": OwnSum(),
    "federated_collect": Collection(),
}


def _beside(flags: Any, x: Any) -> Any:
    """Numbers of lanes, to be multiplied with their arrays."""
    return ops.reshape(flags, (-1, *[1] * (len(x.shape) - 1)))


def _counted(values: Arrays, index: Any, otherwise: Callable) -> Arrays:
    """Lanes that don't count hold something else."""
    return tuple(
        ops.where(_beside(index >= 0, x), x, otherwise(x)) for x in values
    )


def _remainders(op: Op, total: Arrays) -> Arrays:
    mask = int(op.constants[1])
    return tuple(
        ops.bitwise_and(x, ops.cast(ops.convert_to_tensor(mask), x.dtype))
        for x in total
    )
