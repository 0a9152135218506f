import json

import keras
import pytest

import fedlearn as fl
from fedlearn.clients import ExampleDP
from fedlearn.serialization import Configurable, revived, serialized

A, E = fl.aggregators, fl.encoders


class Half(E.Encoder):
    def __init__(self, parts=2, *, inner=None):
        self.parts = parts
        self.inner = inner


class Forgetful(E.Encoder):
    def __init__(self, parts):
        self.half = parts / 2


THINGS = {
    "TrimmedMean(fraction=0.2, encoders=(Eden(bits=2),))": lambda: (
        A.TrimmedMean(0.2, encoders=["eden:2"])
    ),
    "Mean(encoders=(ErrorFeedback(encoders=(TopK(fraction=0.1),)),))": (
        lambda: A.Mean([E.ErrorFeedback(["topk:0.1"])])
    ),
    "Clip(norm=1.0)": lambda: E.Clip(1.0),
    "LocalTraining(optimizer=Adam(learning_rate=0.01), dp=ExampleDP("
    "clip_norm=1.0, noise_multiplier=2.0), class_weight={0: 2.0})": lambda: (
        fl.LocalTraining(
            keras.optimizers.Adam(0.01),
            dp=ExampleDP(1.0, 2.0),
            class_weight={0: 2.0},
        )
    ),
    "GaussianNoise(stddev=1.0)": lambda: fl.attacks.GaussianNoise(1.0),
    "Auto()": lambda: fl.executors.Auto(),
    "<Poisson of 3 clients: clients_per_round=2, seed=0>": lambda: (
        fl.samplers.Poisson(["a", "b", "c"], 2)
    ),
    "Half(inner=Half(parts=3))": lambda: Half(inner=Half(3)),
}


@pytest.mark.parametrize("text", THINGS)
def test_round_trip_through_json(text):
    thing = THINGS[text]()
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(thing)))
    copy = keras.saving.deserialize_keras_object(config)
    assert repr(copy) == repr(thing) == text
    assert copy == thing
    assert copy is not thing
    assert hash(copy) == hash(thing)
    assert serialized(copy) == serialized(thing)
    assert revived(config) == thing


@pytest.mark.backend_free
def test_equal_by_type_and_config():
    assert E.Eden(2) == E.Eden(2)
    assert E.Eden(2) != E.Eden(1)
    assert Half(1) != Forgetful(1)
    assert Half(inner=E.Eden(2)) != Half(inner=E.Eden(1))
    # Of one name, in two packages.
    assert fl.attacks.GaussianNoise(1.0) != E.GaussianNoise(1.0)


@pytest.mark.backend_free
def test_an_argument_that_is_not_kept():
    with pytest.raises(TypeError, match=r"Write self\.parts = parts in its"):
        Forgetful(3).get_config()
    assert repr(Forgetful(3)) == "Forgetful(...)"


@pytest.mark.backend_free
def test_a_config_stands_for_its_object():
    config = serialized(A.Krum(2))
    assert A.get(config) == A.Krum(2)
    with pytest.raises(TypeError, match="`encoder` must be a fedlearn"):
        E.get(config)


@pytest.mark.backend_free
def test_a_class_defined_again_takes_the_place():
    def define(value):
        class Again(Configurable):
            def __init__(self):
                self.value = value

        return Again

    define(1)
    newest = define(2)
    assert revived(serialized(newest())).value == 2
