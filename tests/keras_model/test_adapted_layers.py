"""What layers were adapted to goes with a process, and into copies."""

import json

import keras
import numpy as np
import pytest
from keras import layers, ops

import fedlearn as fl
from fedlearn import backend
from tests import zoo

SENTENCES = np.array([["b a"], ["c"], ["a b a"], ["z"]], object)
WORDS = np.array([["a"], ["c"], ["b"], ["z"]], object)
NUMBERS = np.array([[10], [30], [20], [99]])
ON_TENSORFLOW = pytest.mark.skipif(
    backend.name != "tensorflow", reason="lookups compute with TensorFlow"
)


def again(process):
    """The process of a config, with the same weights to begin with."""
    config = json.loads(json.dumps(process.get_config()))
    copy = fl.LearningProcess.from_config(config)
    return copy, copy.read_weights(copy.initialize(), process.model)


def process_of(*stack, shape, dtype="float32"):
    inputs = keras.Input(shape, dtype=dtype)
    x = inputs
    for layer in (*stack, layers.Dense(1)):
        x = layer(x)
    model = zoo.set_weights(keras.Model(inputs, x))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return fl.FederatedAveraging(model, executor="sequential")


def test_a_process_made_again_scales_alike():
    scale = layers.Normalization()
    scale.adapt(np.array([[1.0, 20.0], [5.0, 60.0]], "float32"))
    model = keras.Sequential([keras.Input((2,)), scale, layers.Dense(1)])
    zoo.set_weights(model.layers[-1])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    process = fl.FederatedAveraging(model, executor="sequential")
    copy, state = again(process)
    client = np.full((4, 2), 7, "float32"), np.ones((4, 1), "float32")
    expected, _ = process.next(process.initialize(), [client])
    found, _ = copy.next(state, [client])
    zoo.assert_equal(found.trainable, expected.trainable)
    x = np.full((1, 2), 7, "float32")
    assert copy.get_model(found).predict(x, verbose=0) == pytest.approx(
        process.get_model(expected).predict(x, verbose=0)
    )


@ON_TENSORFLOW
@pytest.mark.parametrize(
    ("layer", "data"),
    [
        (layers.StringLookup(output_mode="multi_hot"), WORDS),
        (layers.StringLookup(output_mode="tf_idf"), WORDS),
        (layers.IntegerLookup(output_mode="one_hot"), NUMBERS),
        (layers.TextVectorization(output_mode="count"), SENTENCES),
    ],
    ids=lambda part: getattr(part, "name", ""),
)
def test_vocabularies_go_with_copies(layer, data):
    layer.adapt(data[:3])
    dtype = "int64" if data is NUMBERS else "string"
    process = process_of(layer, shape=(1,), dtype=dtype)
    inputs = ops.convert_to_tensor(data.tolist(), dtype)
    expected = process.model(inputs)
    assert len(np.unique(expected)) > 2  # it tells words apart
    copy, state = again(process)
    for model in (process.get_model(process.initialize()), copy.model):
        copy.write_weights(state, model)
        np.testing.assert_array_equal(model(inputs), expected)
