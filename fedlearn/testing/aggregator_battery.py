from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fedlearn import checks
from fedlearn.aggregators.aggregator import Aggregator
from fedlearn.encoders.encoder import Spec
from fedlearn.testing import trial as trials
from fedlearn.testing.compare import (
    Broken,
    all_finite,
    host,
    require_same,
    require_same_layout,
)
from fedlearn.testing.trial import Trial


def check_aggregator(
    aggregator: Aggregator,
    spec: Spec | None = None,
    *,
    num_clients: int = 7,
    skip: Sequence[str] = (),
    tolerance: float = 1e-4,
) -> None:
    """Checks that an aggregator keeps the rules that all others rely on.

    `fedlearn.testing.AGGREGATOR_RULES` has them by name. Arguments and errors
    are those of `check_encoder`, and:

    Args:
        num_clients: In a round; as many as it needs, and 3 or more.

    Raises:
        ValueError: If `num_clients` is below 3.

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
    checks.instance("aggregator", aggregator, Aggregator)
    checks.whole("num_clients", num_clients, 3)
    spec = list(trials.DEFAULT_SPEC if spec is None else spec)
    trial = Trial(aggregator, spec, num_clients, tolerance)
    trials.check_rules(trial, AGGREGATOR_RULES, skip)


def _sum(summands: Sequence[Any]) -> Any:
    return keras.tree.map_structure(lambda *a: trials.sum_of(a), *summands)


def _zeros(summand: Any) -> Any:
    return keras.tree.map_structure(np.zeros_like, summand)


def _shapes(trial: Trial) -> None:
    """`finish` must make finite arrays of the shapes and dtypes of an update,
    and metrics that are finite scalars."""
    aggregate = trial.served["aggregate"]
    require_same_layout(aggregate, trial.spec, "The aggregate")
    if not all_finite(aggregate):
        raise Broken("The aggregate of finite updates isn't finite.")
    trials.check_metrics(trial.served["metrics"])


def _order(trial: Trial) -> None:
    """Make of each message a summand whose sum (or stack) tells nothing of the
    order, in dtypes that can hold it."""
    first, *others = trial.summands()
    others = others[1::2] + others[::2]
    if trial.built.reduction == "sum":  # in a tree
        half = len(others) // 2
        others = [_sum(others[:half]), _sum(others[half:])]
    for name, found in trial.serve(trial.total([*others, first])).items():
        what = f"Of the same clients in another order, the {name}"
        require_same(found, trial.served[name], what, trial.tolerance)


def _who_counts(trial: Trial) -> None:
    """Give the summand a weight that is 0 without examples, and leave out in
    `finish` what has the weight 0."""
    own = trial.own(trial.num_clients)
    nothing = ops.zeros_like(own["num_examples"])
    empty = host(trial.client(trial.shared, {**own, "num_examples": nothing}))
    empty = empty["summand"]
    first, *others = trial.summands()
    for who, other in {
        "without examples": empty,
        "whose update was left out (its summand is zeros)": _zeros(empty),
    }.items():
        require_same(
            trial.serve(trial.total([first, other, *others]))["aggregate"],
            trial.served["aggregate"],
            f"The aggregate with another client, {who}",
            trial.tolerance,
        )


def _few(trial: Trial) -> None:
    """Guard divisions by zero, or raise a ValueError that says how many
    clients are needed."""
    one = trial.summands()[0]
    for who, summand in {
        "one client": one,
        "one client that was left out": _zeros(one),
    }.items():
        try:
            found = trial.serve(trial.total([summand]))["aggregate"]
        except ValueError:
            continue  # it needs more, and says so
        require_same_layout(found, trial.spec, f"The aggregate of {who}")
        if not all_finite(found):
            raise Broken(f"The aggregate of {who} isn't finite.")


AGGREGATOR_RULES = {
    "pure": trials.pure,
    "seeds": trials.seeded,
    "config": trials.config,
    "shapes": _shapes,
    "compiled": trials.compiled,
    "vectorized": trials.vectorized,
    "order": _order,
    "who counts": _who_counts,
    "few clients": _few,
    "wire": trials.sent,
    "state": trials.state,
    "training": trials.training,
}
