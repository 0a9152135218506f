import math
from typing import Any, Literal

import keras
import numpy as np

from fedlearn.encoders.buildable import Buildable

Value = list[Any]
"""An update: one float array for each variable that clients change."""

Spec = list[keras.KerasTensor]
"""Shapes and dtypes of a `Value`, without numbers."""

Updated = tuple[Any, dict[str, Any]]
"""The state of the next round, and metrics to log."""

Where = Literal["sum", "summand", "either"]

Bound = Literal["sets", "keeps", "rotates", "loses"]


class Encoder(Buildable):
    """One link of the chain between a client and the server.

    An encoder is a small configuration object. `build` makes one for values
    of certain shapes, as a Keras layer is built, whose methods are pure
    functions of arrays. What changes from round to round is a state that is
    passed in and out.

    One round: the server makes `params` from its state; each client calls
    `encode`; the server calls `decode`, and makes the next state with `update`
    from the sum over clients of what `encode` reported. `encode` and `decode`
    are all that most encoders need; by default they change nothing.

    What few encoders do has classes of its own, to inherit beside this one: a
    `Memory` at clients, `Noise` that hides what one client adds, a `Wire` form
    that differs from the arrays in a round.

    Attributes:
        decodes: Where `decode` may happen. `"summand"`: on each client's
            message before it is added to others (a scale of each client's
            own). `"sum"`: once, on the sum (noise). `"either"`: decoding is
            linear, so it makes no difference, and the sum is cheaper.
        bound: What happens to a bound on the L2 norm of a client's part of
            the sum. `"sets"`: this link sets one (a clip). `"keeps"`: what
            has a bound before it has one after it, given by `sensitivity`.
            `"rotates"`: it is the same, and `encode` and `decode`, whatever
            they get, are linear and make no norm larger: what is clipped
            before decoding is then clipped after it. `"loses"`: nothing is
            known after it.
        spec: Of the value that `encode` gets, once it is built.

    Example: an encoder that sends half of everything and doubles the sum.

    >>> class Halve(Encoder):
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

    def encoded_spec(self) -> Any:
        """The spec of what `encode` returns."""
        return self.spec

    def init(self) -> Any:
        """The state before the first round, a pytree of arrays."""
        return ()

    def params(self, state: Any, seed: Any, bound: Any) -> Any:
        """What clients and `decode` need this round, a pytree of arrays.

        Args:
            state: Of this round.
            seed: An int32 array of shape `(2,)`, of this link and round. What
                clients and server must both know, such as a rotation's signs,
                is drawn from it.
            bound: On the L2 norm of what `encode` gets, a float or a float32
                scalar; infinite where no link before has set one.
        """
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
        return value, ()

    def decode(self, value: Any, params: Any) -> Any:
        """What the server makes of an encoded value, or of a sum of them."""
        return value

    def draw(self, state: Any, rng: np.random.Generator) -> Any:
        """What is random at the server this round, drawn on the host.

        Outside of anything compiled, where a draw would be frozen.

        Args:
            state: Of this round.
            rng: Draws from the run's seed, or from the operating system.

        Returns:
            A pytree of NumPy arrays for `update` (and for `Noise.add`).
        """
        return ()

    def update(self, state: Any, stats: Any, noise: Any) -> Updated:
        """The state of the next round, and metrics to log.

        Args:
            state: Of this round.
            stats: The sum over clients of what `encode` reported.
            noise: From `draw`.
        """
        return state, {}

    def sensitivity(self, bound: Any, params: Any) -> Any:
        """A bound on the L2 norm of a client's part of the sum, decoded again.

        Args:
            bound: As for `params`.
            params: From `params`.

        Returns:
            A float or a float32 scalar.
        """
        return bound if self.bound in ("keeps", "rotates") else math.inf

    def dp_event(self) -> Any:
        """What a client's part in one round gives away.

        Returns:
            A `dp_accounting` event or a `fedlearn.privacy` mechanism; None
            for a link that neither adds noise nor tells anything.
        """
        return None


class Memory:
    """Something that clients keep for their next round."""

    def init_memory(self) -> Any:
        """What a client keeps before its first round, a pytree of arrays."""
        raise NotImplementedError

    def encode_with(
        self, value: Any, params: Any, seed: Any, memory: Any
    ) -> tuple[Any, Any, Any]:
        """`encode`, with what the client kept from its last round.

        Returns:
            `(encoded, stats, memory)`.
        """
        raise NotImplementedError


class Noise:
    """Noise that hides what one client adds to the sum.

    Attributes:
        noise: `"server"`: the server adds it, with `add`, after a link that
            sets a bound. `"clients"`: each client adds its share in `encode`.
    """

    noise: Literal["server", "clients"]

    def add(self, total: Value, bound: Any, noise: Any) -> Value:
        """The sum of updates with the server's noise.

        Args:
            total: The sum, as the link after this one decoded it.
            bound: The largest L2 norm of one client's part of it, a float or
                a float32 scalar.
            noise: From `draw`.
        """
        raise NotImplementedError


class Wire:
    """A form in which messages are sent that differs from a round's arrays.

    Attributes:
        varies: Whether messages differ in length.
    """

    varies: bool = False

    def to_wire(self, encoded: Any) -> Any:
        """What is really sent of `encoded`, on the host.

        Returns:
            A pytree of NumPy arrays.
        """
        raise NotImplementedError

    def from_wire(self, sent: Any, spec: Any) -> Any:
        """What `to_wire` was given.

        Args:
            sent: What came, a pytree of NumPy arrays. It may come from
                anybody: what isn't of `spec` has to be an error.
            spec: Shapes and dtypes of `encoded`, a pytree.
        """
        raise NotImplementedError
