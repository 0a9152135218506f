"""Encoders one after another, as optax chains gradient transformations."""

from collections.abc import Sequence
from typing import Any

from fedlearn.encoders.encoder import Encoder, Spec, Value


class Chain:
    """Clients encode left to right; the server decodes right to left.

    The sum over clients is placed among the decoding steps: what must be
    decoded on each summand is, before the sum; all the rest after it, once.

    Args:
        encoders: The links, in the order in which a client applies them.

    Raises:
        TypeError: If an element isn't an `Encoder`.
        ValueError: If no place of the sum serves all links.

    Example: an encoder whose decoding needs each client's own scale, on the
    wire side of one that decodes the sum.

    >>> class Noise(Encoder):
    ...     decodes = "sum"
    >>> class OwnScale(Encoder):
    ...     decodes = "summand"
    >>> Chain([Noise(), OwnScale()]).num_decoded_on_sum
    1
    >>> Chain([OwnScale(), Noise()])
    Traceback (most recent call last):
        ...
    ValueError: The encoders [OwnScale, Noise] can't work in this order: ...
    """

    def __init__(self, encoders: Sequence[Encoder] = ()):
        self.encoders = tuple(encoders)
        for encoder in self.encoders:
            if not isinstance(encoder, Encoder):
                raise TypeError(
                    "`encoders` must be instances of "
                    f"fedlearn.encoders.Encoder. Received {encoder!r} of type "
                    f"{type(encoder).__name__}."
                )
        self.num_decoded_on_sum = self._place_sum()

    def _place_sum(self) -> int:
        # Decoding starts from the right. Everything from the leftmost link
        # that needs single summands to the right end is decoded before the
        # sum, so no link there may need the sum.
        kinds = [encoder.decodes for encoder in self.encoders]
        first = kinds.index("summand") if "summand" in kinds else len(kinds)
        for position in range(first, len(kinds)):
            if kinds[position] == "sum":
                names = ", ".join(type(e).__name__ for e in self.encoders)
                inner = type(self.encoders[position]).__name__
                outer = type(self.encoders[first]).__name__
                raise ValueError(
                    f"The encoders [{names}] can't work in this order: "
                    f"{inner} is decoded on the sum over clients, and "
                    f"{outer}, which is decoded after it, needs each client's "
                    f"message by itself. Put {inner} before {outer}: what "
                    "concerns the sum comes first, what concerns the wire "
                    "last."
                )
        return first

    def init(self, spec: Spec) -> tuple[Any, ...]:
        """The states of all links, a tuple."""
        states = []
        for encoder in self.encoders:
            states.append(encoder.init(spec))
            spec = encoder.encoded_spec(spec)
        return tuple(states)

    def params(self, state: tuple[Any, ...]) -> tuple[Any, ...]:
        """The parameters of all links, a tuple."""
        return tuple(
            encoder.params(s)
            for encoder, s in zip(self.encoders, state, strict=True)
        )

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        """What a client sends, and the statistics of all links."""
        all_stats = []
        for encoder, p in zip(self.encoders, params, strict=True):
            value, stats = encoder.encode(value, p, seed)
            all_stats.append(stats)
        return value, tuple(all_stats)

    def decode_summand(self, value: Any, params: Any) -> Any:
        """What is added to other clients', of one client's message."""
        return self._decode(value, params, self.num_decoded_on_sum, None)

    def decode_sum(self, value: Any, params: Any) -> Value:
        """The sum of updates, of the sum of what `decode_summand` made."""
        return self._decode(value, params, 0, self.num_decoded_on_sum)

    def _decode(self, value, params, start, stop):
        links = list(zip(self.encoders, params, strict=True))[start:stop]
        for encoder, p in reversed(links):
            value = encoder.decode(value, p)
        return value

    def update(self, state: Any, stats: Any) -> tuple[Any, dict[str, Any]]:
        """The next states of all links, and their metrics together."""
        states, metrics = [], {}
        for encoder, s, t in zip(self.encoders, state, stats, strict=True):
            s, m = encoder.update(s, t)
            states.append(s)
            metrics.update(m)
        return tuple(states), metrics

    def sensitivity(self, bound: float, params: Any) -> float:
        """The largest L2 norm of a message, if updates have norm `bound`."""
        for encoder, p in zip(self.encoders, params, strict=True):
            bound = encoder.sensitivity(bound, p)
        return bound
