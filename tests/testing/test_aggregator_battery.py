"""Aggregators that break one rule each, and what is said about them."""

import keras
import numpy as np
import pytest
from keras import ops

from fedlearn import backend, testing
from fedlearn.aggregators import Aggregator


class Average(Aggregator):
    """Keeps all rules."""

    def summand(self, message, num_examples, params):
        value = [ops.cast(num_examples, v.dtype) * v for v in message]
        return {"value": value, "weight": num_examples}

    def decode(self, total, params, noise):
        weight = ops.maximum(total["weight"], 1e-30)
        return [v / ops.cast(weight, v.dtype) for v in total["value"]]


class Forgets(Average):
    def __init__(self, scale=1.0):
        self.scale = scale

    def encode(self, update, params, seed):
        return [self.scale * v for v in update]


class OtherAttribute(Average):
    def __init__(self, private_metrics=False):
        self.private_metrics = private_metrics


class Flattens(Average):
    def decode(self, total, params, noise):
        return [ops.reshape(v, (-1,)) for v in super().decode(total, (), ())]


class EndlessMetric(Average):
    def update(self, state, total, noise):
        return state, {"ratio": total["weight"] / 0.0}


class ChangesTotal(Average):
    def decode(self, total, params, noise):
        total["value"] = super().decode(total, params, noise)
        return total["value"]


class GlobalNoise(Average):
    def draw(self, state, rng):
        return np.random.normal(size=3)


class LooksAtValues(Average):
    def decode(self, total, params, noise):
        if float(total["weight"]) == 0:
            return total["value"]
        return super().decode(total, params, noise)


class FirstOfAll(Average):
    reduction = "stack"

    def summand(self, message, num_examples, params):
        return message

    def decode(self, total, params, noise):
        return [v[0] for v in total]


class CountsEverybody(Average):
    def summand(self, message, num_examples, params):
        return super().summand(message, ops.ones_like(num_examples), params)


class CountsRows(Average):
    """Zeros of those that were left out, too."""

    reduction = "stack"

    def summand(self, message, num_examples, params):
        counts = num_examples > 0
        return [ops.where(counts, v, ops.zeros_like(v)) for v in message]

    def decode(self, total, params, noise):
        return [ops.mean(v, axis=0) for v in total]


class DividesByNothing(Average):
    def decode(self, total, params, noise):
        return [v / ops.cast(total["weight"], v.dtype) for v in total["value"]]


class NumberedKeys(Average):
    def encode(self, update, params, seed):
        return dict(enumerate(update))

    def summand(self, message, num_examples, params):
        update = [message[i] for i in range(len(message))]
        return super().summand(update, num_examples, params)


class RemembersItself(Average):
    num_rounds = 0

    def init(self, spec):
        return ops.zeros((), "int32")

    def update(self, state, total, noise):
        self.num_rounds += 1
        return state + self.num_rounds, {}


class OtherDtype(Average):
    def init(self, spec):
        return ops.zeros((), "int32")

    def update(self, state, total, noise):
        return ops.cast(state, "float32"), {}


class Silent(Average):
    def decode(self, total, params, noise):
        return [0 * v for v in total["value"]]


def test_one_that_keeps_all_rules():
    testing.check_aggregator(Average())


BROKEN = [
    (ChangesTotal(), "pure", "What was given to it"),
    (RemembersItself(), "pure", "The same round a second time"),
    (GlobalNoise(), "seeds", "drawn at the server again"),
    (Forgets(2.0), "config", "A round with from_config"),
    (OtherAttribute(True), "config", "`private_metrics` is True"),
    (Flattens(), "shapes", "The aggregate: expected"),
    (EndlessMetric(), "shapes", "The metric 'ratio' is inf"),
    (LooksAtValues(), "compiled", "It raised"),
    (FirstOfAll(), "order", "another order, the aggregate"),
    (CountsEverybody(), "who counts", "another client, without examples"),
    (CountsRows(), "who counts", "another client, without examples"),
    (DividesByNothing(), "few clients", "left out isn't finite"),
    (NumberedKeys(), "wire", "It raised KeyError"),
    (OtherDtype(), "state", r"expected int32\[\], found float32\[\]"),
    (Silent(), "training", "no weight of the model has moved"),
]


@pytest.mark.parametrize(
    ("aggregator", "rule", "message"),
    BROKEN,
    ids=[type(aggregator).__name__ for aggregator, _, _ in BROKEN],
)
def test_a_broken_rule_is_named(aggregator, rule, message):
    name = type(aggregator).__name__
    with pytest.raises(
        AssertionError, match=f"^{name} breaks the rule '{rule}'.*{message}"
    ):
        testing.check_aggregator(aggregator, num_clients=3)


def test_lanes_that_mix_are_found(monkeypatch):
    def first_lane_for_all(fn):
        def run(*args):
            one = fn(*keras.tree.map_structure(lambda a: a[0], args))
            return keras.tree.map_structure(lambda a: ops.stack([a, a, a]), one)

        return run

    monkeypatch.setattr(backend, "vmap", first_lane_for_all)
    with pytest.raises(AssertionError, match=r"'vectorized'\. In lane 1"):
        testing.check_aggregator(Average(), num_clients=3)


def test_every_rule_is_broken_here():
    rules = {rule for _, rule, _ in BROKEN} | {"vectorized"}
    assert rules == {rule.name for rule in testing.AGGREGATOR_RULES}


def test_arguments_are_checked():
    with pytest.raises(TypeError, match="must be an instance"):
        testing.check_aggregator(Average)
    with pytest.raises(ValueError, match="num_clients=2"):
        testing.check_aggregator(Average(), num_clients=2)
    with pytest.raises(ValueError, match="no rule 'speed' to skip"):
        testing.check_aggregator(Average(), skip=["speed"])
