import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import keras
from keras import ops

from fedlearn.keras_model.functional_model import Arrays


class TierTraffic(NamedTuple):
    """What tiers of one level got and sent, when a round was added up in tiers.

    Attributes:
        num_tiers: How many were sent the broadcast.
        bytes_up: How many bytes of partial sums they sent.
    """

    num_tiers: int
    bytes_up: int


class Update(NamedTuple):
    """What a client's round adds to the total; updates add with `+`.

    Addition is commutative and associative up to rounding, so partial sums
    can be made anywhere, in any order.

    Attributes:
        summand: What the aggregator adds up.
        metrics: The variables of the model's metrics over local training.
        num_clients: How many clients are in the sum, int32.
        num_examples: How many examples they have: int64 of `process.accept`,
            int32 of an executor's cohort.
        num_rejected: How many were left out because their update wasn't
            finite, int32.
        bytes_up: How many bytes they sent, on the host.
        client_states: What each client keeps for its next round, by its id;
            empty where clients keep nothing.
        tiers: Of each level of tiers, from the server down; empty without.
    """

    summand: Any
    metrics: Arrays
    num_clients: Any
    num_examples: Any
    num_rejected: Any
    bytes_up: int = 0
    client_states: Mapping[str, Any] = MappingProxyType({})
    tiers: Sequence[TierTraffic] = ()

    @classmethod
    def of(
        cls,
        sums: tuple,
        bytes_up: int,
        client_states: Mapping[str, Any],
        tiers: Sequence[TierTraffic] = (),
    ) -> Self:
        """An update of its sums, and of what is on the host."""
        return cls._make((*sums, bytes_up, client_states, tiers))

    @property
    def sums(self) -> tuple:
        """The fields that are sums of arrays, for compiled functions."""
        return tuple(self[:5])

    def scaled(self, factor: Any) -> "Update":
        """The update, counting `factor` times as much in a mean.

        Args:
            factor: A float or a float32 scalar. Counts, metrics and bytes
                stay what they are.

        Raises:
            ValueError: If the summand has integers, which are added modulo a
                power of two: scale such updates before they are encoded.
        """
        return self._replace(summand=_scaled(self.summand, factor))

    def __add__(self, other: Any) -> Any:
        return type(self).of(self._added(other), *self.host_added(other))

    def host_added(self, other: "Update") -> tuple:
        """The fields on the host, added up: what `of` takes after the sums."""
        none = TierTraffic(0, 0)
        pairs = itertools.zip_longest(self.tiers, other.tiers, fillvalue=none)
        return (
            self.bytes_up + other.bytes_up,
            {**self.client_states, **other.client_states},
            [TierTraffic(*map(sum, zip(*pair, strict=True))) for pair in pairs],
        )

    def _added(self, other: "Update") -> tuple:
        return added(self.sums, other.sums)

    def __radd__(self, other: Any) -> Any:
        if isinstance(other, int) and other == 0:  # the start of `sum(...)`
            return self
        return NotImplemented


class StackedUpdate(Update):
    """An `Update` whose summands stay apart, on a first axis over clients.

    For aggregators that need every client's update, such as a median.
    """

    __slots__ = ()

    def scaled(self, factor: Any) -> "StackedUpdate":
        """The update, `factor` times as long: of a rule all count the same."""
        update = self.summand["update"]
        update = {**update, "value": _scaled(update["value"], factor)}
        return self._replace(summand={**self.summand, "update": update})

    def _added(self, other: Update) -> tuple:
        _, *sums = added(((), *self.sums[1:]), ((), *other.sums[1:]))
        summand = keras.tree.map_structure(
            lambda a, b: ops.concatenate([a, b], axis=0),
            self.summand,
            other.summand,
        )
        return summand, *sums


def added(one: tuple, other: tuple) -> tuple:
    """The sums of two updates' arrays, one by one."""
    return keras.tree.map_structure(lambda a, b: a + b, one, other)


def _scaled(tree: Any, factor: Any) -> Any:
    def scale(array):
        dtype = keras.backend.standardize_dtype(array.dtype)
        if not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                "This update is made of integers that are added modulo a "
                "power of two, and can't be scaled. Use an aggregator whose "
                "sums are of floats, such as Mean."
            )
        return array * ops.cast(factor, dtype)

    return keras.tree.map_structure(scale, tree)
