from typing import Any, Literal, Self

import keras
import numpy as np
from keras import ops

from fedlearn.encoders.buildable import Buildable
from fedlearn.encoders.chain import Chain, Encoders
from fedlearn.encoders.encoder import Encoder, Spec, Value


class Aggregator(Buildable):
    """How clients' updates become one.

    A configuration object. `build` makes one for updates of certain shapes,
    as a Keras layer is built, whose methods are pure functions of arrays; what
    changes from round to round is a state that is passed in and out.

    One round: `params` goes to the clients with the weights. Each client makes
    a message with `encode`. `summand` makes of each what is added up, in any
    order, tree or place. The server makes the aggregate of the total, and its
    next state, with `finish`.

    A sum of updates by their weights needs `aggregate` and perhaps `weight`
    from a subclass. For rules that look at each update by itself there is
    `RobustRule`.

    Args:
        encoders: As for `Chain`.

    Attributes:
        reduction: `"sum"`: summands are added, and memory doesn't grow with
            the number of clients. `"stack"`: summands are kept side by side,
            on a new first axis, for rules such as a median. A client that was
            left out (its update wasn't finite) is all zeros there.
        chain: The encoders, placed around the sum.
        noise: Who adds noise that hides a client's part, if anybody does. Then
            there is some also in a round in which nobody took part.
        has_memory: Whether clients keep something from round to round.
        varies_in_length: Whether clients' messages differ in length.
        spec: Of an update, once it is built.
        covered_metrics: Which of the metrics of `finish` noise covers; the
            others are left out where metrics are to be private.

    Raises:
        TypeError, ValueError: As `Chain`.

    Example: the sum of updates, each multiplied by its client's number of
    examples.

    >>> class Sum(Aggregator):
    ...     def aggregate(self, value, weight):
    ...         return value
    >>> rule = Sum().build([keras.KerasTensor((2,))])
    >>> message, _ = rule.encode([ops.array([1.0, 2.0])], (), None, ())
    >>> total = rule.summand(message, ops.array(3.0), ())
    >>> aggregate, state, metrics = rule.finish(rule.init(), total, (), ())
    >>> ops.convert_to_numpy(aggregate[0]).tolist()
    [3.0, 6.0]
    """

    reduction: Literal["sum", "stack"] = "sum"
    encoders: tuple[Encoder, ...] = ()
    covered_metrics: tuple[str, ...] = ()
    chain = Chain()
    noise: Literal["server", "clients"] | None = None
    has_memory = varies_in_length = False

    def __init__(self, encoders: Encoders = ()):
        self.chain = Chain(encoders)
        self.encoders = self.chain.encoders
        self.noise = self.chain.noise
        self.has_memory = self.chain.has_memory
        self.varies_in_length = self.chain.varies_in_length

    def build(self, spec: Spec) -> Self:
        built = super().build(spec)
        built.chain = self.chain.build(spec)
        return built

    @property
    def num_required(self) -> int:
        """How many updates it needs."""
        return 1

    def check_cohort(self, num_clients: int) -> None:
        """Raises a ValueError if so many clients are too few for a round.

        Called on the host, with the number of those who took part.
        """
        if num_clients < self.num_required:
            config = self.get_config()
            config.pop("encoders", None)
            arguments = ", ".join(f"{k}={v!r}" for k, v in config.items())
            raise ValueError(
                f"{type(self).__name__} needs at least {self.num_required} "
                f"clients with these arguments ({arguments or 'none'}), and "
                f"{num_clients} took part in the round. Draw more clients a "
                "round, or expect fewer malicious ones."
            )

    def dp_event(self) -> Any:
        """What a client's part in one round gives away.

        Returns:
            A `dp_accounting` event; None for an aggregator that adds no
            noise, and so guarantees nothing.

        Raises:
            ValueError: If it depends on how long an update is (noise on
                integers), and this isn't built.
        """
        if self.noise is None:
            return None
        from fedlearn.privacy import composed

        return composed(self.chain.dp_events())

    # A round, from one end to the other.

    def init(self) -> Any:
        """The state before the first round, a pytree of arrays."""
        return self.chain.init()

    def init_memory(self) -> Any:
        """What a client keeps before its first round, a pytree of arrays."""
        return self.chain.init_memory()

    def params(self, state: Any, seed: Any) -> Any:
        """What clients and `finish` need this round, a pytree of arrays.

        `state` is that of this round, and `seed` an int32 array of shape
        `(2,)`.
        """
        return self.chain.params(state, seed)

    def encode(
        self, update: Value, params: Any, seed: Any, memory: Any
    ) -> tuple[Any, Any]:
        """What a client sends for its update.

        Args:
            update: The client's weights minus those of the broadcast, a list
                of float arrays.
            params: From `params`.
            seed: An int32 array of shape `(2,)`, the client's own.
            memory: What the client kept from its last round.

        Returns:
            `(message, memory)`. The message is a pair of pytrees of arrays:
            what is decoded, and what is summed for the encoders' next state.
        """
        encoded, stats, memory = self.chain.encode(update, params, seed, memory)
        return (encoded, stats), memory

    def to_wire(self, message: Any) -> Any:
        """What is really sent of a message, on the host: NumPy arrays."""
        encoded, stats = message
        return self.chain.to_wire(encoded), stats

    def from_wire(self, sent: Any, spec: Any) -> Any:
        """The message of what `to_wire` made, on the host.

        `sent` is a pytree of NumPy arrays, which may come from anybody: what
        is no message of the `spec` (shapes and dtypes) is a ValueError.
        """
        if not isinstance(sent, tuple) or len(sent) != 2:
            raise ValueError(
                "A client's message has two parts, what is encoded and its "
                f"statistics. Received: {type(sent).__name__}."
            )
        encoded, stats = sent
        message = self.chain.from_wire(encoded, spec[0]), stats
        found, expected = layout(message), layout(spec)
        if found != expected:
            raise ValueError(
                f"A client's message is {found}, and {expected} was expected. "
                "Do client and server have the same model and encoders?"
            )
        return message

    def weight(self, num_examples: Any) -> Any:
        """How much a client of so many examples counts; float32 scalars."""
        return num_examples

    def summand(self, message: Any, num_examples: Any, params: Any) -> Any:
        """What is added to other clients', a pytree of arrays.

        Args:
            message: From `encode`.
            num_examples: The client's number of examples, a float32 scalar.
            params: From `params`.
        """
        encoded, stats = message
        weight = self.weight(num_examples)
        value = [
            v * ops.cast(weight, v.dtype)
            for v in self.chain.decode_summand(encoded, params)
        ]
        return {"value": value, "weight": weight, "stats": stats}

    def draw(self, state: Any, rng: np.random.Generator) -> Any:
        """What is random at the server this round: as `Encoder.draw`."""
        return self.chain.draw(state, rng)

    def finish(
        self, state: Any, total: Any, params: Any, noise: Any
    ) -> tuple[Value, Any, dict[str, Any]]:
        """What a round comes to.

        Args:
            state: Of this round.
            total: The sum (or stack) of what `summand` made.
            params: From `params`.
            noise: From `draw`.

        Returns:
            `(aggregate, state, metrics)`: what is given to the server's
            optimizer, the state of the next round, and scalars to log.
        """
        value = self.chain.decode_sum(total["value"], params, noise)
        state, metrics = self.chain.update(state, total["stats"], noise)
        return self.aggregate(value, total["weight"]), state, metrics

    def num_counted(self, total: Any, num_clients: Any) -> Any:
        """As how many clients the aggregate counts, a float32 scalar.

        With 0 nothing was learned, and the server stays as it is: its weights,
        its optimizer's state, the aggregator's and the algorithm's. Behind
        noise it is never 0, as that there was nobody must not show.

        Args:
            total: As for `finish`.
            num_clients: How many are in it, also those without examples.
        """
        return num_clients

    def aggregate(self, value: Value, weight: Any) -> Value:
        """What is made of the sum of updates.

        Args:
            value: The sum of updates times their weights.
            weight: The sum of their weights, a float32 scalar; zero where
                nobody had examples.
        """
        raise NotImplementedError


def layout(tree: Any) -> Any:
    """The structure, with a text for each array.

    >>> layout(({"a": np.zeros((3, 2), "float32")}, np.zeros((), "int8")))
    ({'a': 'float32[3, 2]'}, 'int8[]')
    """

    def text(array: Any) -> str:
        dtype = keras.backend.standardize_dtype(array.dtype)
        return f"{dtype}{[int(n) for n in array.shape]}"

    return keras.tree.map_structure(text, tree)
