import copy
import math
from collections.abc import Sequence
from typing import Any, Literal, Self

import keras
import numpy as np

from fedlearn import serialization
from fedlearn.encoders import norms
from fedlearn.encoders.encoder import (
    Encoder,
    Memory,
    Noise,
    Spec,
    Updated,
    Value,
    Wire,
)
from fedlearn.names import ENCODERS

Encoders = str | Sequence[str | Encoder]
"""How encoders are given; see `links`."""


def links(encoders: Encoders) -> tuple[Encoder, ...]:
    """The encoders that are given, some of them perhaps by name.

    A list of encoders, or of strings as for `fedlearn.encoders.get`; or one
    string that joins several with `+`.

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
    clipped to the bound again, so that no rounding error exceeds it. Rotations
    next to the noise are left on: norms are the same there, and the sum can
    be turned back at once.

    Raises:
        TypeError: If an element is neither an `Encoder` nor a string.
        ValueError: If there is no encoder of a name, no place of the sum
            serves all links, or noise would be added to what has no bound.

    Example: an encoder whose decoding needs each client's own scale, on the
    wire side of one that decodes the sum.

    >>> class OnSum(Encoder):
    ...     decodes = "sum"
    >>> class OwnScale(Encoder):
    ...     decodes = "summand"
    >>> Chain([OnSum(), OwnScale()]).num_decoded_on_sum
    1
    >>> Chain([OwnScale(), OnSum()])
    Traceback (most recent call last):
        ...
    ValueError: The encoders [OwnScale, OnSum] can't work in this order: ...
    """

    spec: Any

    def __init__(self, encoders: Encoders = ()):
        self.encoders = links(encoders)
        for encoder in self.encoders[:-1]:
            if _varies(encoder):
                raise ValueError(
                    f"{type(encoder).__name__} makes messages of differing "
                    "lengths, which no link after it can take. Put it last."
                )
        self.has_memory = any(isinstance(e, Memory) for e in self.encoders)
        self.varies_in_length = any(_varies(e) for e in self.encoders)
        self.num_decoded_on_sum = self._place_sum()
        self.noise: Literal["server", "clients"] | None = None
        self.noise_at: int | None = None
        self.clips_again = False
        noises = [
            (k, e.noise)
            for k, e in enumerate(self.encoders)
            if isinstance(e, Noise)
        ]
        if len(noises) > 1:
            raise ValueError(
                f"The encoders {self._names()} add noise at the server twice. "
                "Expected one link that does."
            )
        for at, who in noises:
            self.noise_at, self.noise = at, who
            self._check_noise(at)

    def _place_sum(self) -> int:
        # Decoding starts from the right. Everything from the leftmost link
        # that needs single summands to the right end is decoded before the
        # sum, so no link there may need the sum.
        kinds = [encoder.decodes for encoder in self.encoders]
        first = kinds.index("summand") if "summand" in kinds else len(kinds)
        if "sum" in kinds[first:]:
            inner = type(self.encoders[kinds.index("sum", first)]).__name__
            outer = type(self.encoders[first]).__name__
            raise ValueError(
                f"The encoders {self._names()} can't work in this order: "
                f"{inner} is decoded on the sum over clients, and "
                f"{outer}, which is decoded after it, needs each client's "
                f"message by itself. Put {inner} before {outer}: what "
                "concerns the sum comes first, what concerns the wire "
                "last."
            )
        return first

    def _names(self) -> str:
        return f"[{', '.join(type(e).__name__ for e in self.encoders)}]"

    def _check_noise(self, at: int) -> None:
        name = type(self.encoders[at]).__name__
        where = f"In the encoders {self._names()}, "
        # A link may clip and add noise at once, as those for integers do.
        kinds = [encoder.bound for encoder in self.encoders[: at + 1]]
        while kinds and kinds[-1] in ("keeps", "rotates"):
            kinds.pop()
        if kinds[-1:] != ["sets"]:
            raise ValueError(
                f"{where}{name} would add noise to updates without "
                "a bound, which hides nothing. Put a clip, such as "
                "Clip(norm), before it."
            )
        if self.num_decoded_on_sum < len(self.encoders):
            if self.noise == "clients":
                after = self.encoders[self.num_decoded_on_sum]
                raise ValueError(
                    f"{where}{name} sends integers to be added, "
                    f"which {type(after).__name__} would change. Leave it "
                    "out: they are small already."
                )
            # Every message is seen by itself: decode it up to the noise.
            between = self.encoders[at + 1 : self.num_decoded_on_sum]
            others = (k for k, e in enumerate(between) if e.bound != "rotates")
            self.num_decoded_on_sum = at + 1 + next(others, len(between))
            self.clips_again = True
            return
        for encoder in self.encoders[at + 1 :]:
            if encoder.bound == "loses":
                raise ValueError(
                    f"{where}the noise of {name} is scaled to a "
                    f"bound that {type(encoder).__name__} doesn't keep, and "
                    "it is decoded on the sum only, where single updates "
                    "can't be clipped again. Leave it out, or put one that "
                    "keeps the bound in its place."
                )

    def build(self, spec: Spec) -> Self:
        """This chain for updates of a spec; itself it stays as it is."""
        built, before = copy.copy(self), ""
        encoders: list[Encoder] = []
        for encoder in self.encoders:
            name = type(encoder).__name__
            if not _varies(encoder) and not _is_value(spec):
                raise ValueError(
                    f"{name} changes lists of float arrays, and {before} "
                    "before it sends something else. Put "
                    f"{before} last: what packs a message comes at the end."
                )
            encoders.append(encoder.build(spec))
            spec = encoders[-1].encoded_spec()
            before = name
        built.encoders, built.spec = tuple(encoders), spec
        return built

    def encoded_spec(self) -> Any:
        """The spec of what `encode` makes, once it is built."""
        return self.spec

    def init(self) -> tuple[Any, ...]:
        """The states of all links."""
        return tuple(encoder.init() for encoder in self.encoders)

    def params(self, state: tuple[Any, ...], seed: Any) -> tuple[Any, ...]:
        """The parameters of all links, of their states and the round's seed."""
        params = []
        bound: Any = math.inf
        for k, (link, s) in enumerate(zip(self.encoders, state, strict=True)):
            params.append(link.params(s, link_seed(seed, k), bound))
            bound = link.sensitivity(bound, params[-1])
        return tuple(params)

    def init_memory(self) -> tuple[Any, ...]:
        """What a client keeps, before its first round, of links with memory."""
        return tuple(
            link.init_memory()
            for link in self.encoders
            if isinstance(link, Memory)
        )

    def encode(
        self, value: Value, params: Any, seed: Any, memory: Any = ()
    ) -> tuple[Any, Any, Any]:
        """What a client sends, the statistics of all links, what it keeps."""
        all_stats, kept, old = [], [], iter(memory)
        for k, (link, p) in enumerate(zip(self.encoders, params, strict=True)):
            word = link_seed(seed, k)
            if isinstance(link, Memory):
                value, stats, new = link.encode_with(value, p, word, next(old))
                kept.append(new)
            else:
                value, stats = link.encode(value, p, word)
            all_stats.append(stats)
        return value, tuple(all_stats), tuple(kept)

    def to_wire(self, encoded: Any) -> Any:
        """What is really sent: see `Wire`."""
        last = self.encoders[-1] if self.encoders else None
        return last.to_wire(encoded) if isinstance(last, Wire) else encoded

    def from_wire(self, sent: Any, spec: Any) -> Any:
        """What `to_wire` was given."""
        last = self.encoders[-1] if self.encoders else None
        return last.from_wire(sent, spec) if isinstance(last, Wire) else sent

    def decode_summand(self, value: Any, params: Any) -> Any:
        """What is added to other clients', of one client's message."""
        value = self._decode(value, params, self.num_decoded_on_sum)
        if self.clips_again:
            bound = self.noise_bound(params)
            value = norms.scale_down(value, norms.l2(value), bound)
        return value

    def decode_sum(self, value: Any, params: Any, noise: Any) -> Value:
        """The sum of updates, of the sum of what `decode_summand` made."""
        for k in reversed(range(self.num_decoded_on_sum)):
            link = self.encoders[k]
            if isinstance(link, Noise) and link.noise == "server":
                value = link.add(value, self.noise_bound(params), noise[k])
            else:
                value = link.decode(value, params[k])
        return value

    def decode(self, value: Any, params: Any) -> Value:
        """The update of one client's message, without a sum."""
        return self._decode(value, params, 0)

    def _decode(self, value, params, start):
        pairs = list(zip(self.encoders, params, strict=True))[start:]
        for link, p in reversed(pairs):
            value = link.decode(value, p)
        return value

    def draw(self, state: Any, rng: np.random.Generator) -> tuple[Any, ...]:
        """What is random at the server this round, of all links."""
        pairs = zip(self.encoders, state, strict=True)
        return tuple(link.draw(s, rng) for link, s in pairs)

    def update(self, state: Any, stats: Any, noise: Any) -> Updated:
        """The next states of all links, and their metrics together."""
        states, metrics = [], {}
        for link, s, t, n in zip(
            self.encoders, state, stats, noise, strict=True
        ):
            s, m = link.update(s, t, n)
            states.append(s)
            metrics.update(m)
        return tuple(states), metrics

    def noise_bound(self, params: Any) -> Any:
        """The largest L2 norm of a client's part of what noise is added to."""
        # What is clipped again, is so to the bound that noise has or sets.
        stop = len(self.encoders)
        if self.clips_again and self.noise_at is not None:
            stop = self.noise_at + 1
        bound: Any = math.inf
        for link, p in zip(self.encoders[:stop], params[:stop], strict=True):
            bound = link.sensitivity(bound, p)
        return bound

    def dp_events(self) -> list[Any]:
        """What a client's part in one round gives away, link by link."""
        events = [encoder.dp_event() for encoder in self.encoders]
        return [event for event in events if event is not None]


def _varies(encoder: Encoder) -> bool:
    return isinstance(encoder, Wire) and encoder.varies


def _is_value(spec: Any) -> bool:
    return isinstance(spec, list) and all(
        hasattr(s, "dtype")
        and keras.backend.is_float_dtype(
            keras.backend.standardize_dtype(s.dtype)
        )
        for s in spec
    )


def link_seed(seed: Any, position: int) -> Any:
    """The seed of the link at a position, made of the whole chain's."""
    if seed is None:
        return None
    # Another key for a counter-based generator is another stream, however
    # near the two keys are.
    steps = np.array([0x3C6EF372, 0x1B873593], np.int32)
    with np.errstate(over="ignore"):
        return seed + steps * np.int32(position)
