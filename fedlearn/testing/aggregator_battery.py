"""What every aggregator must do, as a battery of rules."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import backend
from fedlearn.aggregators.aggregator import Aggregator
from fedlearn.encoders.encoder import Spec
from fedlearn.messages import wire
from fedlearn.testing import draws, rounds
from fedlearn.testing.draws import DEFAULT_SPEC, generator, words
from fedlearn.testing.pytrees import (
    all_finite,
    host,
    require_close,
    require_same,
    require_same_layout,
)
from fedlearn.testing.rule import Broken, Rule, check_rules
from fedlearn.testing.twin import twin


def check_aggregator(
    aggregator: Aggregator,
    spec: Spec | None = None,
    *,
    num_clients: int = 7,
    skip: Sequence[str] = (),
    tolerance: float = 1e-4,
) -> None:
    """Checks that an aggregator keeps the rules that all others rely on.

    `fedlearn.testing.AGGREGATOR_RULES` lists them. Every rule is checked on
    small updates, on the backend that Keras runs on; only the last one, which
    trains in a process, takes more than a few seconds.

    Args:
        aggregator: With the arguments that you use it with: those at their
            defaults can't be missed in `get_config`.
        spec: Shapes and float dtypes of the updates to try it on; by default
            three variables with 23 numbers.
        num_clients: In a round; as many as it needs, and 3 or more.
        skip: Names of rules that don't concern it.
        tolerance: How much of the largest magnitude of a value rounding may
            change, where a rule is not about bits.

    Raises:
        AssertionError: At the first broken rule; it says what was seen, and
            how to mend it.
        TypeError: If `aggregator` isn't an `Aggregator`.
        ValueError: If `skip` names no rule, or `num_clients` is below 3.

    Example: an aggregator for which the order of clients matters.

    >>> from fedlearn.aggregators import RobustRule
    >>> class First(RobustRule):
    ...     def aggregate(self, value, weight):
    ...         return [v[0] for v in value]
    >>> check_aggregator(First())
    Traceback (most recent call last):
        ...
    AssertionError: First breaks the rule 'order'. Of the same clients in
    another order, the aggregate: number 0 of 15 is ...
    """
    if not isinstance(aggregator, Aggregator):
        raise TypeError(
            "`aggregator` must be an instance of "
            f"fedlearn.aggregators.Aggregator. Received: {aggregator!r}."
        )
    if num_clients < 3:
        raise ValueError(
            "Fewer than 3 clients have no order to speak of. Received: "
            f"num_clients={num_clients}."
        )
    spec = list(DEFAULT_SPEC if spec is None else spec)
    trial = _Trial(aggregator, spec, num_clients, tolerance)
    check_rules(aggregator, AGGREGATOR_RULES, skip, trial)


class _Trial:
    """An aggregator, and the two halves of a round as functions of arrays."""

    def __init__(
        self,
        aggregator: Aggregator,
        spec: Spec,
        num_clients: int,
        tolerance: float,
    ):
        self.aggregator = aggregator.build(spec)
        self.spec = spec
        self.num_clients = num_clients
        self.tolerance = tolerance

    @functools.cached_property
    def state(self) -> Any:
        return self.aggregator.init()

    @functools.cached_property
    def noise(self) -> Any:
        return self.aggregator.draw(self.state, generator())

    def arguments(self, client: int) -> tuple:
        """Those of `client`, in the first round."""
        value = draws.value(self.spec, client)
        return (
            self.state,
            ops.convert_to_tensor(words("round")),
            [ops.convert_to_tensor(v) for v in value],
            ops.convert_to_tensor(words("client", client)),
            self.aggregator.init_memory(),
            ops.convert_to_tensor(np.float32(1 + client)),
        )

    def client(
        self, state, round_seed, value, client_seed, client_state, num_examples
    ) -> dict[str, Any]:
        """A client's part."""
        params = self.aggregator.params(state, round_seed)
        message, kept = self.aggregator.encode(
            value, params, client_seed, client_state
        )
        summand = self.aggregator.summand(message, num_examples, params)
        return {"message": message, "kept": kept, "summand": summand}

    def server(self, state, round_seed, total, noise) -> tuple[Any, Any, Any]:
        """The aggregate, the next state and metrics."""
        params = self.aggregator.params(state, round_seed)
        return self.aggregator.finish(state, total, params, noise)

    def run_eagerly(self, client: int) -> dict[str, Any]:
        return host(self.client(*self.arguments(client)))

    @functools.cached_property
    def clients(self) -> list[dict[str, Any]]:
        """All clients' parts, eagerly."""
        return [self.run_eagerly(k) for k in range(self.num_clients)]

    def summands(self) -> list[Any]:
        return [client["summand"] for client in self.clients]

    def total(self, summands: Sequence[Any]) -> Any:
        """Their sum, or stack, in their order."""
        if self.aggregator.reduction == "stack":
            total = keras.tree.map_structure(lambda *a: np.stack(a), *summands)
        else:
            total = functools.reduce(_add, summands)
        return keras.tree.map_structure(ops.convert_to_tensor, total)

    def aggregate(self, total: Any) -> tuple[Any, Any, Any]:
        """`server`, eagerly; on the host."""
        seed = ops.convert_to_tensor(words("round"))
        return host(self.server(self.state, seed, total, self.noise))

    @functools.cached_property
    def known(self) -> tuple[Any, Any, Any]:
        """What comes of all clients."""
        return self.aggregate(self.total(self.summands()))


def _add(a: Any, b: Any) -> Any:
    return keras.tree.map_structure(lambda x, y: x + y, a, b)


def _halves(summands: Sequence[Any]) -> Any:
    """The sum in a tree."""
    if len(summands) == 1:
        return summands[0]
    middle = len(summands) // 2
    return _add(_halves(summands[:middle]), _halves(summands[middle:]))


# The rules.


def _config(trial: _Trial) -> None:
    other = twin(
        trial.aggregator,
        (
            "reduction",
            "num_required",
            "has_memory",
            "varies_in_length",
            "noise",
            "secure_noise",
            "private_metrics",
            "delta",
        ),
    )
    other = _Trial(other, trial.spec, trial.num_clients, trial.tolerance)
    require_same(
        (other.clients, other.known),
        (trial.clients, trial.known),
        "A round with from_config(get_config())",
    )


def _shapes(trial: _Trial) -> None:
    aggregate, _, metrics = trial.known
    require_same_layout(aggregate, trial.spec, "The aggregate")
    if not all_finite(aggregate):
        raise Broken("The aggregate of finite updates isn't finite.")
    for name, metric in metrics.items():
        if np.shape(metric) != () or not all_finite(metric):
            raise Broken(f"The metric {name!r} is {metric}.")


def _pure(trial: _Trial) -> None:
    arguments = trial.arguments(0)
    total = trial.total(trial.summands())
    before = host((arguments, total, trial.noise))
    config = trial.aggregator.get_config()
    trial.client(*arguments)
    again = trial.aggregate(total)
    require_same(
        (arguments, total, trial.noise), before, "What was given to it"
    )
    if trial.aggregator.get_config() != config:
        raise Broken(
            f"Its config was {config}, and after a round it is "
            f"{trial.aggregator.get_config()}."
        )
    require_same(again, trial.known, "The same round a second time")


def _seeds(trial: _Trial) -> None:
    with draws.other_global_seeds():
        require_same(
            trial.run_eagerly(0),
            trial.clients[0],
            "A client's part a second time, from the same seeds",
        )
        noise = trial.aggregator.draw(trial.state, generator())
        total = trial.total(trial.summands())
        require_same(noise, trial.noise, "What is drawn at the server again")
        require_same(
            trial.aggregate(total),
            trial.known,
            "The server's part a second time, from the same seeds",
        )


def _compiled(trial: _Trial) -> None:
    client = host(backend.jit(trial.client)(*trial.arguments(0)))
    for part in ("kept", "summand"):
        require_close(
            client[part],
            trial.clients[0][part],
            trial.tolerance,
            f"Compiled, `{part}`",
        )
    server = backend.jit(trial.server)(
        trial.state,
        words("round"),
        trial.total(trial.summands()),
        trial.noise,
    )
    for name, found, known in zip(
        ("the aggregate", "the state", "the metrics"),
        host(server),
        trial.known,
        strict=True,
    ):
        require_close(found, known, trial.tolerance, f"Compiled, {name}")


def _lanes(trial: _Trial) -> None:
    lanes = [trial.arguments(k)[2:] for k in range(trial.num_clients)]
    stacked = keras.tree.map_structure(lambda *a: ops.stack(a), *lanes)

    def run(state, round_seed, stacked):
        def one(*arguments):
            client = trial.client(state, round_seed, *arguments)
            return {k: client[k] for k in ("kept", "summand")}

        return backend.vmap(one)(*stacked)

    together = host(backend.jit(run)(trial.state, words("round"), stacked))
    for k, alone in enumerate(trial.clients):
        for part in ("kept", "summand"):
            require_close(
                keras.tree.map_structure(lambda a, k=k: a[k], together[part]),
                alone[part],
                trial.tolerance,
                f"In lane {k} of {trial.num_clients} clients, `{part}`",
            )


def _order(trial: _Trial) -> None:
    summands = trial.summands()
    others = summands[::-1]
    others = others[1::2] + others[::2]
    total = trial.total(others)
    if trial.aggregator.reduction == "sum":
        total = keras.tree.map_structure(ops.convert_to_tensor, _halves(others))
    for name, found, known in zip(
        ("aggregate", "state", "metrics"),
        trial.aggregate(total),
        trial.known,
        strict=True,
    ):
        require_close(
            found,
            known,
            trial.tolerance,
            f"Of the same clients in another order, the {name}",
        )


def _who_counts(trial: _Trial) -> None:
    summands = trial.summands()
    *rest, num_examples = trial.arguments(trial.num_clients)
    empty = host(trial.client(*[*rest, ops.zeros_like(num_examples)]))[
        "summand"
    ]
    left_out = keras.tree.map_structure(np.zeros_like, empty)
    for name, other in (
        ("without examples", empty),
        ("whose update was left out (its summand is zeros)", left_out),
    ):
        found, _, _ = trial.aggregate(
            trial.total([*summands[:1], other, *summands[1:]])
        )
        require_close(
            found,
            trial.known[0],
            trial.tolerance,
            f"The aggregate with another client, {name}",
        )


def _few(trial: _Trial) -> None:
    def aggregate(summand, who):
        try:
            found, _, _ = trial.aggregate(trial.total([summand]))
        except ValueError:
            return  # it needs more, and says so
        require_same_layout(found, trial.spec, f"The aggregate of {who}")
        if not all_finite(found):
            raise Broken(f"The aggregate of {who} isn't finite.")

    summand = trial.summands()[0]
    aggregate(summand, "one client")
    aggregate(
        keras.tree.map_structure(np.zeros_like, summand),
        "one client that was left out",
    )


def _wire(trial: _Trial) -> None:
    aggregator, (first, *_) = trial.aggregator, trial.clients
    sent = wire.from_bytes(wire.to_bytes(aggregator.to_wire(first["message"])))
    message = aggregator.from_wire(sent, first["message"])
    message = keras.tree.map_structure(ops.convert_to_tensor, message)
    state, round_seed, *_, num_examples = trial.arguments(0)
    params = aggregator.params(state, round_seed)
    require_same(
        aggregator.summand(message, num_examples, params),
        first["summand"],
        "The summand of a message's bytes",
    )


def _state(trial: _Trial) -> None:
    rounds.require_state(
        lambda: _run_rounds(trial), trial.state, trial.clients[0]["kept"]
    )


def _run_rounds(trial: _Trial) -> list[Any]:
    total, rng = trial.total(trial.summands()), generator()
    state, states = trial.state, []
    params = trial.aggregator.params(state, words("round"))
    for _ in range(3):
        noise = trial.aggregator.draw(state, rng)
        _, state, _ = trial.aggregator.finish(state, total, params, noise)
        states.append(state)
    return states


def _training(trial: _Trial) -> None:
    rounds.require_training(
        trial.aggregator, trial.num_clients, trial.tolerance
    )


AGGREGATOR_RULES = (
    Rule(
        "pure",
        "Make new lists, dicts and arrays, and change neither what you are "
        "given nor the aggregator.",
        _pure,
    ),
    Rule(
        "seeds",
        "Draw from the `seed` of `params` and `encode`, or from the `rng` of "
        "`draw`, and from nothing else.",
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
        "`finish` must make finite arrays of the shapes and dtypes of an "
        "update, and metrics that are finite scalars.",
        _shapes,
    ),
    Rule(
        "compiled",
        "Use keras.ops, no `if` on the values of arrays, and no NumPy on them.",
        _compiled,
    ),
    Rule(
        "vectorized",
        "In `encode` and `summand`, use operations that a map over clients "
        "knows, and give axes counted from within one client's array.",
        _lanes,
    ),
    Rule(
        "order",
        "Make of each message a summand whose sum (or stack) tells nothing of "
        "the order, in dtypes that can hold it.",
        _order,
    ),
    Rule(
        "who counts",
        "Give the summand a weight that is 0 without examples, and leave out "
        "in `finish` what has the weight 0.",
        _who_counts,
    ),
    Rule(
        "few clients",
        "Guard divisions by zero, or raise a ValueError that says how many "
        "clients are needed.",
        _few,
    ),
    Rule(
        "wire",
        "Encode to nested lists, tuples and dicts of arrays of numbers, with "
        "all that `summand` needs in them or in `params`.",
        _wire,
    ),
    Rule(
        "state",
        "Keep a pytree of arrays of fixed shapes and dtypes in the state, and "
        "nothing in the aggregator itself.",
        _state,
    ),
    Rule(
        "training",
        "Run one round of fedlearn.FederatedAveraging with it and look at the "
        "state.",
        _training,
    ),
)
