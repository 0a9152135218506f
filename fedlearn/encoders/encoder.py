"""The interface of everything that changes an update on its way."""

import math
from typing import Any, Literal

import keras
import numpy as np

from fedlearn.serialization import Configurable

Value = list[Any]
"""An update: one float array for each variable that clients change."""

Spec = list[keras.KerasTensor]
"""Shapes and dtypes of a `Value`, without numbers."""

Where = Literal["sum", "summand", "either"]

Bound = Literal["sets", "keeps", "loses"]


class Encoder(Configurable):
    """One link of the chain between a client and the server.

    An encoder is a small configuration object. Its methods are pure functions
    of arrays, so that they can be compiled, vectorised over clients, shipped
    apart and tested alone; what changes from round to round is a state that
    is passed in and out, and kept in the server's state.

    One round: the server makes `params` from its state; each client calls
    `encode`; the server draws its randomness with `draw` and calls `decode`
    (or `decode_sum`); then `update` makes the next state from the sum over
    clients of what `encode` reported.

    Attributes:
        decodes: Where `decode` may happen. `"summand"`: on each client's
            message before it is added to others (a scale of each client's
            own). `"sum"`: once, on the sum (noise). `"either"`: decoding is
            linear, so it makes no difference, and the sum is cheaper.
        bound: What happens to a bound on the L2 norm of a client's part of
            the sum. `"sets"`: this link sets one (a clip). `"keeps"`: what
            has a bound before it has one after it, given by `sensitivity`.
            `"loses"`: nothing is known after it.
        noises: Whether the server adds noise that is scaled by that bound:
            see `with_sensitivity`.
        uses_bound: Whether it has to know the bound before it: see
            `with_bound`.
        isometric: Whether `decode` is linear and makes no L2 norm larger,
            whatever it gets, and `encode` neither: a rotation. What is
            clipped before decoding is then clipped after it.
        stateful: Whether a client keeps something for its next round: see
            `encode_stateful`.
        variable_length: Whether messages differ in length: see `to_wire`.

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
    bound: Bound = "loses"
    noises: bool = False
    uses_bound: bool = False
    isometric: bool = False
    stateful: bool = False
    variable_length: bool = False

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

    def params(self, state: Any, seed: Any) -> Any:
        """What clients and `decode` need this round, a pytree of arrays.

        Args:
            state: Of this round.
            seed: An int32 array of shape `(2,)`, of this link and round. What
                clients and server must both know, such as a rotation's signs,
                is drawn from it.
        """
        del state, seed
        return ()

    def encode(self, value: Any, params: Any, seed: Any) -> tuple[Any, Any]:
        """What a client sends for `value`.

        Args:
            value: What the link before it made; a list of arrays at first.
            params: From `params`.
            seed: An int32 array of shape `(2,)`, of this link at this client
                in this round.

        Returns:
            `(encoded, stats)`: `stats` is a pytree of arrays that are summed
            over clients for `update`, `()` for none.
        """
        raise NotImplementedError

    def init_client(self, spec: Spec) -> Any:
        """What a client keeps before its first round, a pytree of arrays.

        Args:
            spec: Of the value that `encode` will get.
        """
        del spec
        return ()

    def encode_stateful(
        self, value: Any, params: Any, seed: Any, client_state: Any
    ) -> tuple[Any, Any, Any]:
        """`encode`, with what the client kept from its last round.

        Returns:
            `(encoded, stats, client_state)`.
        """
        encoded, stats = self.encode(value, params, seed)
        return encoded, stats, client_state

    def to_wire(self, encoded: Any) -> Any:
        """What is really sent of `encoded`, where it differs.

        On the host, outside of anything compiled.

        Returns:
            A pytree of NumPy arrays; with `variable_length`, of lengths that
            differ.
        """
        return encoded

    def from_wire(self, sent: Any, spec: Any) -> Any:
        """What `to_wire` was given.

        Args:
            sent: What came, a pytree of NumPy arrays. It may come from
                anybody: what isn't of `spec` has to be an error.
            spec: Shapes and dtypes of `encoded`, a pytree.
        """
        del spec
        return sent

    def decode(self, value: Any, params: Any) -> Any:
        """What the server makes of an encoded value, or of a sum of them."""
        raise NotImplementedError

    def draw(self, state: Any, rng: np.random.Generator) -> Any:
        """What is random at the server this round, drawn on the host.

        Outside of anything compiled, where a draw would be frozen.

        Args:
            state: Of this round.
            rng: Draws from the run's seed, or from the operating system.

        Returns:
            A pytree of NumPy arrays for `decode_sum` and `update`.
        """
        del state, rng
        return ()

    def decode_sum(self, value: Any, params: Any, noise: Any) -> Any:
        """What the server makes of the sum of encoded values.

        Args:
            value: The sum, as the link after this one decoded it.
            params: From `params`; for a link with `noises`, from
                `with_sensitivity`.
            noise: From `draw`.
        """
        del noise
        return self.decode(value, params)

    def update(
        self, state: Any, stats: Any, noise: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The state of the next round, and metrics to log.

        Args:
            state: Of this round.
            stats: The sum over clients of what `encode` reported.
            noise: From `draw`.
        """
        del stats, noise
        return state, {}

    def sensitivity(self, bound: Any, params: Any) -> Any:
        """A bound on the L2 norm of a client's part of the sum, decoded again.

        Args:
            bound: The bound before this link, a float or a float32 scalar;
                infinite where no link has set one.
            params: From `params`.

        Returns:
            A float or a float32 scalar.
        """
        del params
        return bound if self.bound == "keeps" else math.inf

    def with_bound(self, params: Any, bound: Any) -> Any:
        """The params of this link, for one with `uses_bound`.

        Args:
            params: From `params`.
            bound: On the L2 norm of what `encode` gets; infinite where no
                link before it has set one.
        """
        del bound
        return params

    def with_sensitivity(self, params: Any, bound: Any) -> Any:
        """The params of `decode_sum`, for a link with `noises`.

        Args:
            params: From `params`.
            bound: The largest L2 norm of one client's part of the sum that
                `decode_sum` will get, a float32 scalar.
        """
        del bound
        return params

    def dp_event(self, spec: Spec | None = None) -> Any:
        """What a client's part in one round gives away.

        Args:
            spec: Of the value that `encode` will get, for links for which it
                makes a difference.

        Returns:
            A `dp_accounting` event or a `fedlearn.privacy` mechanism; None
            for a link that neither adds noise nor tells anything.
        """
        del spec
        return None
