"""The interface of everything that changes an update on its way."""

import math
from typing import Any, Literal

import keras

Value = list[Any]
"""An update: one float array for each variable that clients change."""

Spec = list[keras.KerasTensor]
"""Shapes and dtypes of a `Value`, without numbers."""

Where = Literal["sum", "summand", "either"]


class Encoder:
    """One link of the chain between a client and the server.

    An encoder is a small configuration object. Its methods are pure functions
    of arrays, so that they can be compiled, vectorised over clients, shipped
    apart and tested alone; what changes from round to round is a state that
    is passed in and out, and kept in the server's state.

    One round: the server makes `params` from its state; each client calls
    `encode`; the server calls `decode`; then `update` makes the next state
    from the sum over clients of what `encode` reported.

    Attributes:
        decodes: Where `decode` may happen. `"summand"`: on each client's
            message before it is added to others (a scale of each client's
            own). `"sum"`: once, on the sum (noise). `"either"`: decoding is
            linear, so it makes no difference, and the sum is cheaper.

    Example: an encoder that sends half of everything and doubles the sum.

    >>> class Halve(Encoder):
    ...     decodes = "either"
    ...     def encode(self, value, params, seed):
    ...         return [v / 2 for v in value], ()
    ...     def decode(self, value, params):
    ...         return [2 * v for v in value]
    >>> encoded, stats = Halve().encode([4.0], (), None)
    >>> Halve().decode(encoded, ())
    [4.0]
    """

    decodes: Where = "either"

    def init(self, spec: Spec) -> Any:
        """The state before the first round, a pytree of arrays.

        Args:
            spec: Of the value that `encode` will get.
        """
        del spec
        return ()

    def encoded_spec(self, spec: Spec) -> Any:
        """The spec of what `encode` returns, given that of what it gets."""
        return spec

    def params(self, state: Any) -> Any:
        """What clients and `decode` need this round, a pytree of arrays."""
        del state
        return ()

    def encode(self, value: Any, params: Any, seed: Any) -> tuple[Any, Any]:
        """What a client sends for `value`.

        Args:
            value: What the link before it made; a list of arrays at first.
            params: From `params`.
            seed: An int32 array of shape `(2,)`, the client's own.

        Returns:
            `(encoded, stats)`: `stats` is a pytree of arrays that are summed
            over clients for `update`, `()` for none.
        """
        raise NotImplementedError

    def decode(self, value: Any, params: Any) -> Any:
        """What the server makes of an encoded value, or of a sum of them."""
        raise NotImplementedError

    def update(self, state: Any, stats: Any) -> tuple[Any, dict[str, Any]]:
        """The state of the next round, and metrics to log.

        Args:
            state: Of this round.
            stats: The sum over clients of what `encode` reported.
        """
        del stats
        return state, {}

    def sensitivity(self, bound: float, params: Any) -> float:
        """The largest L2 norm of what `encode` returns.

        Args:
            bound: The largest L2 norm of what it gets; infinite where no
                link before it has set one.
            params: From `params`.
        """
        del params
        return bound if bound == 0 else math.inf

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal encoder."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Encoder":
        """The encoder that `get_config` described."""
        return cls(**config)
