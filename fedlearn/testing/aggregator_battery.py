import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn.aggregators.aggregator import Aggregator
from fedlearn.encoders.encoder import Spec
from fedlearn.messages import wire
from fedlearn.testing import trial as trials
from fedlearn.testing.compare import (
    all_finite,
    host,
    require_close,
    require_same,
    require_same_layout,
)
from fedlearn.testing.rule import Broken, Rule, check_rules
from fedlearn.testing.trial import DEFAULT_SPEC, Trial


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
    check_rules(
        aggregator,
        AGGREGATOR_RULES,
        skip,
        lambda: _Trial(aggregator, spec, num_clients, tolerance),
    )


class _Trial(Trial):
    """An aggregator, and the two halves of a round as functions of arrays."""

    parts = ("kept", "summand")
    attributes = (
        "reduction",
        "num_required",
        "has_memory",
        "varies_in_length",
        "noise",
    )

    def client(self, shared, own) -> dict[str, Any]:
        params = self.built.params(shared["state"], shared["seed"])
        message, kept = self.built.encode(
            own["value"], params, own["seed"], own["memory"]
        )
        summand = self.built.summand(message, own["num_examples"], params)
        return {"message": message, "kept": kept, "summand": summand}

    def server(self, shared, total) -> dict[str, Any]:
        aggregate, state, metrics = self.built.finish(
            shared["state"],
            total,
            self.built.params(shared["state"], shared["seed"]),
            shared["noise"],
        )
        return {"aggregate": aggregate, "state": state, "metrics": metrics}

    def summands(self) -> list[Any]:
        return [client["summand"] for client in self.clients]

    def total(self, summands: Sequence[Any] | None = None) -> Any:
        """The sum, or stack, of all clients' or some others' summands."""
        summands = self.summands() if summands is None else summands
        if self.built.reduction == "stack":
            total = keras.tree.map_structure(lambda *a: np.stack(a), *summands)
        else:
            total = functools.reduce(_add, summands)
        return keras.tree.map_structure(ops.convert_to_tensor, total)

    def serve(self, total: Any) -> dict[str, Any]:
        return host(self.server(self.shared, total))

    def aggregator(self) -> Aggregator:
        return self.subject


def _add(a: Any, b: Any) -> Any:
    return keras.tree.map_structure(lambda x, y: x + y, a, b)


def _halves(summands: Sequence[Any]) -> Any:
    """The sum in a tree."""
    if len(summands) == 1:
        return summands[0]
    middle = len(summands) // 2
    return _add(_halves(summands[:middle]), _halves(summands[middle:]))


def _shapes(trial: _Trial) -> None:
    aggregate = trial.served["aggregate"]
    require_same_layout(aggregate, trial.spec, "The aggregate")
    if not all_finite(aggregate):
        raise Broken("The aggregate of finite updates isn't finite.")
    trials.check_metrics(trial.served["metrics"])


def _order(trial: _Trial) -> None:
    others = trial.summands()[::-1]
    others = others[1::2] + others[::2]
    if trial.built.reduction == "sum":
        others = [_halves(others)]
    for name, found in trial.serve(trial.total(others)).items():
        require_close(
            found,
            trial.served[name],
            trial.tolerance,
            f"Of the same clients in another order, the {name}",
        )


def _who_counts(trial: _Trial) -> None:
    own = trial.own(trial.num_clients)
    nothing = ops.zeros_like(own["num_examples"])
    empty = host(trial.client(trial.shared, {**own, "num_examples": nothing}))
    empty = empty["summand"]
    left_out = keras.tree.map_structure(np.zeros_like, empty)
    first, *others = trial.summands()
    for name, other in (
        ("without examples", empty),
        ("whose update was left out (its summand is zeros)", left_out),
    ):
        require_close(
            trial.serve(trial.total([first, other, *others]))["aggregate"],
            trial.served["aggregate"],
            trial.tolerance,
            f"The aggregate with another client, {name}",
        )


def _few(trial: _Trial) -> None:
    one = trial.summands()[0]
    for summand, who in (
        (one, "one client"),
        (
            keras.tree.map_structure(np.zeros_like, one),
            "one client that was left out",
        ),
    ):
        try:
            found = trial.serve(trial.total([summand]))["aggregate"]
        except ValueError:
            continue  # it needs more, and says so
        require_same_layout(found, trial.spec, f"The aggregate of {who}")
        if not all_finite(found):
            raise Broken(f"The aggregate of {who} isn't finite.")


def _wire(trial: _Trial) -> None:
    built, first = trial.built, trial.clients[0]
    sent = wire.unpack(wire.pack(built.to_wire(first["message"])))
    message = built.from_wire(sent, first["message"])
    message = keras.tree.map_structure(ops.convert_to_tensor, message)
    params = built.params(trial.shared["state"], trial.shared["seed"])
    require_same(
        built.summand(message, trial.own()["num_examples"], params),
        first["summand"],
        "The summand of a message's bytes",
    )


AGGREGATOR_RULES = (
    trials.PURE,
    trials.SEEDS,
    trials.CONFIG,
    Rule(
        "shapes",
        "`finish` must make finite arrays of the shapes and dtypes of an "
        "update, and metrics that are finite scalars.",
        _shapes,
    ),
    trials.COMPILED,
    trials.VECTORIZED,
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
    trials.STATE,
    trials.TRAINING,
)
