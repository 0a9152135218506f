import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn.aggregators.mean import Mean
from fedlearn.encoders.chain import Chain
from fedlearn.encoders.clip import Clip
from fedlearn.encoders.encoder import Encoder, Memory, Noise, Spec
from fedlearn.messages import wire
from fedlearn.testing import trial as trials
from fedlearn.testing.compare import (
    all_finite,
    host,
    l2_norm,
    layout,
    require_close,
    require_same,
    require_same_layout,
)
from fedlearn.testing.rule import Broken, Rule, check_rules
from fedlearn.testing.trial import DEFAULT_SPEC, Trial, normal, words

_ONE_ELEMENT = [keras.KerasTensor((1,), "float32")]
_HALF_PRECISION = [
    keras.KerasTensor((6,), "float16"),
    keras.KerasTensor((1, 3), "float32"),
]


def check_encoder(
    encoder: Encoder,
    spec: Spec | None = None,
    *,
    random: bool | None = None,
    skip: Sequence[str] = (),
    tolerance: float = 1e-4,
) -> None:
    """Checks that an encoder keeps the rules that all others rely on.

    `fedlearn.testing.ENCODER_RULES` lists them. Every rule is checked on a
    small value, on the backend that Keras runs on; only the last one, which
    trains in a process, takes more than a few seconds.

    Args:
        encoder: With the arguments that you use it with: those at their
            defaults can't be missed in `get_config`.
        spec: Shapes and float dtypes of the value to try it on; by default
            three variables with 23 numbers.
        random: Whether what it sends depends on a seed: True and False are
            both checked, None isn't.
        skip: Names of rules that don't concern it.
        tolerance: How much of the largest magnitude of a value rounding may
            change, where a rule is not about bits.

    Raises:
        AssertionError: At the first broken rule; it says what was seen, and
            how to mend it.
        TypeError: If `encoder` isn't an `Encoder`, or `spec` isn't of floats.
        ValueError: If `skip` names no rule.

    Example: an encoder that isn't linear, and says that it may be decoded
    after the sum.

    >>> class Shifted(Encoder):
    ...     def encode(self, value, params, seed):
    ...         return [v - 1 for v in value], ()
    ...     def decode(self, value, params):
    ...         return [v + 1 for v in value]
    >>> check_encoder(Shifted())
    Traceback (most recent call last):
        ...
    AssertionError: Shifted breaks the rule 'sum'. The sum decoded, against the
    sum of what is decoded one by one: number 0 of 15 is ...
    """
    if not isinstance(encoder, Encoder):
        raise TypeError(
            "`encoder` must be an instance of fedlearn.encoders.Encoder. "
            f"Received: {encoder!r}."
        )
    spec = list(DEFAULT_SPEC if spec is None else spec)
    for s in spec:
        if not keras.backend.is_float_dtype(s.dtype):
            raise TypeError(
                "Updates are floats, so `spec` must be of float dtypes. "
                f"Received: {s}."
            )
    check_rules(
        encoder,
        ENCODER_RULES,
        skip,
        lambda: _Trial(encoder, spec, 3, tolerance, random),
    )


class _Trial(Trial):
    """One client's round trip, as if it were alone."""

    parts = ("stats", "kept", "decoded")
    attributes = ("decodes", "bound")

    def __init__(
        self,
        subject: Encoder,
        spec: Spec,
        num_clients: int,
        tolerance: float,
        random: bool | None = None,
    ):
        super().__init__(subject, spec, num_clients, tolerance)
        self.random = random

    def on(self, spec: Spec) -> "_Trial":
        """The same encoder on another value."""
        return _Trial(self.subject, spec, self.num_clients, self.tolerance)

    def client(self, shared, own) -> dict[str, Any]:
        params = self.built.params(shared["state"], shared["seed"], 1.0)
        value, seed, kept = own["value"], own["seed"], own["memory"]
        if isinstance(self.built, Memory):
            encoded, stats, kept = self.built.encode_with(
                value, params, seed, kept
            )
        else:
            encoded, stats = self.built.encode(value, params, seed)
        return {
            "params": params,
            "encoded": encoded,
            "stats": stats,
            "kept": kept,
            "decoded": self.decode(encoded, params, shared["noise"]),
        }

    def decode(self, encoded: Any, params: Any, noise: Any) -> Any:
        if self.adds_noise:
            return self.built.add(encoded, np.float32(1), noise)
        return self.built.decode(encoded, params)

    @property
    def adds_noise(self) -> bool:
        """Whether the server does."""
        return isinstance(self.built, Noise) and self.built.noise == "server"

    def server(self, shared, total) -> dict[str, Any]:
        state, metrics = self.built.update(
            shared["state"], total, shared["noise"]
        )
        return {"state": state, "metrics": metrics}

    def total(self) -> Any:
        stats = keras.tree.map_structure(
            lambda a: a + a, self.clients[0]["stats"]
        )
        return keras.tree.map_structure(ops.convert_to_tensor, stats)

    def aggregator(self) -> Mean:
        state, seed = self.shared["state"], self.shared["seed"]
        anything = self.built.params(state, seed, math.inf)
        if not isinstance(self.subject, Noise) and all_finite(anything):
            return Mean([self.subject])
        # It is for clipped updates that count the same.
        return Mean(
            [Clip(1.0), self.subject],
            weighting="uniform",
            denominator=float(self.num_clients),
        )

    def run(self, value: Any, eagerly: bool = False) -> dict[str, Any]:
        run = self.client if eagerly else self.compiled
        return host(run(self.shared, self.own(value=value)))


def _seeds(trial: _Trial) -> None:
    trials.seeded(trial)
    if trial.random is None:
        return
    shared, own = trial.shared, trial.own()
    other = ops.convert_to_tensor(words("other"))
    trips = [
        trial.client(shared, {**own, "seed": other}),
        trial.client({**shared, "seed": other}, own),
    ]
    depends = not all(_is_same(trip, trial.clients[0]) for trip in trips)
    if depends and not trial.random:
        raise Broken("Another seed gives another message.")
    if trial.random and not depends:
        raise Broken("Another seed gives the same message.")


def _is_same(trip: Any, other: Any) -> bool:
    try:
        for part in ("encoded", "decoded"):
            require_same(trip[part], other[part], "")
    except Broken:
        return False
    return True


def _shapes(trial: _Trial) -> None:
    for t in (trial, trial.on(_ONE_ELEMENT)):
        _require_shapes(t)
    trials.check_metrics(trial.served["metrics"])


def _dtypes(trial: _Trial) -> None:
    _require_shapes(trial.on(_HALF_PRECISION))


def _require_shapes(trial: _Trial) -> None:
    trip = trial.clients[0]
    require_same_layout(trip["decoded"], trial.spec, "What is decoded")
    require_same_layout(
        trip["encoded"],
        trial.built.encoded_spec(),
        "What is encoded, against `encoded_spec`",
    )


def _sums(trial: _Trial) -> None:
    """In a mean of clients that count 1, 2 and 3."""
    mean = trial.aggregator().build(trial.spec)
    state = mean.init()
    params = mean.params(state, words("round"))
    noise = mean.draw(state, trials.generator())
    summands = []
    for k in range(trial.num_clients):
        own = trial.own(k)
        message, _ = mean.encode(
            own["value"], params, own["seed"], mean.init_memory()
        )
        summands.append(mean.summand(message, own["num_examples"], params))
    total = keras.tree.map_structure(lambda *a: sum(a[1:], a[0]), *summands)
    found, _, _ = host(mean.finish(state, total, params, noise))
    require_same_layout(found, trial.spec, "What a mean of clients decodes")
    if not all_finite(found):
        raise Broken("A mean of clients with finite updates isn't finite.")
    if trial.subject.decodes == "sum":
        return
    weights = np.arange(1.0, trial.num_clients + 1)
    columns = zip(*(c["decoded"] for c in trial.clients), strict=True)
    expected = [
        np.average(np.stack(column).astype(float), 0, weights).astype(s.dtype)
        for column, s in zip(columns, trial.spec, strict=True)
    ]
    require_close(
        found,
        expected,
        trial.tolerance,
        "The sum decoded, against the sum of what is decoded one by one",
    )


def _wire(trial: _Trial) -> None:
    trip, chain = trial.clients[0], Chain()
    chain.encoders = (trial.built,)
    sent = wire.pack((chain.to_wire(trip["encoded"]), trip["stats"]))
    encoded, _ = wire.unpack(sent)
    encoded = chain.from_wire(encoded, trip["encoded"])
    encoded, params = keras.tree.map_structure(
        ops.convert_to_tensor, (encoded, trip["params"])
    )
    require_same(
        trial.decode(encoded, params, trial.shared["noise"]),
        trip["decoded"],
        "What is decoded of a message's bytes",
    )


def _bound(trial: _Trial) -> None:
    encoder = trial.built
    if encoder.bound == "loses":
        return
    for scale in (1.0, 1e30, 1e-30, 0.0):
        value = normal(trial.spec, scale=scale)
        trip, before = trial.run(value), l2_norm(value)
        given = math.inf if encoder.bound == "sets" else before
        limit = float(encoder.sensitivity(given, trip["params"]))
        if not math.isfinite(limit):
            raise Broken(
                f"`bound` is {encoder.bound!r}, and of a bound of {given:.4g} "
                f"`sensitivity` makes {limit}."
            )
        if encoder.bound == "keeps" and encoder.decodes == "summand":
            # The mean clips what it decodes again, to the bound.
            if limit != given:
                raise Broken(
                    "What is decoded one by one is clipped to the bound "
                    f"again, and `sensitivity` makes {limit:.7g} of {given:.7g}"
                    "."
                )
            continue
        # What is decoded has the server's noise in it; what is encoded is
        # what noise is added to, unless clients do that.
        part = "encoded" if isinstance(encoder, Noise) else "decoded"
        if layout(trip[part]) != layout(trial.spec):
            continue
        norm = l2_norm(trip[part])
        # Numbers below 1e-37 may be taken for 0, and 0 for such.
        if not norm <= limit * (1 + 1e-5) + 1e-36:
            raise Broken(
                f"A value of norm {before:.7g} comes back with norm "
                f"{norm:.7g}, and `sensitivity` says at most {limit:.7g}."
            )


def _odd(trial: _Trial) -> None:
    for t in (trial, trial.on(_ONE_ELEMENT)):
        for scale in (0.0, 1e-30):
            trip = t.run(normal(t.spec, scale=scale), t is not trial)
            if not all_finite((trip["decoded"], trip["stats"], trip["kept"])):
                raise Broken(
                    "What comes of zeros, or of numbers of 1e-30, isn't "
                    f"finite: {trip['decoded']}."
                )
        for bad in (np.nan, np.inf, -np.inf):
            value = normal(t.spec)
            value[-1] = np.full_like(value[-1], bad)
            trip = t.run(value, t is not trial)
            # In integers it can't be seen; the process looks at the update.
            seen = any(
                keras.backend.is_float_dtype(str(a.dtype))
                for a in keras.tree.flatten(trip["encoded"])
            )
            if seen and all_finite(trip["decoded"]):
                raise Broken(f"A value with {bad} comes back finite.")


ENCODER_RULES = (
    trials.PURE,
    Rule(
        "seeds",
        "Draw from the `seed` of `params` and `encode`, or from the `rng` of "
        "`draw`, and from nothing else; say random=True here if you do.",
        _seeds,
    ),
    trials.CONFIG,
    Rule(
        "shapes",
        "`decode` must make arrays of the shapes that `encode` got (those of "
        "`self.spec`), `encoded_spec` must say what `encode` makes, and "
        "metrics must be finite scalars.",
        _shapes,
    ),
    Rule(
        "dtypes",
        "`decode` must make arrays of the dtypes that `encode` got, also of "
        "float16 (those of `self.spec`).",
        _dtypes,
    ),
    trials.COMPILED,
    trials.VECTORIZED,
    Rule(
        "sum",
        "Set `decodes` to 'either' only if decoding is linear in what is "
        "encoded and its dtype can hold a sum; 'summand' decodes one by one.",
        _sums,
    ),
    Rule(
        "wire",
        "Encode to nested lists, tuples and dicts of arrays of numbers, with "
        "all that `decode` needs in them or in `params`.",
        _wire,
    ),
    trials.STATE,
    Rule(
        "bound",
        "Let `sensitivity` give a true bound, or set `bound` to 'loses'.",
        _bound,
    ),
    Rule(
        "odd inputs",
        "Guard divisions by zero, and let what isn't finite stay visible, so "
        "that whoever decodes it can leave the client out.",
        _odd,
    ),
    trials.TRAINING,
)
