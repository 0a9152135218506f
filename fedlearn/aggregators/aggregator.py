"""The interface of everything that makes one update of many."""

from typing import Any, Literal

import numpy as np

from fedlearn.encoders.encoder import Spec, Value
from fedlearn.serialization import Configurable


class Aggregator(Configurable):
    """How clients' updates become one.

    A configuration object with pure methods, as an `Encoder` is; what changes
    from round to round is a state that is passed in and out.

    One round: `params(state)` goes to the clients with the weights. Each
    client makes a message with `encode`. What is added up is made of each
    message by `summand`, with a commutative and associative sum, so that any
    order, tree or place of adding gives the same. The server makes the
    aggregate of the total with `decode` and its next state with `update`.

    Attributes:
        reduction: `"sum"`: summands are added, and memory doesn't grow with
            the number of clients. `"stack"`: summands are kept side by side,
            on a new first axis, for rules such as a median. A client that was
            left out (its update wasn't finite) is all zeros there: give the
            summand a weight of one to tell it.
        stateful: Whether clients keep something from round to round: see
            `encode_stateful`.
        variable_length: Whether clients' messages differ in length: see
            `to_wire`.
        adds_noise: Whether there is noise in the aggregate, also in a round
            in which nobody took part.
        noise_is_shared: Whether clients add that noise, each a share.
        secure_noise: Whether `draw` gets the operating system's entropy, as
            a deployment needs, and not the run's seed, which whoever knows
            it could use to take the noise off again.
        private_metrics: Whether what clients tell beside their updates, the
            metrics of their training, is left out.
        delta: That of the guarantee, if noise gives one; None for
            `population ** -1.1`.

    Example: the largest update of any client, coordinate by coordinate.

    >>> import keras
    >>> class Largest(Aggregator):
    ...     reduction = "stack"
    ...     def summand(self, message, num_examples, params):
    ...         return message
    ...     def decode(self, total, params, noise):
    ...         return [keras.ops.max(v, axis=0) for v in total]
    """

    reduction: Literal["sum", "stack"] = "sum"
    stateful: bool = False
    variable_length: bool = False
    adds_noise: bool = False
    noise_is_shared: bool = False
    secure_noise: bool = False
    private_metrics: bool = False
    delta: float | None = None

    def init(self, spec: Spec) -> Any:
        """The state before the first round, a pytree of arrays.

        Args:
            spec: A `keras.KerasTensor` for each array of an update.
        """
        del spec
        return ()

    def params(self, state: Any, seed: Any) -> Any:
        """What clients and `decode` need this round, a pytree of arrays.

        Args:
            state: Of this round.
            seed: An int32 array of shape `(2,)`, of this round.
        """
        del state, seed
        return ()

    def encode(self, update: Value, params: Any, seed: Any) -> Any:
        """What a client sends for its update.

        Args:
            update: The client's weights minus those of the broadcast, a list
                of float arrays.
            params: From `params`.
            seed: An int32 array of shape `(2,)`, the client's own.
        """
        del params, seed
        return update

    def init_client(self, spec: Spec) -> Any:
        """What a client keeps before its first round, a pytree of arrays."""
        del spec
        return ()

    def encode_stateful(
        self, update: Value, params: Any, seed: Any, client_state: Any
    ) -> tuple[Any, Any]:
        """`encode`, with what the client kept from its last round.

        Returns:
            `(message, client_state)`.
        """
        return self.encode(update, params, seed), client_state

    def to_wire(self, message: Any) -> Any:
        """What is really sent of a message, where lengths differ.

        On the host, outside of anything compiled; a pytree of NumPy arrays.
        """
        return message

    def weight(self, num_examples: Any) -> Any:
        """How much a client counts in a mean, a float32 scalar.

        Args:
            num_examples: The client's number of examples, a float32 scalar.
        """
        return num_examples

    def summand(self, message: Any, num_examples: Any, params: Any) -> Any:
        """What is added to other clients', a pytree of arrays.

        Args:
            message: From `encode`.
            num_examples: The client's number of examples, a float32 scalar.
            params: From `params`.
        """
        raise NotImplementedError

    def draw(self, state: Any, rng: np.random.Generator) -> Any:
        """What is random at the server this round: noise.

        Drawn on the host, outside of anything compiled.

        Args:
            state: Of this round.
            rng: Draws from the run's seed; from the operating system's
                entropy where `secure_noise` is set.

        Returns:
            A pytree of NumPy arrays for `decode` and `update`.
        """
        del state, rng
        return ()

    def check_cohort(self, num_clients: int) -> None:
        """Raises a ValueError if so many clients are too few for a round.

        Called on the host, with the number of those who took part.
        """
        del num_clients

    def decode(self, total: Any, params: Any, noise: Any) -> Value:
        """The aggregate: what is given to the server's optimizer.

        Args:
            total: The sum (or stack) of what `summand` made.
            params: From `params`.
            noise: From `draw`.
        """
        raise NotImplementedError

    def update(
        self, state: Any, total: Any, noise: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The state of the next round, and metrics to log (scalars)."""
        del total, noise
        return state, {}

    def dp_event(self, spec: Spec | None = None) -> Any:
        """What a client's part in one round gives away.

        Args:
            spec: Of an update; noise on integers needs it.

        Returns:
            A `dp_accounting` event; None for an aggregator that adds no
            noise, and so guarantees nothing.
        """
        return None
