import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend, checks
from fedlearn.aggregators.mean import Mean
from fedlearn.encoders.clip import Clip
from fedlearn.encoders.encoder import Encoder, Memory, Noise, Spec
from fedlearn.testing import trial as trials
from fedlearn.testing.compare import (
    Broken,
    all_finite,
    host,
    l2_norm,
    layout,
    require_same,
    require_same_layout,
)
from fedlearn.testing.trial import Trial

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

    `fedlearn.testing.ENCODER_RULES` has them by name. Every rule is checked on
    a small value, on the backend that Keras runs on; only the last one, which
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
    checks.instance("encoder", encoder, Encoder)
    spec = list(trials.DEFAULT_SPEC if spec is None else spec)
    for s in spec:
        if not keras.backend.is_float_dtype(s.dtype):
            raise TypeError(
                "Updates are floats, so `spec` must be of float dtypes. "
                f"Received: {s}."
            )
    trial = _Trial(encoder, spec, 3, tolerance)
    trial.random = random
    trials.check_rules(trial, ENCODER_RULES, skip)


class _Trial(Trial):
    """An encoder in a mean, and what it makes of one client's value alone."""

    attributes = ("decodes", "bound")
    random: bool | None = None  # whether what is sent depends on a seed

    def __init__(self, subject: Encoder, spec: Spec, *arguments: Any):
        self.encoder = subject.build(spec)
        super().__init__(subject, spec, *arguments)
        self.compiled = backend.jit(self._trip)

    def on(self, spec: Spec) -> "_Trial":
        """The same encoder on another value."""
        return _Trial(self.subject, spec, self.num_clients, self.tolerance)

    def aggregator(self) -> Mean:
        anything = self.encoder.params(
            self.encoder.init(), trials.words("round"), math.inf
        )
        if not isinstance(self.subject, Noise) and all_finite(anything):
            return Mean([self.subject])
        # It is for clipped updates that count the same.
        return Mean(
            [Clip(1.0), self.subject],
            weighting="uniform",
            denominator=float(self.num_clients),
        )

    def trip(
        self, value: Any = None, client: int = 0, compiled: bool = False
    ) -> dict[str, Any]:
        """Of a client's value, or of another."""
        value = trials.normal(self.spec, client) if value is None else value
        state = self.encoder.init()
        noise = self.encoder.draw(state, trials.generator())
        seeds = trials.words("round"), trials.words("client", client)
        run = self.compiled if compiled else self._trip
        return host(run(state, noise, *trials.tensors((*seeds, value))))

    def _trip(self, state, noise, round_seed, seed, value) -> dict[str, Any]:
        encoder, kept = self.encoder, ()
        params = encoder.params(state, round_seed, 1.0)
        if isinstance(encoder, Memory):
            encoded, stats, kept = encoder.encode_with(
                value, params, seed, encoder.init_memory()
            )
        else:
            encoded, stats = encoder.encode(value, params, seed)
        if isinstance(encoder, Noise) and encoder.noise == "server":
            decoded = encoder.add(encoded, np.float32(1), noise)
        else:
            decoded = encoder.decode(encoded, params)
        return {
            "params": params,
            "encoded": encoded,
            "decoded": decoded,
            "others": (stats, kept),
        }


def _seeds(trial: _Trial) -> None:
    """Draw from the `seed` of `params` and `encode`, or from the `rng` of
    `draw`, and from nothing else; say random=True here if you do."""
    trials.seeded(trial)
    if trial.random is None:
        return
    shared, own = trial.shared, trial.own()
    other = {"seed": ops.convert_to_tensor(trials.words("other"))}
    first, *others = (
        [a.tobytes() for a in keras.tree.flatten(host(half))]
        for half in (
            trial.clients[0],
            trial.client(shared, own | other),
            trial.client(shared | other, own),
        )
    )
    depends = any(one != first for one in others)
    if depends != trial.random:
        which = "another" if depends else "the same"
        raise Broken(f"Another seed gives {which} message.")


def _shapes(trial: _Trial) -> None:
    """`decode` must make arrays of the shapes and dtypes that `encode` got
    (those of `self.spec`), also of float16, `encoded_spec` must say what
    `encode` makes, and metrics must be finite scalars."""
    for t in (trial, trial.on(_ONE_ELEMENT), trial.on(_HALF_PRECISION)):
        trip = t.trip()
        require_same_layout(trip["decoded"], t.spec, "What is decoded")
        require_same_layout(
            trip["encoded"],
            t.encoder.encoded_spec(),
            "What is encoded, against `encoded_spec`",
        )
    trials.check_metrics(trial.served["metrics"])


def _sums(trial: _Trial) -> None:
    """Set `decodes` to 'either' only if decoding is linear in what is
    encoded and its dtype can hold a sum; 'summand' decodes one by one."""
    found = trial.served["aggregate"]
    require_same_layout(found, trial.spec, "What a mean of clients decodes")
    if not all_finite(found):
        raise Broken("A mean of clients with finite updates isn't finite.")
    if trial.subject.decodes == "sum":
        return
    decoded = [
        trial.trip(client=k)["decoded"] for k in range(trial.num_clients)
    ]
    weights = np.arange(1.0, trial.num_clients + 1)
    columns = zip(*decoded, strict=True)
    expected = [
        np.average(np.stack(column).astype(float), 0, weights).astype(s.dtype)
        for column, s in zip(columns, trial.spec, strict=True)
    ]
    what = "The sum decoded, against the sum of what is decoded one by one"
    require_same(found, expected, what, trial.tolerance)


def _bound(trial: _Trial) -> None:
    """Let `sensitivity` give a true bound, or set `bound` to 'loses'."""
    encoder = trial.encoder
    if encoder.bound == "loses":
        return
    for scale in (1.0, 1e30, 1e-30, 0.0):
        value = trials.normal(trial.spec, scale=scale)
        trip, before = trial.trip(value, compiled=True), l2_norm(value)
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
    """Guard divisions by zero, and let what isn't finite stay visible, so
    that whoever decodes it can leave the client out."""
    for t in (trial, trial.on(_ONE_ELEMENT)):
        for scale in (0.0, 1e-30):
            trip = t.trip(
                trials.normal(t.spec, scale=scale), compiled=t is trial
            )
            if not all_finite((trip["decoded"], trip["others"])):
                raise Broken(
                    "What comes of zeros, or of numbers of 1e-30, isn't "
                    f"finite: {trip['decoded']}."
                )
        for bad in (np.nan, np.inf, -np.inf):
            value = trials.normal(t.spec)
            value[-1] = np.full_like(value[-1], bad)
            trip = t.trip(value, compiled=t is trial)
            # In integers it can't be seen; the process looks at the update.
            seen = any(
                keras.backend.is_float_dtype(str(a.dtype))
                for a in keras.tree.flatten(trip["encoded"])
            )
            if seen and all_finite(trip["decoded"]):
                raise Broken(f"A value with {bad} comes back finite.")


ENCODER_RULES = {
    "pure": trials.pure,
    "seeds": _seeds,
    "config": trials.config,
    "shapes": _shapes,
    "compiled": trials.compiled,
    "vectorized": trials.vectorized,
    "sum": _sums,
    "wire": trials.sent,
    "state": trials.state,
    "bound": _bound,
    "odd inputs": _odd,
    "training": trials.training,
}
