import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import fedlearn as fl
from fedlearn.clients import ExampleDP
from fedlearn.messages import wire
from fedlearn.serialization import Configurable, revived, serialized
from tests import zoo

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
    "AttackedExecutor(SignFlip(), 2 malicious, executor=Auto())": lambda: (
        fl.attacks.AttackedExecutor("sign_flip", ["1", "2"])
    ),
    "Privacy(secure_noise=True)": lambda: fl.privacy.Privacy(secure_noise=True),
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
    # Keras calls one adam and the other adam_1.
    assert fl.LocalTraining("adam") == fl.LocalTraining("adam")
    assert fl.LocalTraining("adam") != fl.LocalTraining("adam:0.1")
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


# Processes.


SPEC = tuple(keras.KerasTensor(a.shape[1:], a.dtype) for a in zoo.points(2))


def a_process(model=None, **arguments):
    return fl.FederatedAveraging(
        model or zoo.classifier(keras.optimizers.Adam(0.01)),
        client=fl.LocalTraining("sgd:0.1", batch_size=4, proximal=0.1),
        server_optimizer="fedadam:0.05",
        aggregator=A.Mean(["rotation", "uniform:4"]),
        executor="sequential",
        **arguments,
    )


def test_a_process_that_is_built_knows_its_metrics():
    built, trained = a_process(), a_process()
    assert built.spec is None
    built.build(SPEC)
    state = trained.initialize()
    trained.next(state, zoo.clients())
    assert built.client_metrics == trained.client_metrics
    assert "accuracy" in built.client_metrics
    assert [(s.shape, s.dtype) for s in built.spec] == [
        (s.shape, s.dtype) for s in trained.spec
    ]


def test_what_a_model_cannot_take_is_said_when_it_is_built():
    wrong = (keras.KerasTensor((7,)), SPEC[1])
    with pytest.raises(ValueError, match=r"inputs of `spec`"):
        a_process().build(wrong)


@pytest.mark.parametrize("spec", [None, SPEC])
def test_a_process_comes_back_equal(spec):
    process = a_process(broadcast_encoders="float16")
    if spec:
        process.build(spec)
    for copy in (
        fl.LearningProcess.from_config(
            json.loads(json.dumps(process.get_config()))
        ),
        keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(process)
        ),
    ):
        assert copy == process
        assert type(copy) is fl.FederatedAveraging
        assert (copy.spec is None) == (spec is None)
    assert process != a_process()


def test_an_algorithm_that_is_not_there():
    config = {**a_process().get_config(), "process": "mine>Best"}
    with pytest.raises(ValueError, match="Import the module that defines it"):
        fl.LearningProcess.from_config(config)


REMADE = """
import json, pathlib, sys
import keras, numpy as np
import fedlearn as fl
from fedlearn.messages import wire
from fedlearn.messages.update import Update

folder = pathlib.Path(sys.argv[1])
config = json.loads((folder / "process.json").read_text())
read = lambda name: wire.unpack((folder / name).read_bytes())
write = lambda name, tree: (folder / name).write_bytes(
    wire.pack(keras.tree.map_structure(np.asarray, tree)))

# A coordinator: it reads no client, neither before nor after.
process = fl.LearningProcess.from_config(config)
state = process.load_state(folder / "state")
broadcast = process.broadcast(state)
after, metrics = process.server_update(
    state, broadcast, Update(*read("total")))
process.save_state(after, folder / "after")
(folder / "metrics.json").write_text(json.dumps(metrics))

# A device.
data = np.load(folder / "data.npz")
seed = process.client_seed(state, "a")
update = process.client_update(broadcast, (data["x"], data["y"]), seed)
write("update", tuple(update))
"""


@pytest.mark.backend_free
@pytest.mark.integration
def test_a_process_made_again_in_another_computes_the_same(tmp_path):
    process = a_process()
    process.build(SPEC)
    state = process.initialize(seed=5)
    broadcast = process.broadcast(state)
    x, y = zoo.points(10)
    seed = process.client_seed(state, "a")
    update = process.client_update(broadcast, (x, y), seed)
    arrays = wire.pack(keras.tree.map_structure(np.asarray, tuple(update)))
    (tmp_path / "process.json").write_text(json.dumps(process.get_config()))
    (tmp_path / "total").write_bytes(arrays)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    process.save_state(state, tmp_path / "state")
    subprocess.run([sys.executable, "-c", REMADE, tmp_path], check=True)
    assert (tmp_path / "update").read_bytes() == arrays
    after, metrics = process.server_update(state, broadcast, update)
    found = process.load_state(tmp_path / "after")
    zoo.assert_equal(found.trainable, after.trainable)
    zoo.assert_equal(found.optimizer, after.optimizer)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
