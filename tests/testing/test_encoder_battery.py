"""Encoders that break one rule each, and what is said about them."""

import keras
import numpy as np
import pytest
from keras import ops

from fedlearn import backend, testing
from fedlearn.encoders import Encoder


class Same(Encoder):
    """Keeps all rules."""

    bound = "keeps"

    def encode(self, value, params, seed):
        return list(value), ()

    def decode(self, value, params):
        return list(value)


class Forgets(Same):
    def __init__(self, scale=1.0):
        self.scale = scale

    def get_config(self):
        return {}

    def encode(self, value, params, seed):
        return [self.scale * v for v in value], ()


class OtherConfig(Same):
    def __init__(self, scale=1.0):
        self.scale = scale

    def get_config(self):
        return {"scale": self.scale + 1}


class Flattens(Same):
    def decode(self, value, params):
        return [ops.reshape(v, (-1,)) for v in value]


class Widens(Same):
    """Float32, whatever came in."""

    bound = "loses"

    def encode(self, value, params, seed):
        return [ops.cast(v, "float32") for v in value], ()

    def encoded_spec(self):
        return [keras.KerasTensor(s.shape, "float32") for s in self.spec]


class Misannounces(Same):
    def encoded_spec(self):
        return self.spec[:-1]


class ChangesInput(Same):
    def encode(self, value, params, seed):
        value[0] = 2 * value[0]
        return value, ()


class ChangesState(Same):
    def init(self):
        return {"rounds": ops.zeros((), "int32")}

    def update(self, state, stats, noise):
        state["rounds"] = state["rounds"] + 1
        return state, {}


class GlobalSeed(Same):
    def encode(self, value, params, seed):
        noise = [np.random.normal() for _ in value]
        return [v + n for v, n in zip(value, noise, strict=True)], ()


class GlobalNoise(Same):
    def draw(self, state, rng):
        return np.random.normal(size=3)


class Dithers(Same):
    bound = "loses"

    def encode(self, value, params, seed):
        return [v + backend.random_uniform(seed, v.shape) for v in value], ()


class LooksAtValues(Same):
    def encode(self, value, params, seed):
        if float(ops.sum(value[0])) > 0:
            return value, ()
        return [-v for v in value], ()

    def decode(self, value, params):
        return list(value)


class NotLinear(Same):
    def decode(self, value, params):
        return [v + 1 for v in value]


class Overflows(Same):
    """One message fits into a byte, the sum of three doesn't."""

    bound = "loses"

    def encode(self, value, params, seed):
        unit = [ops.tanh(v) for v in value]
        return [ops.cast(100 * u, "int8") for u in unit], ()

    def encoded_spec(self):
        return [keras.KerasTensor(s.shape, "int8") for s in self.spec]

    def decode(self, value, params):
        return [
            ops.cast(v, s.dtype) / 100
            for v, s in zip(value, self.spec, strict=True)
        ]


class NumberedKeys(Same):
    """Keys of a message are text once it has been sent."""

    def encode(self, value, params, seed):
        return dict(enumerate(value)), ()

    def encoded_spec(self):
        return dict(enumerate(self.spec))

    def decode(self, value, params):
        return [value[i] for i in range(len(value))]

    decodes = "summand"


class RemembersItself(Same):
    num_rounds = 0

    def init(self):
        return ops.zeros((), "int32")

    def update(self, state, stats, noise):
        self.num_rounds += 1
        return state + self.num_rounds, {}


class OtherDtype(Same):
    def init(self):
        return ops.zeros((), "int32")

    def update(self, state, stats, noise):
        return ops.cast(state, "float32"), {}


class Doubles(Same):
    """Says that it keeps a bound, and makes everything larger."""

    def decode(self, value, params):
        return [2 * v for v in value]


class SaysNothing(Same):
    bound = "sets"

    def sensitivity(self, bound, params):
        return bound


class TooSure(Same):
    decodes = "summand"

    def sensitivity(self, bound, params):
        return bound / 2


class Divides(Same):
    """By the largest magnitude, which may be 0."""

    bound = "loses"
    decodes = "summand"

    def encode(self, value, params, seed):
        scales = [ops.max(ops.abs(v)) for v in value]
        return [v / s for v, s in zip(value, scales, strict=True)], ()


class HidesNaN(Same):
    bound = "loses"

    def encode(self, value, params, seed):
        return [ops.where(ops.isfinite(v), v, 0.0 * 1) for v in value], ()


class Silent(Same):
    def encode(self, value, params, seed):
        return [0 * v for v in value], ()


def test_one_that_keeps_all_rules():
    testing.check_encoder(Same(), random=False)


BROKEN = [
    (ChangesInput(), "pure", "What was given to it"),
    (ChangesState(), "pure", "What was given to it"),
    (GlobalSeed(), "seeds", "A second time"),
    (GlobalNoise(), "seeds", "Drawn at the server again"),
    (Forgets(2.0), "config", "A round with from_config"),
    (OtherConfig(), "config", "Its config is"),
    (Flattens(), "shapes", "What is decoded"),
    (Widens(), "shapes", r"float16\[6\]"),
    (Misannounces(), "shapes", "encoded_spec"),
    (LooksAtValues(), "compiled", "It raised"),
    (NotLinear(), "sum", "one by one"),
    (Overflows(), "sum", "one by one"),
    (NumberedKeys(), "wire", "It raised ValueError"),
    (RemembersItself(), "pure", "The same round a second time"),
    (OtherDtype(), "state", r"expected \(.int32\[\].,\), found \(.float32"),
    (Doubles(), "bound", "comes back with norm"),
    (SaysNothing(), "bound", "of a bound of inf `sensitivity` makes inf"),
    (TooSure(), "bound", "clipped to the bound again"),
    (Divides(), "odd inputs", "isn't finite"),
    (HidesNaN(), "odd inputs", "A value with nan comes back finite"),
    (Silent(), "training", "no weight of the model has moved"),
]


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("encoder", "rule", "message"),
    BROKEN,
    ids=[type(encoder).__name__ for encoder, _, _ in BROKEN],
)
def test_a_broken_rule_is_named(encoder, rule, message):
    name = type(encoder).__name__
    with pytest.raises(
        AssertionError, match=f"^{name} breaks the rule '{rule}'.*{message}"
    ):
        testing.check_encoder(encoder)


def test_lanes_that_mix_are_found(monkeypatch):
    def first_lane_for_all(fn):
        def run(*args):
            one = fn(*keras.tree.map_structure(lambda a: a[0], args))
            return keras.tree.map_structure(lambda a: ops.stack([a, a, a]), one)

        return run

    monkeypatch.setattr(backend, "vmap", first_lane_for_all)
    with pytest.raises(AssertionError, match=r"'vectorized'\. In lane 1"):
        testing.check_encoder(Same())


@pytest.mark.parametrize(
    ("encoder", "random", "message"),
    [
        (Same(), True, "Another seed gives the same message"),
        (Dithers(), False, "Another seed gives another message"),
    ],
)
def test_whether_seeds_matter_is_checked_if_said(encoder, random, message):
    with pytest.raises(AssertionError, match=f"'seeds'. {message}"):
        testing.check_encoder(encoder, random=random)


@pytest.mark.backend_free
def test_every_rule_is_broken_here():
    rules = {rule for _, rule, _ in BROKEN} | {"vectorized"}
    assert rules == set(testing.ENCODER_RULES)


def test_what_is_skipped_is_not_checked():
    testing.check_encoder(Silent(), skip=["training"])


def test_global_seeds_are_left_as_they_were():
    before = np.random.get_state()[1].copy()
    testing.check_encoder(Same(), skip=["training"])
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.backend_free
def test_arguments_are_checked():
    with pytest.raises(TypeError, match="must be a fedlearn"):
        testing.check_encoder(Same)
    with pytest.raises(TypeError, match="float dtypes"):
        testing.check_encoder(Same(), [keras.KerasTensor((2,), "int32")])
    with pytest.raises(ValueError, match="no rule 'speed' to skip"):
        testing.check_encoder(Same(), skip=["speed"])
