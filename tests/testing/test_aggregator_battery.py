"""Aggregators that break one rule each, and what is said about them."""

import keras
import numpy as np
import pytest
from keras import ops

from fedlearn import backend, testing
from fedlearn.aggregators import Aggregator, RobustRule


class Average(Aggregator):
    """Keeps all rules."""

    def aggregate(self, value, weight):
        weight = ops.maximum(weight, 1e-30)
        return [v / ops.cast(weight, v.dtype) for v in value]


class Forgets(Average):
    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def aggregate(self, value, weight):
        return [self.scale * v for v in super().aggregate(value, weight)]

    def get_config(self):
        return {}


class OtherAttribute(Average):
    def __init__(self, num_malicious=0):
        super().__init__()
        self.num_malicious = num_malicious

    @property
    def num_required(self):
        return 1 + self.num_malicious

    def get_config(self):
        return {}


class Flattens(Average):
    def aggregate(self, value, weight):
        return [ops.reshape(v, (-1,)) for v in super().aggregate(value, weight)]


class EndlessMetric(Average):
    def finish(self, state, total, params, noise):
        aggregate, state, _ = super().finish(state, total, params, noise)
        return aggregate, state, {"ratio": total["weight"] / 0.0}


class ChangesTotal(Average):
    def finish(self, state, total, params, noise):
        found = super().finish(state, total, params, noise)
        total["value"] = found[0]
        return found


class GlobalNoise(Average):
    def draw(self, state, rng):
        return np.random.normal(size=3)

    def finish(self, state, total, params, noise):
        return super().finish(state, total, params, ())


class LooksAtValues(Average):
    def aggregate(self, value, weight):
        if float(weight) == 0:
            return value
        return super().aggregate(value, weight)


class FirstOfAll(RobustRule):
    def aggregate(self, value, weight):
        return [v[0] for v in value]


class CountsEverybody(Average):
    def summand(self, message, num_examples, params):
        return super().summand(message, ops.ones_like(num_examples), params)


class CountsRows(RobustRule):
    """Zeros of those that were left out, too."""

    def aggregate(self, value, weight):
        return [ops.mean(v, axis=0) for v in value]


class DividesByNothing(Average):
    def aggregate(self, value, weight):
        return [v / ops.cast(weight, v.dtype) for v in value]


class NumberedKeys(Average):
    def encode(self, update, params, seed, memory):
        return (dict(enumerate(update)), ()), memory

    def summand(self, message, num_examples, params):
        update = [message[0][i] for i in range(len(message[0]))]
        return super().summand((update, ()), num_examples, params)


class OtherDtype(Average):
    def init(self):
        return ops.zeros((), "int32")

    def params(self, state, seed):
        return ()

    def draw(self, state, rng):
        return ()

    def finish(self, state, total, params, noise):
        aggregate, _, _ = super().finish((), total, params, noise)
        return aggregate, ops.cast(state, "float32"), {}


class RemembersItself(OtherDtype):
    num_rounds = 0

    def finish(self, state, total, params, noise):
        self.num_rounds += 1
        aggregate, _, _ = super().finish(state, total, params, noise)
        return aggregate, state + self.num_rounds, {}


class Silent(Average):
    def aggregate(self, value, weight):
        return [0 * v for v in value]


def test_one_that_keeps_all_rules():
    testing.check_aggregator(Average())


BROKEN = [
    (ChangesTotal(), "pure", "What was given to it"),
    (RemembersItself(), "pure", "The same round a second time"),
    (GlobalNoise(), "seeds", "Drawn at the server again"),
    (Forgets(2.0), "config", "A round with from_config"),
    (OtherAttribute(1), "config", "`num_required` is 2"),
    (Flattens(), "shapes", "The aggregate: expected"),
    (EndlessMetric(), "shapes", "The metric 'ratio' is inf"),
    (LooksAtValues(), "compiled", "It raised"),
    (FirstOfAll(), "order", "another order, the aggregate"),
    (CountsEverybody(), "who counts", "another client, without examples"),
    (CountsRows(), "who counts", "another client, without examples"),
    (DividesByNothing(), "few clients", "left out isn't finite"),
    (NumberedKeys(), "wire", "It raised ValueError"),
    (OtherDtype(), "state", r"expected int32\[\], found float32\[\]"),
    (Silent(), "training", "no weight of the model has moved"),
]


@pytest.mark.backend_free
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


@pytest.mark.backend_free
def test_every_rule_is_broken_here():
    rules = {rule for _, rule, _ in BROKEN} | {"vectorized"}
    assert rules == set(testing.AGGREGATOR_RULES)


@pytest.mark.backend_free
def test_arguments_are_checked():
    with pytest.raises(TypeError, match="must be a fedlearn"):
        testing.check_aggregator(Average)
    with pytest.raises(ValueError, match="num_clients"):
        testing.check_aggregator(Average(), num_clients=2)
    with pytest.raises(ValueError, match="no rule 'speed' to skip"):
        testing.check_aggregator(Average(), skip=["speed"])
