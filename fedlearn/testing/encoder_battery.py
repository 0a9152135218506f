"""What every encoder must do, as a battery of rules."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend
from fedlearn.aggregators.mean import Mean
from fedlearn.encoders.clip import Clip
from fedlearn.encoders.encoder import Encoder, Spec
from fedlearn.messages import wire
from fedlearn.testing import draws, rounds
from fedlearn.testing.draws import DEFAULT_SPEC, generator, words
from fedlearn.testing.pytrees import (
    all_finite,
    host,
    l2_norm,
    layout,
    require_close,
    require_same,
    require_same_layout,
)
from fedlearn.testing.rule import Broken, Rule, check_rules
from fedlearn.testing.twin import twin

_ONE_ELEMENT = [keras.KerasTensor((1,), "float32")]
_HALF_PRECISION = [
    keras.KerasTensor((6,), "float16"),
    keras.KerasTensor((1, 3), "float32"),
]
_NUM_CLIENTS = 3


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

    Example: an encoder that forgets its argument.

    >>> class Scaled(Encoder):
    ...     def __init__(self, scale=1.0):
    ...         self.scale = scale
    ...     def encode(self, value, params, seed):
    ...         return [v * self.scale for v in value], ()
    ...     def decode(self, value, params):
    ...         return [v / self.scale for v in value]
    >>> check_encoder(Scaled(2.0))
    Traceback (most recent call last):
        ...
    AssertionError: Scaled breaks the rule 'config'. What is encoded with
    from_config(get_config()): number 0 of 15 is ... Return every argument of
    the constructor from `get_config`, under its name.
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
    trial = _Trial(encoder, spec, random, tolerance)
    check_rules(encoder, ENCODER_RULES, skip, trial)


class _Trial:
    """An encoder, and one client's part of a round as a function of arrays."""

    def __init__(
        self,
        encoder: Encoder,
        spec: Spec,
        random: bool | None,
        tolerance: float,
    ):
        self.encoder = encoder
        self.spec = spec
        self.random = random
        self.tolerance = tolerance
        self._compiled = backend.jit(self.trip)

    def on(self, spec: Spec) -> "_Trial":
        """The same encoder on another value."""
        return _Trial(self.encoder, spec, self.random, self.tolerance)

    @functools.cached_property
    def state(self) -> Any:
        return self.encoder.init(self.spec)

    def value(self, client: int = 0, scale: float = 1.0) -> Any:
        """A client's normal numbers, on the host."""
        return draws.value(self.spec, client, scale)

    def arguments(self, value: Any = None, client: int = 0) -> tuple:
        """Those of `trip`, for one client in the first round."""
        value = self.value(client) if value is None else value
        return (
            self.state,
            self.encoder.draw(self.state, generator()),
            self.encoder.init_client(self.spec),
            [ops.convert_to_tensor(v) for v in value],
            ops.convert_to_tensor(words("round")),
            ops.convert_to_tensor(words("client", client)),
        )

    def trip(
        self, state, noise, client_state, value, round_seed, client_seed
    ) -> dict[str, Any]:
        """From a client to the server and back, as if it were alone."""
        encoder = self.encoder
        params = encoder.params(state, round_seed)
        if encoder.uses_bound:
            params = encoder.with_bound(params, _one())
        kept = client_state
        if encoder.stateful:
            encoded, stats, kept = encoder.encode_stateful(
                value, params, client_seed, client_state
            )
        else:
            encoded, stats = encoder.encode(value, params, client_seed)
        return {
            "params": params,
            "encoded": encoded,
            "stats": stats,
            "kept": kept,
            "decoded": self.decode(encoded, params, noise),
        }

    def decode(self, encoded: Any, params: Any, noise: Any) -> Any:
        if self.encoder.decodes == "summand":
            return self.encoder.decode(encoded, params)
        params = self.encoder.with_sensitivity(params, _one())
        return self.encoder.decode_sum(encoded, params, noise)

    def run(self, value: Any = None, client: int = 0) -> dict[str, Any]:
        """`trip`, compiled; on the host."""
        return host(self._compiled(*self.arguments(value, client)))

    def run_eagerly(self, value: Any = None) -> dict[str, Any]:
        return host(self.trip(*self.arguments(value)))

    @functools.cached_property
    def eager(self) -> dict[str, Any]:
        return self.run_eagerly()

    def mean(self, num_clients: int) -> Mean:
        """An aggregator that the encoder can work in."""
        if not (self.encoder.noises or self.encoder.uses_bound):
            return Mean([self.encoder])
        return Mean(
            [Clip(1.0), self.encoder],
            weighting="uniform",
            denominator=float(num_clients),
        )


def _one() -> Any:
    return ops.convert_to_tensor(np.float32(1))


# The rules.


def _config(trial: _Trial) -> None:
    other = twin(
        trial.encoder,
        (
            "decodes",
            "bound",
            "noises",
            "uses_bound",
            "stateful",
            "variable_length",
        ),
    )
    other = _Trial(other, trial.spec, trial.random, trial.tolerance)
    for part in ("encoded", "decoded"):
        require_same(
            other.eager[part],
            trial.eager[part],
            f"What is {part} with from_config(get_config())",
        )


def _shapes(trial: _Trial) -> None:
    _require_shapes(trial)
    _require_shapes(trial.on(_ONE_ELEMENT))


def _dtypes(trial: _Trial) -> None:
    _require_shapes(trial.on(_HALF_PRECISION))


def _require_shapes(trial: _Trial) -> None:
    require_same_layout(trial.eager["decoded"], trial.spec, "What is decoded")
    require_same_layout(
        trial.eager["encoded"],
        trial.encoder.encoded_spec(trial.spec),
        "What is encoded, against `encoded_spec`",
    )


def _pure(trial: _Trial) -> None:
    arguments = trial.arguments()
    before, config = host(arguments), trial.encoder.get_config()
    trip = trial.trip(*arguments)
    trial.encoder.update(trial.state, trip["stats"], arguments[1])
    require_same(arguments, before, "What was given to it")
    if trial.encoder.get_config() != config:
        raise Broken(
            f"Its config was {config}, and after a round it is "
            f"{trial.encoder.get_config()}."
        )


def _seeds(trial: _Trial) -> None:
    with draws.other_global_seeds():
        again = trial.run_eagerly()
    require_same(again, trial.eager, "A second time, from the same seeds")
    drawn = [trial.encoder.draw(trial.state, generator()) for _ in range(2)]
    require_same(drawn[1], drawn[0], "What is drawn at the server again")
    if trial.random is None:
        return
    *rest, round_seed, client_seed = trial.arguments()
    other = ops.convert_to_tensor(words("other"))
    others = [
        trial.trip(*[*rest, round_seed, other]),
        trial.trip(*[*rest, other, client_seed]),
    ]
    depends = any(not _same_bits(o, trial.eager) for o in others)
    if depends and not trial.random:
        raise Broken("Another seed gives another message.")
    if trial.random and not depends:
        raise Broken("Another seed gives the same message.")


def _same_bits(trip: Any, other: Any) -> bool:
    parts = ("encoded", "decoded")
    try:
        require_same([trip[p] for p in parts], [other[p] for p in parts], "")
    except Broken:
        return False
    return True


def _compiled(trial: _Trial) -> None:
    compiled = trial.run()
    require_same(trial.run(), compiled, "Compiled, a second time")
    require_same_layout(
        compiled["encoded"], trial.eager["encoded"], "Compiled, what is encoded"
    )
    for part in ("stats", "kept", "decoded"):
        require_close(
            compiled[part],
            trial.eager[part],
            trial.tolerance,
            f"Compiled, `{part}`",
        )


def _lanes(trial: _Trial) -> None:
    alone = [trial.run(client=k) for k in range(_NUM_CLIENTS)]
    together = _run_lanes(trial, trial.state)
    for k in range(_NUM_CLIENTS):
        for part in ("stats", "kept", "decoded"):
            lane = keras.tree.map_structure(lambda a, k=k: a[k], together[part])
            require_close(
                lane,
                alone[k][part],
                trial.tolerance,
                f"In lane {k} of {_NUM_CLIENTS} clients, `{part}`",
            )


def _run_lanes(trial: _Trial, state: Any) -> dict[str, Any]:
    """A round's clients at once; leading axes are over clients."""
    lanes = [trial.arguments(client=k)[2:] for k in range(_NUM_CLIENTS)]
    stacked = keras.tree.map_structure(lambda *a: ops.stack(a), *lanes)
    noise = trial.encoder.draw(state, generator())

    def run(state, noise, stacked):
        def one(client_state, value, round_seed, client_seed):
            trip = trial.trip(
                state, noise, client_state, value, round_seed, client_seed
            )
            return {k: trip[k] for k in ("stats", "kept", "decoded")}

        return backend.vmap(one)(*stacked)

    return host(backend.jit(run)(state, noise, stacked))


def _sums(trial: _Trial) -> None:
    """In a mean of clients that count 1, 2 and 3."""
    mean = trial.mean(_NUM_CLIENTS).build(trial.spec)
    state = mean.init()
    params = mean.params(state, words("round"))
    noise = mean.draw(state, generator())
    weights = [float(k + 1) for k in range(_NUM_CLIENTS)]
    trips, total = [], None
    for k, weight in enumerate(weights):
        arguments = trial.arguments(client=k)
        trips.append(host(trial.trip(*arguments)))
        *_, value, _, seed = arguments
        message, _ = mean.encode(value, params, seed, mean.init_memory())
        weight = ops.convert_to_tensor(np.float32(weight))
        summand = mean.summand(message, weight, params)
        total = (
            summand
            if total is None
            else keras.tree.map_structure(lambda a, b: a + b, total, summand)
        )
    found, _, _ = host(mean.finish(state, total, params, noise))
    require_same_layout(found, trial.spec, "What a mean of clients decodes")
    if not all_finite(found):
        raise Broken("A mean of clients with finite updates isn't finite.")
    if trial.encoder.decodes == "sum":
        return
    expected = [
        np.average(np.stack(column).astype(float), 0, weights).astype(s.dtype)
        for column, s in zip(
            zip(*(t["decoded"] for t in trips), strict=True),
            trial.spec,
            strict=True,
        )
    ]
    require_close(
        found,
        expected,
        trial.tolerance,
        "The sum decoded, against the sum of what is decoded one by one",
    )


def _wire(trial: _Trial) -> None:
    encoder, trip = trial.encoder, trial.eager
    message = encoder.to_wire(trip["encoded"]), trip["stats"]
    encoded, _ = wire.from_bytes(wire.to_bytes(message))
    encoded = encoder.from_wire(encoded, trip["encoded"])
    noise = encoder.draw(trial.state, generator())
    encoded, params = keras.tree.map_structure(
        ops.convert_to_tensor, (encoded, trip["params"])
    )
    require_same(
        trial.decode(encoded, params, noise),
        trip["decoded"],
        "What is decoded of a message's bytes",
    )


def _state(trial: _Trial) -> None:
    rounds.require_state(
        lambda: _run_rounds(trial), trial.state, trial.eager["kept"]
    )


def _run_rounds(trial: _Trial) -> list[Any]:
    encoder, state, states = trial.encoder, trial.state, []
    trip = trial.eager
    total = keras.tree.map_structure(lambda a: a + a, trip["stats"])
    total = keras.tree.map_structure(ops.convert_to_tensor, total)
    rng = generator()
    for _ in range(3):
        noise = encoder.draw(state, rng)
        state, metrics = encoder.update(state, total, noise)
        for name, metric in metrics.items():
            if np.shape(host(metric)) != () or not all_finite(metric):
                raise Broken(f"The metric {name!r} is {host(metric)}.")
        states.append(state)
    return states


def _bound(trial: _Trial) -> None:
    encoder = trial.encoder
    if encoder.bound == "loses":
        return
    for scale in (1.0, 1e30, 1e-30, 0.0):
        value = trial.value(scale=scale)
        trip = trial.run(value)
        before = l2_norm(value)
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
        part = "encoded" if encoder.noises else "decoded"
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
    one_element = trial.on(_ONE_ELEMENT)
    for t, run in (trial, trial.run), (one_element, one_element.run_eagerly):
        for scale in (0.0, 1e-30):
            trip = run(t.value(scale=scale))
            if not all_finite((trip["decoded"], trip["stats"], trip["kept"])):
                raise Broken(
                    "What comes of zeros, or of numbers of 1e-30, isn't "
                    f"finite: {trip['decoded']}."
                )
        for bad in (np.nan, np.inf, -np.inf):
            value = t.value()
            value[-1] = np.full_like(value[-1], bad)
            trip = run(value)
            # In integers it can't be seen; the process looks at the update.
            if _has_floats(trip["encoded"]) and all_finite(trip["decoded"]):
                raise Broken(f"A value with {bad} comes back finite.")


def _has_floats(tree: Any) -> bool:
    return any(
        keras.backend.is_float_dtype(str(a.dtype))
        for a in keras.tree.flatten(tree)
    )


def _training(trial: _Trial) -> None:
    rounds.require_training(
        trial.mean(_NUM_CLIENTS), _NUM_CLIENTS, trial.tolerance
    )


ENCODER_RULES = (
    Rule(
        "pure",
        "Make new lists, dicts and arrays, and change neither what you are "
        "given nor the encoder.",
        _pure,
    ),
    Rule(
        "seeds",
        "Draw from the `seed` of `params` and `encode`, or from the `rng` of "
        "`draw`, and from nothing else; say random=True here if you do.",
        _seeds,
    ),
    Rule(
        "config",
        "Return every argument of the constructor from `get_config`, under "
        "its name.",
        _config,
    ),
    Rule(
        "shapes",
        "`decode` must make arrays of the shapes that `encode` got (`params` "
        "can carry them), and `encoded_spec` must say what `encode` makes.",
        _shapes,
    ),
    Rule(
        "dtypes",
        "`decode` must make arrays of the dtypes that `encode` got, also of "
        "float16 (`params` can carry them).",
        _dtypes,
    ),
    Rule(
        "compiled",
        "Use keras.ops, no `if` on the values of arrays, and no NumPy on them.",
        _compiled,
    ),
    Rule(
        "vectorized",
        "Use operations that a map over clients knows, and give axes counted "
        "from within one client's array.",
        _lanes,
    ),
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
    Rule(
        "state",
        "Keep a pytree of arrays of fixed shapes and dtypes in the state, and "
        "nothing in the encoder itself.",
        _state,
    ),
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
    Rule(
        "training",
        "Run one round of fedlearn.FederatedAveraging with it and look at the "
        "state.",
        _training,
    ),
)
