"""Encoders one after another, as optax chains gradient transformations."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np

from fedlearn import serialization
from fedlearn.encoders import norms
from fedlearn.encoders.encoder import Encoder, Spec, Value
from fedlearn.names import ENCODERS

Encoders = str | Sequence[str | Encoder]
"""How encoders are given; see `links`."""


def links(encoders: Encoders) -> tuple[Encoder, ...]:
    """The encoders that are given, some of them perhaps by name.

    Args:
        encoders: A list of encoders, or of strings as for
            `fedlearn.encoders.get`; or one string that joins several with
            `+`.

    Raises:
        TypeError: If an element is neither an `Encoder` nor a string.
        ValueError: If there is no encoder of a name.

    Example:

    >>> rotation, quantization = links("rotation+uniform:4")
    >>> quantization.bits
    4
    """
    if isinstance(encoders, Encoder):
        raise TypeError(
            "`encoders` must be a list of encoders. Received one: give "
            f"[{encoders!r}]."
        )
    if isinstance(encoders, str):
        encoders = encoders.split("+")
    return tuple(
        serialization.get(encoder, ENCODERS, Encoder, "encoders")
        for encoder in encoders
    )


class Chain:
    """Clients encode left to right; the server decodes right to left.

    The sum over clients is placed among the decoding steps: what must be
    decoded on each summand is, before the sum; all the rest after it, once.

    Args:
        encoders: In the order in which a client applies them; see `links`.

    Where the server adds noise, what it hides must be bounded: by a link
    that clips before it, and by what the links after it do to the bound.
    Messages that are decoded one by one are then decoded up to the noise, and
    clipped to the bound again, so that no rounding error exceeds it. Links
    that are isometric and next to the noise are left on: norms are the same
    there, and the sum can be turned back at once.

    Raises:
        TypeError: If an element is neither an `Encoder` nor a string.
        ValueError: If there is no encoder of a name, no place of the sum
            serves all links, or noise would be added to what has no bound.

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

    def __init__(self, encoders: Encoders = ()):
        self.encoders = links(encoders)
        for encoder in self.encoders[:-1]:
            if encoder.variable_length:
                raise ValueError(
                    f"{type(encoder).__name__} makes messages of differing "
                    "lengths, which no link after it can take. Put it last."
                )
        self.has_memory = any(e.stateful for e in self.encoders)
        self.varies_in_length = any(e.variable_length for e in self.encoders)
        self.num_decoded_on_sum = self._place_sum()
        noisy = [k for k, e in enumerate(self.encoders) if e.noises]
        self.noise_at = noisy[0] if noisy else None
        self.clips_again = False
        # Who adds noise that hides a client's part. A link that clips and
        # adds noise at once does both at the client.
        self.noise: Literal["server", "clients"] | None = None
        if noisy:
            sets = self.encoders[noisy[0]].bound == "sets"
            self.noise = "clients" if sets else "server"
            self._check_noise(noisy)

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

    def _check_noise(self, noisy: list[int]) -> None:
        names = ", ".join(type(e).__name__ for e in self.encoders)
        if len(noisy) > 1:
            raise ValueError(
                f"The encoders [{names}] add noise at the server twice. "
                "Expected one link that does."
            )
        (at,) = noisy
        bounded = False
        # A link may clip and add noise at once, as those for integers do.
        for encoder in self.encoders[: at + 1]:
            bounded = encoder.bound == "sets" or (
                bounded and encoder.bound == "keeps"
            )
        name = type(self.encoders[at]).__name__
        if not bounded:
            raise ValueError(
                f"In the encoders [{names}], {name} would add noise to "
                "updates without a bound, which hides nothing. Put a clip, "
                "such as Clip(norm), before it."
            )
        if self.num_decoded_on_sum < len(self.encoders):
            if self.encoders[at].bound == "sets":
                after = self.encoders[self.num_decoded_on_sum]
                raise ValueError(
                    f"In the encoders [{names}], {name} sends integers to be "
                    f"added, which {type(after).__name__} would change. Leave "
                    "it out: they are small already."
                )
            # Every message is seen by itself: decode it up to the noise.
            stop = at + 1
            while (
                stop < self.num_decoded_on_sum and self.encoders[stop].isometric
            ):
                stop += 1
            self.num_decoded_on_sum = stop
            self.clips_again = True
            return
        for encoder in self.encoders[at + 1 :]:
            if encoder.bound == "loses":
                raise ValueError(
                    f"In the encoders [{names}], the noise of {name} is "
                    "scaled to a bound that "
                    f"{type(encoder).__name__} doesn't keep, and it is "
                    "decoded on the sum only, where single updates can't be "
                    "clipped again. Leave it out, or put one that keeps the "
                    "bound in its place."
                )

    def init(self, spec: Spec) -> tuple[Any, ...]:
        """The states of all links, a tuple.

        Raises:
            ValueError: If a link gets what is no list of float arrays.
        """
        states = []
        before = ""
        for encoder in self.encoders:
            name = type(encoder).__name__
            if not encoder.variable_length and not _is_value(spec):
                raise ValueError(
                    f"{name} changes lists of float arrays, and {before} "
                    "before it sends something else. Put "
                    f"{before} last: what packs a message comes at the end."
                )
            states.append(encoder.init(spec))
            spec = encoder.encoded_spec(spec)
            before = name
        return tuple(states)

    def params(self, state: tuple[Any, ...], seed: Any) -> tuple[Any, ...]:
        """The parameters of all links, a tuple.

        Args:
            state: Of all links.
            seed: An int32 array of shape `(2,)`, of this round.
        """
        params = []
        bound: Any = math.inf
        for k, (encoder, s) in enumerate(
            zip(self.encoders, state, strict=True)
        ):
            p = encoder.params(s, link_seed(seed, k))
            if encoder.uses_bound:
                p = encoder.with_bound(p, bound)
            bound = encoder.sensitivity(bound, p)
            params.append(p)
        return tuple(params)

    def init_client(self, spec: Spec) -> tuple[Any, ...]:
        """What a client keeps of all links before its first round."""
        states = []
        for encoder in self.encoders:
            states.append(encoder.init_client(spec))
            spec = encoder.encoded_spec(spec)
        return tuple(states)

    def encode(self, value: Value, params: Any, seed: Any) -> tuple[Any, Any]:
        """What a client sends, and the statistics of all links."""
        all_stats = []
        links = zip(self.encoders, params, strict=True)
        for k, (encoder, p) in enumerate(links):
            value, stats = encoder.encode(value, p, link_seed(seed, k))
            all_stats.append(stats)
        return value, tuple(all_stats)

    def encode_stateful(
        self, value: Value, params: Any, seed: Any, client_state: Any
    ) -> tuple[Any, Any, Any]:
        """`encode`, with what the client kept of all links."""
        all_stats, states = [], []
        links = zip(self.encoders, params, client_state, strict=True)
        for k, (encoder, p, s) in enumerate(links):
            word = link_seed(seed, k)
            if encoder.stateful:
                value, stats, s = encoder.encode_stateful(value, p, word, s)
            else:
                value, stats = encoder.encode(value, p, word)
            all_stats.append(stats)
            states.append(s)
        return value, tuple(all_stats), tuple(states)

    def to_wire(self, encoded: Any) -> Any:
        """What is really sent: see `Encoder.to_wire`."""
        return self.encoders[-1].to_wire(encoded) if self.encoders else encoded

    def from_wire(self, sent: Any, spec: Any) -> Any:
        """What `to_wire` was given."""
        return (
            self.encoders[-1].from_wire(sent, spec) if self.encoders else sent
        )

    def decode_summand(self, value: Any, params: Any) -> Any:
        """What is added to other clients', of one client's message."""
        value = self._decode(value, params, self.num_decoded_on_sum)
        if self.clips_again:
            bound = self._bound_before_noise(params)
            value = norms.scale_down(value, norms.l2(value), bound)
        return value

    def decode_sum(self, value: Any, params: Any, noise: Any) -> Value:
        """The sum of updates, of the sum of what `decode_summand` made."""
        params = list(params)
        if self.noise_at is not None:
            at = self.noise_at
            params[at] = self.encoders[at].with_sensitivity(
                params[at], self.noise_bound(params)
            )
        stop = self.num_decoded_on_sum
        links = zip(
            self.encoders[:stop], params[:stop], noise[:stop], strict=True
        )
        for encoder, p, n in reversed(list(links)):
            value = encoder.decode_sum(value, p, n)
        return value

    def decode(self, value: Any, params: Any) -> Value:
        """The update of one client's message, without a sum."""
        return self._decode(value, params, 0)

    def _decode(self, value, params, start):
        links = list(zip(self.encoders, params, strict=True))[start:]
        for encoder, p in reversed(links):
            value = encoder.decode(value, p)
        return value

    def draw(self, state: Any, rng: np.random.Generator) -> tuple[Any, ...]:
        """What is random at the server this round, of all links."""
        return tuple(
            encoder.draw(s, rng)
            for encoder, s in zip(self.encoders, state, strict=True)
        )

    def update(
        self, state: Any, stats: Any, noise: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The next states of all links, and their metrics together."""
        states, metrics = [], {}
        links = zip(self.encoders, state, stats, noise, strict=True)
        for encoder, s, t, n in links:
            s, m = encoder.update(s, t, n)
            states.append(s)
            metrics.update(m)
        return tuple(states), metrics

    def sensitivity(self, bound: Any, params: Any) -> Any:
        """A bound on the L2 norm of a client's part of the sum.

        Args:
            bound: On that of its update; infinite if there is none.
            params: From `params`.
        """
        for encoder, p in zip(self.encoders, params, strict=True):
            bound = encoder.sensitivity(bound, p)
        return bound

    def noise_bound(self, params: Any) -> Any:
        """The largest L2 norm of a client's part of what noise is added to."""
        bound = self._bound_before_noise(params)
        if not self.clips_again:
            assert self.noise_at is not None
            start = self.noise_at + 1
            links = zip(self.encoders[start:], params[start:], strict=True)
            for encoder, p in links:
                bound = encoder.sensitivity(bound, p)
        return bound

    def _bound_before_noise(self, params: Any) -> Any:
        bound: Any = math.inf
        links = zip(
            self.encoders[: self.noise_at],
            params[: self.noise_at],
            strict=True,
        )
        for encoder, p in links:
            bound = encoder.sensitivity(bound, p)
        return bound

    def dp_events(self, spec: Spec | None = None) -> list[Any]:
        """What a client's part in one round gives away, link by link.

        Args:
            spec: Of an update; see `Encoder.dp_event`.
        """
        events = []
        for encoder in self.encoders:
            events.append(encoder.dp_event(spec))
            spec = None if spec is None else encoder.encoded_spec(spec)
        return [event for event in events if event is not None]


def _is_value(spec: Any) -> bool:
    return isinstance(spec, list) and all(
        hasattr(s, "dtype")
        and keras.backend.is_float_dtype(
            keras.backend.standardize_dtype(s.dtype)
        )
        for s in spec
    )


def link_seed(seed: Any, position: int) -> Any:
    """The seed of the link at a position, of a seed for the whole chain.

    Args:
        seed: An int32 array of shape `(2,)`; None stays None.
        position: From 0.
    """
    if seed is None:
        return None
    # Another key for a counter-based generator is another stream, however
    # near the two keys are.
    steps = np.array([0x3C6EF372, 0x1B873593], np.int32)
    with np.errstate(over="ignore"):
        return seed + steps * np.int32(position)
